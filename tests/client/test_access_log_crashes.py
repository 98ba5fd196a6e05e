"""The access log under threads, other processes, kill -9, full disks and power cuts."""

from __future__ import annotations

import sqlite3
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from tests.client.log_parts import ANNA, Clock, failure, program, reopened, rows_of, start
from tests.power_cut import power_cuts, recorded

from veilface_client import access_log
from veilface_common.budget.entries import Head
from veilface_common.errors import LogError


@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_full_disk_is_an_error_and_forgets_nothing(tmp_path: Path, call: str) -> None:
    """What cannot be written is not said to be, and the log goes on once there is room."""
    full = False
    with recorded(tmp_path, refuse=lambda kind: 13 if full and kind == call else 0):
        log = start(tmp_path)
        log.append("verified", failure())
        head = log.head
        full = True
        with pytest.raises(LogError, match="cannot use"):
            log.append("verified", failure())
        full = False
        assert log.head == head
        assert len(log.failures(subject=ANNA, since=Clock().now - timedelta(hours=1))) == 1
        log.append("verified", failure())
        log.close()
    assert [row[2] for row in rows_of(tmp_path / "log.db")] == [
        "opened", "verified", "verified", "checkpoint",
    ]  # fmt: skip


def test_threads_share_a_log(tmp_path: Path) -> None:
    """Entries of several threads stand one after another, none is lost."""
    log = start(tmp_path)

    def work() -> None:
        for _ in range(10):
            with log.exclusive():
                log.failures(subject=ANNA, since=Clock().now)
                log.append("verified", failure())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert reopened(tmp_path).counts()["verified"] == {"no-match": 40}


APPEND = """
    import sys
    from pathlib import Path
    from tests.client.log_parts import failure, reopened
    log = reopened(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[2])):
        print(log.append("verified", failure()).sequence, flush=True)
    log.close()
"""


def test_two_processes_append_at_once(tmp_path: Path) -> None:
    """Each entry of both stands in one chain, with its checkpoints in time."""
    start(tmp_path).close()
    processes = [program(APPEND, str(tmp_path), "60") for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    told = [process.communicate("go\n")[0].split() for process in processes]
    assert all(len(numbers) == 60 for numbers in told)
    log = reopened(tmp_path)
    log.verify_signatures()
    assert log.counts()["verified"] == {"no-match": 120}


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Whatever `append` returned for is there, however the process ended."""
    start(tmp_path).close()
    for after in (1, 4, 9):
        process = program(APPEND, str(tmp_path), "100000")
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(1 + after)]
        process.kill()
        lines += process.communicate()[0].splitlines()
        told = max(int(line) for line in lines if line.strip().isdigit())
        with reopened(tmp_path) as log:
            assert log.head.sequence >= told


def _survives_power_cuts(folder: Path, into: Path) -> bool:
    with recorded(folder) as disk:
        log = start(folder)
        for number in range(3):
            kind = "forgotten" if number == 1 else "verified"
            disk.promise(log.append(kind, failure()))  # type: ignore[arg-type]
        log.close()
    for cut in power_cuts(disk, into):
        try:
            with reopened(cut.folder) as log:
                for head in cut.promised:
                    assert isinstance(head, Head)
                    log.verify_holds(head)
        except LogError:
            if cut.promised or "log.db" in {path.name for path in cut.folder.iterdir()}:
                return False
    return True


def test_a_power_cut_loses_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a cut at any step the log opens and holds every head; without syncs it does not."""
    (tmp_path / "log").mkdir()
    assert _survives_power_cuts(tmp_path / "log", tmp_path / "disk")
    connected = access_log._connected

    def careless(path: Path) -> sqlite3.Connection:
        connection = connected(path)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    monkeypatch.setattr(access_log, "_connected", careless)
    (tmp_path / "careless").mkdir()
    assert not _survives_power_cuts(tmp_path / "careless", tmp_path / "disk")
