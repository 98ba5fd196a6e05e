"""Does a keeper listen at a socket? Asked without all that a keeper brings with it."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

_SECONDS = 1.0


def is_answered(path: Path) -> bool:
    """Return whether somebody answers at a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.settimeout(_SECONDS)
        probe.connect(str(path))
        return True
    return False
