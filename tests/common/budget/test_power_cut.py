"""A power cut at any moment: what the ledger acknowledged is charged, and it opens."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.common.budget.conftest import CONTEXT, KEY, REGISTRATION, clock, event
from tests.power_cut import Cut, Recording, power_cuts, recorded

from veilface_common.budget.entries import Head
from veilface_common.budget.ledger import Ledger, create_ledger
from veilface_common.budget.policy import Policy
from veilface_common.errors import BudgetExceeded, LedgerError

LEDGER = "ledger.db"


@dataclass(frozen=True, kw_only=True)
class Acknowledged:
    """What somebody was told: the newest entry, and how much was charged with it."""

    head: Head
    steps: int


def acknowledged(ledger: Ledger) -> Acknowledged:
    return Acknowledged(head=ledger.head, steps=sum(ledger.steps.values()))


def history(folder: Path) -> Recording:
    """Record a ledger's beginning and a few rounds; small and large entries, and a refusal."""
    with recorded(folder) as disk:
        ledger = create_ledger(folder / LEDGER, KEY, REGISTRATION, Policy(epsilon=50), clock)
        disk.promise(acknowledged(ledger))
        for number in range(5):
            context = CONTEXT | {"round": number, "text": "x" * 3000 * number}
            reservation = ledger.reserve(event(), context)
            disk.promise(acknowledged(ledger))
            with suppress(BudgetExceeded):
                ledger.reserve(event(noise=0.1), CONTEXT)
            disk.promise(acknowledged(ledger))
            ledger.settle(reservation, {"outcome": "sent"})
            disk.promise(acknowledged(ledger))
    return disk


def complaint(cut: Cut) -> str:
    """Return what was lost of what had been promised, "" where nothing was."""
    path = cut.folder / LEDGER
    if not cut.promised and not path.exists():
        return ""  # a crash leaves a whole ledger or none
    try:
        ledger = Ledger(path, KEY)
        if not cut.promised:
            return ""
        newest = cut.promised[-1]  # which holds the hashes of all before it
        assert isinstance(newest, Acknowledged)
        ledger.verify_holds(newest.head)
    except LedgerError as error:
        return str(error)
    steps = sum(ledger.steps.values())
    return "" if steps >= newest.steps else f"under-counted: {steps} steps of {newest.steps}"


@contextmanager
def synchronous(level: str) -> Iterator[None]:
    """Plant a fault: the ledger's connections wait for less of the disk than it asks for."""

    class Hasty(sqlite3.Connection):
        def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
            return super().execute(statement.replace("EXTRA", level), values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Hasty))
        yield


def complaints(folder: Path, disk: Recording) -> Iterator[str]:
    """Yield of each disk that a cut may leave what is wrong with it, "" for nothing."""
    for cut in power_cuts(disk, folder / "after"):
        words = complaint(cut)
        yield words and f"after step {cut.after} with {cut.how} of the rest: {words}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "before").mkdir()
    return tmp_path / "before"


def test_a_power_cut_at_any_step_loses_nothing_acknowledged(folder: Path, tmp_path: Path) -> None:
    """Hundreds of disks: every promised entry is in a chain that verifies, every step counts."""
    tried = list(complaints(tmp_path, history(folder)))
    assert len(tried) > 300
    assert not any(tried), next(filter(None, tried))


@pytest.mark.parametrize("level", ["NORMAL", "FULL"])
def test_the_drill_sees_a_ledger_that_waits_for_less(
    folder: Path, tmp_path: Path, level: str
) -> None:
    """Only EXTRA waits until the end of a transaction, the journal's removal, is on disk."""
    with synchronous(level):
        disk = history(folder)
    assert any(complaints(tmp_path, disk))


def test_a_ledger_that_waits_for_nothing_is_torn_and_says_so(folder: Path, tmp_path: Path) -> None:
    """With OFF disks are torn in every way: what does not open is a LedgerError, nothing else."""
    with synchronous("OFF"):
        disk = history(folder)
    found = list(filter(None, complaints(tmp_path, disk)))
    assert len(found) > 30


@pytest.mark.parametrize("column", ["time", "kind", "body", "previous", "hash", "signature"])
@pytest.mark.parametrize("sequence", [1, 3])
def test_a_row_that_no_ledger_wrote_is_an_error(folder: Path, sequence: int, column: str) -> None:
    """A damaged page can read as a row of other types, which the table would never have taken."""
    ledger = create_ledger(folder / LEDGER, KEY, REGISTRATION, Policy(), clock)
    ledger.reserve(event(), CONTEXT)
    with sqlite3.connect(folder / LEDGER) as connection:
        connection.execute("CREATE TABLE loose AS SELECT * FROM entries")
        connection.execute(f"UPDATE loose SET {column} = NULL WHERE sequence = {sequence}")  # noqa: S608 -- ours
        connection.execute("DROP TABLE entries")
        connection.execute("ALTER TABLE loose RENAME TO entries")
    connection.close()
    with pytest.raises(LedgerError):
        Ledger(folder / LEDGER, KEY)
