"""The coordinator's memory: after every round one file with all that the next round needs.

DIR/checkpoint.safetensors   model/NAME, first_moment/NAME, second_moment/NAME; metadata:
                             {"round": N, "settings": digest of the run's settings}
DIR/rounds.jsonl             one record a round: who took part, who was left out and why
DIR/models/00005.safetensors the model after a round that is kept for learning curves
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from veilface_common import tensors
from veilface_common.config import RunConfig, to_flat
from veilface_common.errors import ArtifactError, ConfigError
from veilface_common.files import write_atomically
from veilface_server.aggregation import ServerState

CHECKPOINT = "checkpoint.safetensors"
RECORDS = "rounds.jsonl"
MODELS = "models"
_PARTS = ("model", "first_moment", "second_moment")


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """What happened in a round, for the coordinator, progress bars and reports."""

    round: int
    accepted: tuple[str, ...]
    left_out: Mapping[str, str]  # organisation or node -> reason
    update_norms: Mapping[str, float]
    model_sha256: str
    seconds: float


def settings_digest(config: RunConfig) -> str:
    """Return the digest that binds a checkpoint to the settings of its run."""
    return hashlib.sha256(json.dumps(to_flat(config), sort_keys=True).encode()).hexdigest()


def save_round(
    folder: Path, state: ServerState, record: RoundRecord, config: RunConfig, *, keep: bool
) -> None:
    """Write the round's record, then its state; a crash in between repeats the round.

    Raises:
        OSError: the disk is full; the checkpoint of the round before is untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if keep:
        kept = folder / MODELS / f"{state.round:05d}.safetensors"
        kept.parent.mkdir(exist_ok=True)
        write_atomically(kept, tensors.to_bytes(state.model))
    records = [entry for entry in load_records(folder) if entry.round < record.round]
    lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in [*records, record])
    write_atomically(folder / RECORDS, lines.encode())
    content = {
        f"{part}/{name}": np.ascontiguousarray(value)
        for part in _PARTS
        for name, value in sorted(getattr(state, part).items())
    }
    metadata = {"round": str(state.round), "settings": settings_digest(config)}
    write_atomically(folder / CHECKPOINT, save(content, metadata=metadata))


def load_state(folder: Path, config: RunConfig) -> ServerState | None:
    """Return the state after the last finished round, or None where no round has ended.

    Raises:
        ArtifactError: the checkpoint is damaged.
        ConfigError: it belongs to a run with other settings.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    parts: dict[str, tensors.Tensors] = {part: {} for part in _PARTS}
    try:
        with safe_open(path, framework="numpy") as handle:
            metadata = handle.metadata() or {}
            for key in sorted(handle.keys()):
                part, _, name = key.partition("/")
                parts[part][name] = handle.get_tensor(key)
        round_number, settings = int(metadata["round"]), metadata["settings"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"expected a checkpoint in {path}, got a damaged file",
            hint="remove it to start the run again from its first round",
        ) from error
    if settings != settings_digest(config):
        raise ConfigError(
            f"the checkpoint in {folder} belongs to a run with other settings",
            hint="resume with the settings it was started with, or choose another folder",
        )
    return ServerState(round=round_number, **parts)


def load_records(folder: Path) -> tuple[RoundRecord, ...]:
    """Return the records of all finished rounds.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = folder / RECORDS
    if not path.exists():
        return ()
    try:
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        return tuple(
            RoundRecord(**(entry | {"accepted": tuple(entry["accepted"])})) for entry in entries
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"expected round records in {path}, got a damaged file") from error
