"""The ledger's file: SQLite, entries that are only added, on disk before anybody is told so."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veilface_common.budget.entries import Entry, State
from veilface_common.crypto.signing import VerifyKey, parse_verify_key
from veilface_common.errors import KeyFileError, LedgerError

BUSY_SECONDS = 60.0
_COLUMNS = "sequence, time, kind, body, previous, hash, signature"
_TYPES = (int, str, str, str, bytes, bytes, bytes)
TABLES = """
CREATE TABLE entries (
  sequence INTEGER PRIMARY KEY,
  time TEXT NOT NULL,
  kind TEXT NOT NULL,
  body TEXT NOT NULL,
  previous BLOB NOT NULL,
  hash BLOB NOT NULL,
  signature BLOB NOT NULL
) STRICT;
CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries
  BEGIN SELECT RAISE(ABORT, 'entries are only added'); END;
CREATE TRIGGER entries_are_not_removed BEFORE DELETE ON entries
  BEGIN SELECT RAISE(ABORT, 'entries are only added'); END;
PRAGMA user_version = 1;
"""


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file; whatever SQLite says of it becomes a LedgerError.

    A rollback journal, synced to its folder (EXTRA), so that what was committed survives a power
    cut, and the ledger stays one file that can be handed to an auditor.
    """
    try:
        uri = f"{path.resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = EXTRA")
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise LedgerError(
            f"cannot use the ledger {path}: {error}",
            hint="nothing was released on its account; see docs/ledger.md",
        ) from error


def entries_after(connection: sqlite3.Connection, after: int) -> Iterator[Entry]:
    """Yield the entries after a sequence number, as they are stored.

    Raises:
        LedgerError: a row is not even of the table's types, as only damaged pages give them.
    """
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM entries WHERE sequence > ? ORDER BY sequence",  # noqa: S608 -- our own columns
        (after,),
    )
    for number, row in enumerate(rows, start=after + 1):
        if tuple(map(type, row)) != _TYPES:
            raise LedgerError(f"entry {number}: expected an entry, got a damaged row")
        sequence, time, kind, body, previous, digest, signature = row
        yield Entry(
            sequence=sequence,
            time=time,
            kind=kind,
            body=body,
            previous=previous,
            hash=digest,
            signature=signature,
        )


def insert(connection: sqlite3.Connection, entry: Entry) -> None:
    """Add an entry; it is on disk once the transaction is committed."""
    values = (entry.sequence, entry.time, entry.kind, entry.body)
    connection.execute(
        f"INSERT INTO entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 -- our own columns
        (*values, entry.previous, entry.hash, entry.signature),
    )


def first_key(connection: sqlite3.Connection) -> VerifyKey:
    """Return the key that the first entry names, which signs it and is compared by `Ledger`.

    Raises:
        LedgerError: there is no entry, or no key in it.
    """
    for entry in entries_after(connection, after=0):
        try:
            return parse_verify_key(str(entry.content["public_key"]).encode())
        except (KeyFileError, KeyError, ValueError) as error:
            raise LedgerError("entry 1: expected the key of the ledger") from error
    raise LedgerError("expected entries in the ledger, got none")


def caught_up(connection: sqlite3.Connection, state: State) -> State:
    """Verify the entries after `state` and return the state after them.

    Raises:
        LedgerError: one of them breaks a rule, or the newest that was known is gone.
    """
    if state.head.sequence:
        row = connection.execute(
            "SELECT hash FROM entries WHERE sequence = ?", (state.head.sequence,)
        ).fetchone()
        if row is None or bytes(row[0]).hex() != state.head.hash:
            raise LedgerError("the ledger was replaced by another or an older one while open")
    for entry in entries_after(connection, after=state.head.sequence):
        state = state.after(entry)
    return state


def read_entries(path: Path) -> tuple[Entry, ...]:
    """Return all entries as they are stored, unverified: for reports of an opened ledger."""
    with connected(path) as connection:
        return tuple(entries_after(connection, after=0))
