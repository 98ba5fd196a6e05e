"""What a process that holds keys asks of its operating system."""

from __future__ import annotations

import ctypes
import sys

_PR_SET_DUMPABLE = 4


def keep_memory_private() -> bool:
    """Let no other process of this user read our memory, and write none to disk when we crash.

    Of root nothing is kept. Return whether the system knows how: Linux does.
    """
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
