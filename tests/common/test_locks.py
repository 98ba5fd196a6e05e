"""Lock files: who has one keeps others out, who looks does not, who dies gives it back."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from veilface_common.locks import held, is_held, only_one

HOLDING = (
    "import sys,time\n"
    "from pathlib import Path\n"
    "from veilface_common.locks import only_one\n"
    "with only_one(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


def test_one_who_was_killed_gives_the_lock_back(tmp_path: Path) -> None:
    """Nobody has to remove a file by hand after a crash."""
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(path)], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert is_held(path)
        with pytest.raises(BlockingIOError), only_one(path):
            pass
        other.kill()
    assert not is_held(path)
    with only_one(path):
        assert is_held(path)


def test_who_only_looks_keeps_nobody_out(tmp_path: Path) -> None:
    """A status that is asked for at the same moment makes no start fail."""
    path = tmp_path / "lock"
    path.touch()
    with path.open() as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)  # as `is_held` has it, though not for so long
        threading.Timer(0.2, fcntl.flock, (looked_at, fcntl.LOCK_UN)).start()
        with only_one(path):
            assert is_held(path)


def test_looking_makes_no_file(tmp_path: Path) -> None:
    """A folder that one may only read can be looked at."""
    assert not is_held(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()


def test_who_wants_it_waits(tmp_path: Path) -> None:
    """Two threads are never inside at once."""
    inside: list[int] = []

    def work() -> None:
        with held(tmp_path / "lock"):
            inside.append(1)
            assert sum(inside) == 1
            time.sleep(0.01)
            inside.append(-1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(inside), sum(inside)) == (16, 0)
    assert inside == [1, -1] * 8
