"""Processes that we start and that start others: found by a mark, ended with all they started.

A process hands its environment on to those that it starts, whatever session or parent they have by
then. So a variable that we set is the mark by which all of them are found again, even after we
were killed ourselves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Sequence

import psutil

_GRACE_SECONDS = 5.0
_LOOK_SECONDS = 0.02
# PR_SET_PDEATHSIG survives the exec that follows; the parent may be gone before it was set.
_GUARD = (
    "import ctypes,os,sys;"
    "ctypes.CDLL(None).prctl(1,15,0,0,0);"
    "os.getppid()==int(sys.argv[1]) or sys.exit(1);"
    "os.execvp(sys.argv[2],sys.argv[2:])"
)


def guarded(command: Sequence[str]) -> list[str]:
    """Return the command line so that it is ended (SIGTERM) when we are, even by kill -9.

    Linux does that; elsewhere the command is returned as it is. The process that waits for us is
    the thread that starts it: start it from the main thread.
    """
    if not sys.platform.startswith("linux"):
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), *command]


def marked(variable: str, value: str) -> list[psutil.Process]:
    """Return the other processes of ours in whose environment `variable` is `value`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(variable) == value:
                found.append(process)
    return found


def end_marked(variable: str, value: str) -> None:
    """End every process with the mark, by force where it does not go, and wait until it is gone."""
    end(marked(variable, value))


def end(processes: Sequence[psutil.Process], *, grace_seconds: float = _GRACE_SECONDS) -> None:
    """End the processes, by force after some seconds, and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    for process in _outliving(processes, grace_seconds):
        with contextlib.suppress(psutil.Error):
            process.kill()
    _outliving(processes, _GRACE_SECONDS)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _outliving(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return who still runs after so long; a zombie, whose parent does not look, has ended."""
    deadline = time.monotonic() + seconds
    while True:
        alive = [process for process in processes if not _has_ended(process)]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(_LOOK_SECONDS)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
