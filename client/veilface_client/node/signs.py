"""What a line of Flower's SuperNode says of the node's state."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Meaning = Literal[
    "online",
    "message",
    "away",
    "back",
    "refused",
    "version",
    "authority",
    "signed-off",
    "broken",
]
_SIGNS: Sequence[tuple[str, Meaning]] = (
    (r"SuperNode ID: (\d+)", "online"),
    (r"Receiving: (\S+) message", "message"),
    (r"Connection attempt failed, retrying", "away"),
    (r"Connection successful after", "back"),
    (r"\[code: 2004\]", "refused"),  # one code for a key that is unknown and one that is in use
    (r"\[code: 1001\]|Exit Code: 606", "version"),
    (r"SSL/TLS handshake error", "authority"),
    (r"SuperNode terminated gracefully", "signed-off"),
    # A thread that died leaves the rest running: without heartbeats the node counts as offline.
    (r"Exception in thread", "broken"),
)


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A meaning, and the detail that came with it."""

    meaning: Meaning
    detail: str = ""


def read_sign(line: str) -> Sign | None:
    """Return what a line means, or nothing."""
    for pattern, meaning in _SIGNS:
        found = re.search(pattern, line)
        if found:
            return Sign(meaning=meaning, detail=found.group(1) if found.groups() else "")
    return None
