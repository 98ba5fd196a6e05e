"""The head between rounds, on the organisation's disk; it never leaves.

    DIR/state/round-00007.safetensors    the head after round 7 and what was seen until then

Round n starts from the newest state before n, and the last two are kept: a round that is asked for
again, because the coordinator crashed before it wrote it down, gives the same update again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from veilface_common.errors import ArtifactError
from veilface_common.files import write_atomically
from veilface_common.tensors import Tensors

FOLDER = "state"
_PATTERN = "round-*.safetensors"


@dataclass(frozen=True, kw_only=True)
class LocalRound:
    """What the organisation saw in a round; for its own eyes."""

    round: int
    loss: float
    images: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LocalState:
    """The head's arrays and the history of all rounds until now."""

    head: Tensors = field(default_factory=dict)
    history: tuple[LocalRound, ...] = ()


def load_before(folder: Path, round_number: int) -> LocalState:
    """Return the newest state before a round; an empty one where there is none.

    Raises:
        ArtifactError: the file is damaged.
    """
    earlier = [path for path in _files(folder) if _round_of(path) < round_number]
    return _load(earlier[-1]) if earlier else LocalState()


def load_newest(folder: Path) -> LocalState:
    """Return the newest state; an empty one where there is none."""
    files = _files(folder)
    return _load(files[-1]) if files else LocalState()


def save_after(folder: Path, round_number: int, state: LocalState) -> None:
    """Write the state after a round and remove what no repeated round can need."""
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    metadata = {"history": json.dumps([asdict(entry) for entry in state.history])}
    head = {name: np.ascontiguousarray(value) for name, value in sorted(state.head.items())}
    write_atomically(place / f"round-{round_number:05d}.safetensors", save(head, metadata=metadata))
    for path in _files(folder)[:-2]:
        path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob(_PATTERN))


def _round_of(path: Path) -> int:
    return int(path.stem.removeprefix("round-"))


def _load(path: Path) -> LocalState:
    try:
        with safe_open(path, framework="numpy") as handle:
            metadata = handle.metadata() or {}
            head = {name: handle.get_tensor(name) for name in sorted(handle.keys())}
        history = tuple(LocalRound(**entry) for entry in json.loads(metadata["history"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"expected the head's state in {path}, got a damaged file",
            hint="remove it; the head then starts anew",
        ) from error
    return LocalState(head=head, history=history)
