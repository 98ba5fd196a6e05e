"""What an organisation saw of its own training; on its disk, for its own eyes.

DIR/history.json    [{"round": 1, "loss": ..., "images": ..., "seconds": ...}]
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from veilface_common.errors import ArtifactError
from veilface_common.files import write_atomically
from veilface_common.typed_json import from_json

FILE = "history.json"


@dataclass(frozen=True, kw_only=True)
class LocalRound:
    """What the organisation saw in a round."""

    round: int
    loss: float
    images: int  # looked at, repeats counted
    seconds: float


def save_round(folder: Path, entry: LocalRound) -> None:
    """Add a round; one that was asked for again takes the place of its first time.

    Raises:
        ArtifactError: the rounds before cannot be read.
    """
    before = [other for other in load_history(folder) if other.round < entry.round]
    lines = json.dumps([asdict(other) for other in (*before, entry)])
    write_atomically(folder / FILE, (lines + "\n").encode())


def load_history(folder: Path) -> tuple[LocalRound, ...]:
    """Return all rounds, the first one first; none where there was none.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return ()
    try:
        entries = json.loads(path.read_bytes())
        return tuple(from_json(LocalRound, entry, str(path)) for entry in entries)
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"expected an organisation's history in {path}, got a damaged file",
            hint="remove it; nothing but the curve of its loss is lost",
        ) from error
