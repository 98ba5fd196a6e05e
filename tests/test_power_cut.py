"""The power-cut drill itself: it passes what waits for the disk, and sees what does not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.power_cut import HOWS, Cut, power_cuts, recorded

from veilface_common.files import write_atomically


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "before").mkdir()
    return tmp_path / "before"


def wal_faults(folder: Path, level: str) -> list[str]:
    """Add and erase in a database with a write-ahead log; return what cuts make of promises."""
    states: list[set[int]] = [set()]  # one statement apart
    with recorded(folder) as disk:
        connection = sqlite3.connect(folder / "some.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {level}")
        connection.execute("CREATE TABLE numbers (number INTEGER)")
        disk.promise(None)
        for number in range(8):
            connection.execute("INSERT INTO numbers VALUES (?)", (number,))
            disk.promise(None)
            connection.execute("DELETE FROM numbers WHERE number < ?", (number,))
            disk.promise(None)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            states += [{number - 1, number} if number else {0}, {number}]
        connection.close()
    cuts = power_cuts(disk, folder.parent / "after")
    return [words for cut in cuts if (words := wal_fault(cut, states))]


def wal_fault(cut: Cut, states: list[set[int]]) -> str:
    """Return what is wrong: the newest promised state, or the next, is expected."""
    try:
        connection = sqlite3.connect(f"file:{cut.folder / 'some.db'}?mode=rw", uri=True)
        try:
            found = {number for (number,) in connection.execute("SELECT number FROM numbers")}
        finally:
            connection.close()
    except sqlite3.Error as error:
        return str(error) if cut.promised else ""
    expected = states[max(0, len(cut.promised) - 1) : len(cut.promised) + 1]
    return "" if found in expected else f"expected one of {expected}, got {found}"


def test_a_write_ahead_log_that_is_synced_keeps_what_it_promised(folder: Path) -> None:
    """WAL with FULL, cut back after each erasure: nobody is lost, nobody comes back."""
    assert not wal_faults(folder, "FULL")


@pytest.mark.parametrize("level", ["NORMAL", "OFF"])
def test_a_write_ahead_log_that_is_not_synced_is_seen(folder: Path, level: str) -> None:
    """WAL with NORMAL forgets the newest transactions, also erasures."""
    faults = wal_faults(folder, level)
    assert any("got" in words for words in faults)


def hasty(path: Path, content: bytes) -> None:
    """Replace a file without waiting for its content or its name."""
    new = path.with_name("new")
    new.write_bytes(content)
    new.replace(path)


def nameless(path: Path, content: bytes) -> None:
    """Wait for the content and not for the name."""
    with path.with_name("new").open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    path.with_name("new").replace(path)


@pytest.mark.parametrize(
    ("write", "is_safe"), [(write_atomically, True), (hasty, False), (nameless, False)]
)
def test_files_that_python_writes(
    folder: Path, write: Callable[[Path, bytes], None], *, is_safe: bool
) -> None:
    """The new content once it is promised, the old or the new until then, never a torn one."""
    contents = [bytes([number]) * 3000 for number in range(4)]
    (folder / "file").write_bytes(contents[0])
    with recorded(folder) as disk:
        for content in contents[1:]:
            write(folder / "file", content)
            disk.promise(content)
    faults = [
        cut
        for cut in power_cuts(disk, folder.parent / "after")
        if (cut.folder / "file").read_bytes()
        not in contents[len(cut.promised) : len(cut.promised) + 2]
    ]
    assert is_safe == (not faults)


def test_a_refused_call_is_an_error_of_sqlite(folder: Path) -> None:
    """What `refuse` answers reaches the code under test as its own library would say it."""
    with recorded(folder, refuse=lambda kind: 13 if kind == "write" else 0):
        connection = sqlite3.connect(folder / "some.db")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            connection.execute("CREATE TABLE names (name TEXT)")
        connection.close()


def test_cuts_differ_and_repeat(folder: Path) -> None:
    """Every way of losing is tried, and the same recording gives the same disks."""
    with recorded(folder) as disk:
        connection = sqlite3.connect(folder / "some.db")
        connection.execute("CREATE TABLE names (name TEXT)")
        with connection:
            connection.executemany("INSERT INTO names VALUES (?)", [("x" * 3000,)] * 5)
        connection.close()

    def images() -> list[tuple[int, str, list[bytes]]]:
        return [
            (cut.after, cut.how, [path.read_bytes() for path in sorted(cut.folder.iterdir())])
            for cut in power_cuts(disk, folder.parent / "after")
        ]

    assert images() == images()
    assert {how for _, how, _ in images()} == set(HOWS)
