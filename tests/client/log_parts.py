"""What the tests of the access log, of its limits and of its audit share."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from veilface_client.access_chain import Row, next_entry, row_of
from veilface_client.access_events import Event
from veilface_client.access_log import AccessLog, create_log
from veilface_common.budget.entries import Head
from veilface_common.budget.store import TABLES
from veilface_common.crypto.signing import SigningKey

KEY = SigningKey.from_seed(bytes(range(32)))
OTHER = SigningKey.from_seed(bytes(32))
ANNA, BERT = "a" * 32, "b" * 32  # pseudonyms
ROOT = Path(__file__).parents[2]


@dataclass
class Clock:
    """A clock that a test sets."""

    now: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


def event(outcome: Any = "done", **more: Any) -> Event:
    return Event(actor="door-1", role="operator", outcome=outcome, **more)


def failure(subject: str | None = ANNA) -> Event:
    return event("no-match", subject=subject)


def start(folder: Path, clock: Clock | None = None) -> AccessLog:
    return create_log(folder / "log.db", KEY, "org-1", clock or Clock())


def reopened(folder: Path, clock: Clock | None = None) -> AccessLog:
    return AccessLog.open(folder / "log.db", KEY, clock or Clock())


def rows_of(path: Path) -> list[Row]:
    connection = sqlite3.connect(path)
    found: list[Row] = connection.execute("SELECT * FROM entries ORDER BY sequence").fetchall()
    connection.close()
    return found


def rewrite(path: Path, rows: list[Row]) -> None:
    """Put other rows in the place of a closed log's."""
    path.unlink()
    connection = sqlite3.connect(path)
    connection.executescript(TABLES)
    connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()


def signed_anew(rows: list[Row], key: SigningKey = KEY) -> list[Row]:
    """Return the rows renumbered, chained and signed again: what an insider with a key could do."""
    head, anew = Head(sequence=0, hash=bytes(32).hex()), []
    for _, time, kind, body, *_ in rows:
        entry = next_entry(head, kind, body, time, key)
        head = Head(sequence=entry.sequence, hash=entry.hash.hex())
        anew.append(row_of(entry))
    return anew


def program(text: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program that finds the tests and our packages."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
