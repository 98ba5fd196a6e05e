"""Lock files: one at a time, or one at all. Who dies gives a lock back, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOKS = 20
_LOOK_SECONDS = 0.05


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; another process or thread that wants it waits."""
    descriptor = _opened(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def only_one(path: Path) -> Iterator[int]:
    """Hold the lock at `path`, and give the file's descriptor; nobody waits for it.

    Raises:
        BlockingIOError: another process has it.
    """
    descriptor = _opened(path)
    try:
        for look in range(_LOOKS):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # for a moment, whoever asks `is_held` has it as well
                if look == _LOOKS - 1:
                    raise
                time.sleep(_LOOK_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody has the lock at `path` now; asking makes no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
