"""The vault's file: SQLite's tables, transactions that survive a power cut, erased bytes that go.

WAL with synchronous=FULL: with NORMAL, a power cut may bring an erased person back.
`secure_delete` overwrites what is deleted inside the file; the WAL still holds it until it is
truncated, which SQLite refuses while somebody reads an older state: `truncate_wal` waits, and says
whether it was done.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veilface_common.errors import VaultError

FORMAT = 1
APPLICATION = 0x5645494C  # "VEIL", for `file`
BUSY_SECONDS = 60.0
TRUNCATE_SECONDS = 5.0
WAL_PRAGMAS = ("journal_mode = WAL", "synchronous = FULL")
SAFE_PRAGMAS = (
    "secure_delete = ON",
    "foreign_keys = ON",
    "temp_store = MEMORY",
    "trusted_schema = OFF",  # a file from elsewhere runs nothing
    "cell_size_check = ON",
)
META = """
CREATE TABLE meta (
  name TEXT PRIMARY KEY,   -- organisation, state, state-seal, key, key-id, recovery, recovery-lock
  value BLOB NOT NULL
) STRICT;
"""
KEYS = """
CREATE TABLE key_blocks (
  block INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL,  -- of the key-encryption key that sealed it
  content BLOB NOT NULL,   -- digest of the block's digests and segments
  leaf BLOB NOT NULL,      -- of the Merkle tree
  sealed BLOB NOT NULL     -- 256 people's keys and one for the block's segments
) STRICT;
CREATE TABLE sealed_values (
  name TEXT PRIMARY KEY,
  sealed BLOB NOT NULL     -- under the key-encryption key
) STRICT;
"""
PEOPLE = """
CREATE TABLE people (
  position INTEGER PRIMARY KEY,  -- 256 * block + slot
  person BLOB NOT NULL UNIQUE,   -- 16 random bytes
  mode TEXT NOT NULL,            -- organisation or holder
  record BLOB NOT NULL           -- sealed: name, consent, retention
) STRICT;
CREATE TABLE forms (
  form INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,            -- template or crop
  model TEXT NOT NULL,           -- SHA-256 of the model, hex; empty for a crop
  alignment TEXT NOT NULL,
  shape TEXT NOT NULL,
  dtype TEXT NOT NULL,
  UNIQUE (kind, model, alignment, shape, dtype)
) STRICT;
CREATE TABLE templates (
  template INTEGER PRIMARY KEY AUTOINCREMENT,  -- no number comes twice
  position INTEGER NOT NULL REFERENCES people,
  form INTEGER NOT NULL REFERENCES forms,
  digest BLOB NOT NULL,          -- of `sealed`
  sealed BLOB NOT NULL
) STRICT;
CREATE INDEX templates_of_person ON templates (position);
"""
REST = """
CREATE TABLE block_digests (
  block INTEGER PRIMARY KEY,
  digests BLOB NOT NULL          -- 256, of people's rows
) STRICT;
CREATE TABLE segments (          -- the templates of a full block once more, sealed together
  block INTEGER NOT NULL REFERENCES key_blocks DEFERRABLE INITIALLY DEFERRED,
  form INTEGER NOT NULL REFERENCES forms,
  digest BLOB NOT NULL,          -- of `sealed`
  sealed BLOB NOT NULL,
  PRIMARY KEY (block, form)
) STRICT;
CREATE TABLE outbox (            -- what the access log was not yet seen to hold
  generation INTEGER PRIMARY KEY,
  sealed BLOB NOT NULL
) STRICT;
"""
TABLES = META + KEYS + PEOPLE + REST


def create_file(path: Path, tables: str) -> None:
    """Make a new database for its owner alone; it is empty but for `tables`."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with translated(path):
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.executescript(
                f"{tables} PRAGMA user_version = {FORMAT}; PRAGMA application_id = {APPLICATION};"
            )
        finally:
            connection.close()


def connect(path: Path, tables: str = TABLES, *, wal: bool = True) -> sqlite3.Connection:
    """Open the vault's file, which must be there and of our format.

    Without `wal` it stays one file, for as long as it has no lasting name.

    Raises:
        VaultError: it is missing, damaged, or not a vault of this format.
    """
    if not path.is_file():
        raise VaultError(f"expected a vault at {path}, got none", hint="veilface init makes one")
    with translated(path):
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _verify_format(connection, path, tables)
            for pragma in (*(WAL_PRAGMAS if wal else ()), *SAFE_PRAGMAS):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
    return connection


def _verify_format(connection: sqlite3.Connection, path: Path, tables: str) -> None:
    found = _number(connection, "PRAGMA application_id"), _number(connection, "PRAGMA user_version")
    if found[0] != APPLICATION:
        raise VaultError(f"expected a vault in {path}, got another kind of file")
    if found[1] != FORMAT:
        raise VaultError(
            f"expected a vault of format {FORMAT}, got format {found[1]}",
            hint="open it with the release of Veilface that wrote it",
        )
    if schema_of(connection) != _schema(tables):
        # A trigger or view that somebody planted would run inside our transactions.
        raise VaultError(
            "expected the vault's own tables, got others: the file was altered",
            hint="restore the vault from a backup",
        )


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def schema_of(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    """Return what the file's tables are made of."""
    query = "SELECT type, name, coalesce(sql, '') FROM sqlite_master ORDER BY type, name"
    return connection.execute(query).fetchall()


def _schema(tables: str) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(tables)
        return schema_of(connection)
    finally:
        connection.close()


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold the file alone; what was done inside is on disk when this ends, or undone."""
    with _transaction(connection, "BEGIN IMMEDIATE"):
        yield


@contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """See the file as it is now, whatever others write meanwhile."""
    with _transaction(connection, "BEGIN"):
        yield


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def truncate_wal(connection: sqlite3.Connection) -> bool:
    """Move the WAL into the file and empty it; False if a reader holds it, or the disk is full."""
    connection.execute(f"PRAGMA busy_timeout = {int(TRUNCATE_SECONDS * 1000)}")
    try:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:
        return False  # what is committed stays so; the next try comes with the next change
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    return not busy


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn whatever SQLite or the disk says of the file into a VaultError."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        raise VaultError(f"cannot use the vault {path}: {error}", hint=_hint(name)) from error
    except OSError as error:
        raise VaultError(f"cannot use the vault {path}: {error.strerror}") from error


def _hint(name: str) -> str:
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return "make room on the disk; what was acknowledged is kept"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "another program holds it: end that, then try again"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return "the file and its folder must belong to the user who runs this"
    return "the file is damaged: run veilface vault check, or restore a backup"
