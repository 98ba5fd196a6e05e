"""What a process that holds keys asks of its operating system."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone knows how")
def test_memory_is_not_for_others() -> None:
    """Nothing of the process may be dumped any more; before, it might have been."""
    program = (
        "import ctypes; from veilface_client.process import keep_memory_private;"
        "before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0); keep_memory_private();"
        "print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert told.stdout.split() == [b"1", b"0"]
