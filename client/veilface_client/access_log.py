"""Who did what to whom, and when: one SQLite file, append-only, hash-chained, signed.

    CREATE TABLE entries (
      sequence INTEGER PRIMARY KEY, time TEXT, kind TEXT, body TEXT,
      previous BLOB, hash BLOB, signature BLOB)

`append` returns when the entry is on disk. Whoever asks a question that must not be answered unless
it is written down does both in one `exclusive` block, which other threads and processes wait for:

    with log.exclusive():
        verify_allowed(log, limits, actor, subject, now)
        answer = ...
        log.append("verified", Event(...))
    # only now may the answer leave

The file alone cannot show that it is the newest: whoever copies an old one back, or cuts entries
off its end, turns time back. `verify_holds` compares with a head that somebody else remembers.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Self

from veilface_client import access_chain as chain
from veilface_client.access_chain import CHECKPOINT_EVERY, Row, State
from veilface_client.access_events import Event, Kind, body_of, is_short_text, verify_kind
from veilface_client.access_recent import COUNTED, Recent
from veilface_common.budget.entries import Entry, Head
from veilface_common.budget.store import BUSY_SECONDS, TABLES, entries_after, insert
from veilface_common.crypto.signing import SigningKey, VerifyKey
from veilface_common.errors import ConfigError, LogError
from veilface_common.files import sync_folder

Clock = Callable[[], datetime]
_KEPT = timedelta(hours=25)  # in memory: a day, and an hour until the next sweep
_SWEEP = timedelta(hours=26)
_PAGE = 1000  # entries that are read at once for somebody who looks through the log


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class AccessLog:
    """An open log: verified up to its newest entry, and again before each that is added.

    One may be shared by threads; other processes open their own.
    """

    def __init__(self, path: Path, key: SigningKey, clock: Clock = utc_now) -> None:
        """Open the log at `path` and verify its chain and the newest signature.

        Raises:
            LogError: there is none, it is damaged or altered, or its key in force is not `key`.
        """
        self._path, self._key, self._clock = path, key, clock
        self._lock = threading.RLock()
        self._connection = _connected(path)
        try:
            self._file = _identity(path)
            with _translated(path):
                self._state, self._recent = self._verified()
        except BaseException:
            self._connection.close()
            raise
        self._before = self._state  # this transaction

    @classmethod
    def open(cls, path: Path, key: SigningKey, clock: Clock = utc_now) -> Self:
        """Return the log at `path`, verified. Raises LogError as the constructor does."""
        return cls(path, key, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def head(self) -> Head:
        """How far the log has come: for others to remember."""
        with self._reading():
            return self._state.head

    def newest_root(self) -> tuple[int, str] | None:
        """Return the newest generation and Merkle root of the vault that were signed, if any."""
        with self._reading():
            return (self._state.generation, self._state.root) if self._state.root else None

    def append(self, kind: Kind, event: Event) -> Head:
        """Write down what happened and return when that is on disk.

        Inside an `exclusive` block it is on disk when that block ends.

        Raises:
            ConfigError: such an entry does not tell of such an event.
            LogError: the log cannot be written, or is not what it was; or the vault's generation
                falls.
        """
        verify_kind(kind, event)
        with self.exclusive():
            self._add(kind, body_of(event))
            if self._state.unsigned == CHECKPOINT_EVERY:
                self._add("checkpoint", "{}")
            return self._state.head

    def rotate_key(self, key: SigningKey, event: Event) -> Head:
        """Let `key` sign from now on; the key until now signs that. On disk when it returns.

        Raises:
            LogError: the log cannot be written, or is not what it was.
        """
        with self.exclusive():
            self._add("key-rotated", chain.rotation(self._state.head, key, event.content()))
        self._key = key
        return self._state.head

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the log alone, caught up with what others added.

        What was appended is on disk when the block ends, also when it ends with an exception: it
        happened all the same.

        Raises:
            LogError: the log cannot be written, or is not what it was.
        """
        with self._lock:
            if self._connection.in_transaction:  # inside another block
                yield
                return
            with self._undone_on_error():
                self._connection.execute("BEGIN IMMEDIATE")
                self._catch_up()
            self._before = self._state
            try:
                yield
            finally:
                if self._connection.in_transaction:  # else an append failed and undid all of it
                    with self._undone_on_error():
                        self._connection.execute("COMMIT")

    def failures(
        self, *, since: datetime, subject: str | None = None, actor: str | None = None
    ) -> list[datetime]:
        """Return when a claimed person (or else an account) was refused by the model, oldest first.

        Counted are the outcomes no-match, unknown and failed, later than `since`, whichever
        process wrote them down. Of the last 24 hours this is found without a look at the file.
        """
        if subject is not None:
            return self._times("failures of", subject, since)
        assert actor is not None, "expected a subject or an actor"
        return self._times("failures by", actor, since)

    def requests(self, *, since: datetime, actor: str) -> list[datetime]:
        """Return when an account asked to verify or identify, later than `since`, oldest first."""
        return self._times("requests by", actor, since)

    def alerts(self, *, since: datetime, limit: str, whom: str) -> list[datetime]:
        """Return when it was alerted that a person or an account crossed a limit."""
        return self._times(f"alert {limit}", whom, since)

    def entries(self, since: int = 0) -> Iterator[Entry]:
        """Yield the verified entries after a sequence number, without holding others up."""
        last = self.head.sequence
        while since < last:
            with self._reading():
                page = list(islice(entries_after(self._connection, since), _PAGE))
            yield from page
            since += len(page)

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Return {kind: {outcome: how many}}; the outcome is '' where a kind has none."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT kind, coalesce(json_extract(body, '$.outcome'), ''), count(*) FROM entries"
                " WHERE sequence <= ? GROUP BY 1, 2",
                (self._state.head.sequence,),
            ).fetchall()
        found: dict[str, dict[str, int]] = {}
        for kind, outcome, count in rows:
            found.setdefault(kind, {})[outcome] = count
        return found

    def verify_holds(self, head: Head) -> None:
        """Do nothing if `head`, which somebody else remembers, is of this log's past.

        Raises:
            LogError: an older file was copied back, its end was cut off, or history written anew.
        """
        with self._reading():
            row = self._connection.execute(
                "SELECT hash FROM entries WHERE sequence = ?", (head.sequence,)
            ).fetchone()
        if row is None or row[0].hex() != head.hash:
            raise LogError(
                f"others hold entry {head.sequence} of this log, which it does not contain",
                hint="an old copy was put back? Restore the newest; see docs/access-log.md",
            )

    def verify_signatures(self) -> None:
        """Do nothing if every signature is the key's; takes a second for some 10,000.

        Raises:
            LogError: one is not. The newest was verified before and covers all entries, so what
                they say is not in doubt, but the file is damaged.
        """
        with self._reading():
            last = self._state.head.sequence
            rows = self._rows("WHERE sequence <= ? ORDER BY sequence", last)
            chain.verify_signatures(self._first_key(), rows)

    def close(self) -> None:
        """Sign what is not signed yet and close the file."""
        with self._lock:
            try:
                with self.exclusive():
                    if self._state.unsigned:
                        self._add("checkpoint", "{}")
            finally:
                self._connection.close()

    def _verified(self) -> tuple[State, Recent]:
        self._connection.execute("BEGIN")  # one view of the file for all that is read here
        try:
            state = State.before_all(self._first_key())
            state = chain.followed(state, self._rows("ORDER BY sequence"))
            recent = self._recent_since(self._clock() - _KEPT)
        finally:
            self._connection.execute("ROLLBACK")
        if state.key.fingerprint != self._key.public.fingerprint:
            raise LogError(
                f"expected the log of key {self._key.public.fingerprint}, "
                f"got one of {state.key.fingerprint}"
            )
        return state, recent

    def _first_key(self) -> VerifyKey:
        return chain.first_key(next(self._rows("ORDER BY sequence LIMIT 1"), None))

    def _recent_since(self, floor: datetime) -> Recent:
        recent = Recent(floor)
        marks = ", ".join("?" * len(COUNTED))
        recent.add(self._rows(f"WHERE kind IN ({marks}) AND time > ?", *COUNTED, _text(floor)))
        return recent

    def _times(self, what: str, whom: str, since: datetime) -> list[datetime]:
        with self._reading():
            if since < self._recent.floor:
                self._recent = self._recent_since(since)
            return self._recent.times(what, whom, since)

    def _rows(self, which: str, *values: object) -> Iterator[Row]:
        return self._connection.execute(
            f"SELECT sequence, time, kind, body, previous, hash, signature FROM entries {which}",  # noqa: S608 -- our own clauses
            values,
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Hold the connection, caught up with what others added."""
        with self._lock, _translated(self._path):
            if not self._connection.in_transaction:
                self._catch_up()
            yield

    def _catch_up(self) -> None:
        """Verify the entries that others added since.

        Raises:
            LogError: one of them breaks a rule, or the newest that was known is gone.
        """
        head = self._state.head
        rows = list(self._rows("WHERE sequence >= ? ORDER BY sequence", head.sequence))
        if _identity(self._path) != self._file or not rows or rows[0][5].hex() != head.hash:
            raise LogError("the access log was replaced by another or an older one while open")
        state = chain.followed(self._state, rows[1:])
        self._recent.add(rows[1:])
        self._state = state

    def _add(self, kind: str, body: str) -> None:
        now = self._clock()
        entry = chain.next_entry(self._state.head, kind, body, _text(now), self._key)
        row = chain.row_of(entry)
        state = chain.followed(self._state, [row])
        with self._undone_on_error():
            insert(self._connection, entry)
        self._state = state
        if now - self._recent.floor > _SWEEP:
            self._recent.raise_floor(now - _KEPT)
        self._recent.add([row])

    @contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        """Give up the transaction if SQLite cannot go on: what was not committed is not so."""
        try:
            with _translated(self._path):
                yield
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            self._state = self._before
            self._recent.forget_after(self._state.head.sequence)
            raise


def create_log(path: Path, key: SigningKey, organisation: str, clock: Clock = utc_now) -> AccessLog:
    """Start the log of an organisation and open it; a crash leaves a whole one or none.

    Raises:
        ConfigError: the organisation's name is too long, or not printable.
        LogError: there is a log already, or it cannot be written.
    """
    if not is_short_text(organisation) or not organisation:
        raise ConfigError("expected an organisation's name of at most 200 printable characters")
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    head = State.before_all(key.public).head
    first = chain.next_entry(head, "opened", chain.opening(organisation, key), _text(clock()), key)
    with _translated(path), closing(_connected(temporary)) as connection:
        connection.executescript(TABLES)
        insert(connection, first)
    try:
        path.hardlink_to(temporary)  # unlike a rename, it never replaces a log
    except FileExistsError:
        raise LogError(f"expected no access log at {path} yet, got one") from None
    finally:
        temporary.unlink()
    sync_folder(path.parent)
    return AccessLog(path, key, clock)


def _connected(path: Path) -> sqlite3.Connection:
    """Open the file: a write-ahead log, synced at every commit, so that no power cut takes one."""
    with _translated(path):
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,  # `AccessLog` has a lock
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn whatever SQLite says of the file into a LogError."""
    try:
        yield
    except sqlite3.Error as error:
        raise LogError(
            f"cannot use the access log {path}: {error}",
            hint="nothing is answered that cannot be written down; see docs/access-log.md",
        ) from error


def _identity(path: Path) -> tuple[int, int]:
    """Return which file stands at `path`: an open one goes on after it was replaced."""
    try:
        status = path.stat()
    except OSError as error:
        raise LogError(f"cannot use the access log {path}: {error.strerror}") from error
    return status.st_dev, status.st_ino


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
