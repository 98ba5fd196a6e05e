"""The coordinator's memory: after every round one file with all that the next round needs.

DIR/checkpoint.safetensors   model/NAME, first_moment/NAME, second_moment/NAME; metadata:
                             {"round": N, "settings": digest of the run's settings}
DIR/rounds.jsonl             one signed record a round: the plan, who took part, who was left out;
                             a round that a crash repeated has a second one: none is removed
DIR/evaluation.jsonl         a signed record of the final model's figures, see `evaluation`
DIR/server.key, server.pub   by which records are signed (Ed25519)
DIR/initial.safetensors      the model that the first round starts from, where it is not drawn
DIR/models/00005.safetensors the model after a round that is kept for learning curves
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from veilface_common import tensors
from veilface_common.budget.entries import canonical
from veilface_common.config import RunConfig, Scalar
from veilface_common.crypto.signing import SigningKey, load_signing_key, save_signing_key
from veilface_common.errors import ArtifactError, ConfigError
from veilface_common.files import write_atomically
from veilface_server.aggregation import ServerState

CHECKPOINT = "checkpoint.safetensors"
RECORDS = "rounds.jsonl"
KEY = "server.key"
INITIAL = "initial.safetensors"
MODELS = "models"
_PARTS = ("model", "first_moment", "second_moment")


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """What happened in a round, for the coordinator, progress bars and reports."""

    round: int
    accepted: tuple[str, ...]
    left_out: Mapping[str, str]  # organisation or node -> reason
    update_norms: Mapping[str, float]
    ledger_heads: Mapping[str, Mapping[str, int | str]]  # organisation -> {"sequence", "hash"}
    plan: Mapping[str, Scalar]  # the privacy that was asked for, as settings
    settings: str  # digest of the run's
    model_sha256: str
    seconds: float
    signature: str = ""  # Ed25519, hex, over all of the above

    def signed(self, key: SigningKey) -> RoundRecord:
        """Return the record with its signature."""
        body = asdict(replace(self, signature=""))
        del body["signature"]
        return replace(self, signature=key.sign("round-record", canonical(body).encode()).hex())


def server_key(folder: Path) -> SigningKey:
    """Return the key in the coordinator's folder; a new one where there is none.

    Raises:
        KeyFileError: it cannot be used.
    """
    path = folder / KEY
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_signing_key(path, SigningKey.from_seed(secrets.token_bytes(32)))
    return load_signing_key(path)


def save_initial(folder: Path, weights: tensors.Tensors) -> None:
    """Write down the model that the first round starts from; `RunConfig.initial` is its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / INITIAL, tensors.to_bytes(weights))


def load_initial(folder: Path, digest: str) -> tensors.Tensors:
    """Return the model that `save_initial` wrote.

    Raises:
        ArtifactError: it is missing, or not the one that the settings name.
    """
    path = folder / INITIAL
    content = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise ArtifactError(
            f"expected the model {digest[:16]} in {path}, got {'another' if content else 'none'}"
        )
    return tensors.from_bytes(content)


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
    records = [*load_all_records(folder), record]
    lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in records)
    write_atomically(folder / RECORDS, lines.encode())
    content = {
        f"{part}/{name}": np.ascontiguousarray(value)
        for part in _PARTS
        for name, value in sorted(getattr(state, part).items())
    }
    metadata = {"round": str(state.round), "settings": config.digest}
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
    if settings != config.digest:
        raise ConfigError(
            f"the checkpoint in {folder} belongs to a run with other settings",
            hint="resume with the settings it was started with, or choose another folder",
        )
    return ServerState(round=round_number, **parts)


def load_records(folder: Path) -> tuple[RoundRecord, ...]:
    """Return the records of all finished rounds, of repeated ones the newest.

    Raises:
        ArtifactError: the file is damaged.
    """
    finished: list[RoundRecord] = []
    for record in load_all_records(folder):
        while finished and finished[-1].round >= record.round:
            finished.pop()
        finished.append(record)
    return tuple(finished)


def load_all_records(folder: Path) -> tuple[RoundRecord, ...]:
    """Return the records in the order in which they were written, repeated rounds included.

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
