"""A full disk, at every stage of an entry: a clear error, no charge forgotten, and it goes on."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.common.budget.conftest import CONTEXT, KEY, Start, event
from tests.full_disk import files_of_at_most
from tests.power_cut import recorded
from tests.recording_vfs import Kind

from veilface_common.budget.ledger import Ledger, Reservation
from veilface_common.errors import BudgetExceeded, LedgerError

LARGE = CONTEXT | {"text": "x" * 9000}  # an entry of several pages
FULL, BROKEN = 13, 10  # SQLite's codes for a disk that is full and for one that fails


def reserve(ledger: Ledger, _: Reservation) -> None:
    ledger.reserve(event(), LARGE)


def settle(ledger: Ledger, reservation: Reservation) -> None:
    ledger.settle(reservation, LARGE)


def refuse(ledger: Ledger, _: Reservation) -> None:
    with pytest.raises(BudgetExceeded):
        ledger.reserve(event(noise=0.1), LARGE)


Stage = Callable[[Ledger, Reservation], None]
Full = Callable[[], AbstractContextManager[object]]
Attempt = Callable[[Stage, Full], bool]
STAGES = pytest.mark.parametrize("stage", [reserve, settle, refuse])


@pytest.fixture
def attempt(start: Start, tmp_path: Path) -> Attempt:
    """Return what tries a stage on a fresh copy of a ledger and says whether it failed."""
    ledger = start()
    reservation = ledger.reserve(event(), CONTEXT)
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "ledger.db", tmp_path / "whole.db")

    def attempt(stage: Stage, full: Full) -> bool:
        path = tmp_path / "copy" / "ledger.db"
        (tmp_path / "copy" / "ledger.db-journal").unlink(missing_ok=True)
        shutil.copy(tmp_path / "whole.db", path)
        ledger = Ledger(path, KEY)
        before, error = ledger.head, None
        with full():
            try:
                stage(ledger, reservation)
            except LedgerError as raised:
                error = raised
        now = Ledger(path, KEY)  # verifies the chain
        now.verify_holds(before)
        assert sum(now.steps.values()) >= event().steps
        if error is None:
            assert now.head.sequence == before.sequence + 1
        else:
            assert "cannot use the ledger" in str(error)
            assert error.hint
        ledger.settle(ledger.reserve(event(), CONTEXT), {})  # the room is back, for who waited ...
        Ledger(path, KEY).verify_holds(ledger.head)  # ... and for who comes next
        return error is not None

    return attempt


@STAGES
def test_a_disk_without_room_for_the_file(attempt: Attempt, stage: Stage) -> None:
    """The operating system takes no more than so many bytes: none, some of the journal, ..."""
    failed = [attempt(stage, partial(files_of_at_most, size)) for size in range(0, 34_000, 2_700)]
    assert failed == sorted(failed, reverse=True)
    assert set(failed) == {True, False}


@STAGES
def test_a_database_without_room_for_pages(attempt: Attempt, stage: Stage) -> None:
    """SQLite may add no page: SQLITE_FULL, as it says when the disk is."""

    class Small(sqlite3.Connection):
        def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
            if statement.startswith("BEGIN"):
                super().execute("PRAGMA max_page_count = 1")  # or as many as there are
            return super().execute(statement, values)

    @contextmanager
    def small() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Small))
            yield

    assert attempt(stage, small)


@STAGES
@pytest.mark.parametrize("code", [FULL, BROKEN])
def test_a_disk_that_fails_from_some_call_on(
    attempt: Attempt, tmp_path: Path, stage: Stage, code: int
) -> None:
    """The first call, the second, ...: whichever write, sync or removal is the last that works."""

    def failing_after(count: int) -> Full:
        def answer(_: Kind) -> int:
            nonlocal count
            count -= 1
            return code if count < 0 else 0

        return partial(recorded, tmp_path / "copy", answer)

    for working in range(100):
        if not attempt(stage, failing_after(working)):
            break
    assert 8 < working < 99
