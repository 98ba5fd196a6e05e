"""The coordinator's memory: after every round one file with all that the next round needs.

DIR/checkpoint.sealed        model/NAME, first_moment/NAME, second_moment/NAME, as safetensors
DIR/rounds.jsonl             one signed record a round: the plan, who took part, who was left out;
                             a round that a crash repeated has a second one: none is removed
DIR/evaluation.jsonl         a signed record of the final model's figures, see `evaluation`
DIR/asked.json               whom the round that is at work names, see `save_asked`
DIR/initial.safetensors      the model that the first round starts from, where it is not drawn
DIR/models/00005.sealed      the model after a round that is kept for learning curves
HOME/server.key, server.pub  by which records are signed (Ed25519)
HOME/storage.key             32 bytes (0600): what is sealed is sealed under keys below this one

HOME is the coordinator's, where DIR is HOME/runs/ID; else it is DIR itself. A sealed file is

    canonical JSON {"key","kind","round","settings"} LF nonce [12] ciphertext tag [16]

AES-256-GCM bound to its first line: which key, a "checkpoint" or a "model", the round, the digest
of the run's settings. The model that a run starts from is one that was released, or is public, and
is named by its digest in all requests: it lies in clear.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from veilface_common import tensors
from veilface_common.budget.entries import canonical
from veilface_common.config import RunConfig, Scalar
from veilface_common.crypto import envelope
from veilface_common.crypto.signing import (
    SigningKey,
    VerifyKey,
    load_signing_key,
    save_signing_key,
)
from veilface_common.errors import (
    ArtifactError,
    ConfigError,
    KeyFileError,
    SignatureError,
    VaultError,
)
from veilface_common.files import write_atomically
from veilface_server.aggregation import ServerState

CHECKPOINT = "checkpoint.sealed"
RECORDS = "rounds.jsonl"
KEY = "server.key"
STORAGE_KEY = "storage.key"
HOME_SETTINGS = "server.json"
RUNS = "runs"
ASKED = "asked.json"
INITIAL = "initial.safetensors"
MODELS = "models"
_PARTS = ("model", "first_moment", "second_moment")
_SEALED = ".sealed"
_UNSEALED = "checkpoint.safetensors"  # as versions before 0.2 wrote it
_Kind = Literal["checkpoint", "model"]


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
        return replace(self, signature=key.sign("round-record", self._message()).hex())

    def verify(self, key: VerifyKey) -> None:
        """Do nothing if this key signed the record.

        Raises:
            SignatureError: another did, or it was altered since.
        """
        try:
            key.verify("round-record", self._message(), bytes.fromhex(self.signature))
        except (SignatureError, ValueError):
            raise SignatureError(
                f"expected a record of round {self.round} that key {key.fingerprint} signed"
            ) from None

    def _message(self) -> bytes:
        body = asdict(replace(self, signature=""))
        del body["signature"]
        return canonical(body).encode()


def coordinator_home(folder: Path) -> Path:
    """Return where the keys of the coordinator lie to whom a run's folder belongs."""
    home = folder.parent.parent
    return home if folder.parent.name == RUNS and (home / HOME_SETTINGS).exists() else folder


def server_key(folder: Path) -> SigningKey:
    """Return the coordinator's signing key; a new one where there is none.

    Raises:
        KeyFileError: it cannot be used.
    """
    path = coordinator_home(folder) / KEY
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_signing_key(path, SigningKey.from_seed(secrets.token_bytes(32)))
    return load_signing_key(path)


def storage_key(folder: Path) -> bytes:
    """Return the key [32] below which the coordinator's files are sealed; new where there is none.

    Raises:
        KeyFileError: it cannot be used.
    """
    path = coordinator_home(folder) / STORAGE_KEY
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, secrets.token_bytes(envelope.KEY_BYTES))
    key = path.read_bytes()
    if len(key) != envelope.KEY_BYTES:
        raise KeyFileError(f"expected {envelope.KEY_BYTES} bytes in {path}, got {len(key)}")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFileError(f"expected {path} to be for its owner alone", hint=f"chmod 600 {path}")
    return key


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


def save_asked(folder: Path, round_number: int, names: Sequence[str]) -> None:
    """Write down whom a round's request names, before it is sent.

    Whoever was asked answers that request alone: one of the same round that names others, since
    somebody was away when a crash had it repeated, would be refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    body = {"participants": list(names), "round": round_number}
    write_atomically(folder / ASKED, (json.dumps(body) + "\n").encode())


def load_asked(folder: Path, round_number: int) -> list[str] | None:
    """Return whom a round's request names, or None where none was sent.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = folder / ASKED
    if not path.exists():
        return None
    try:
        body = json.loads(path.read_bytes())
        return list(map(str, body["participants"])) if body["round"] == round_number else None
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error


def forget_asked(folder: Path) -> None:
    """Let the round name others: nobody has taken its request."""
    (folder / ASKED).unlink(missing_ok=True)


def save_round(
    folder: Path, state: ServerState, record: RoundRecord, config: RunConfig, *, keep: bool
) -> None:
    """Write the round's record, then its state; a crash in between repeats the round.

    Raises:
        OSError: the disk is full; the checkpoint of the round before is untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if keep:
        kept = f"{MODELS}/{state.round:05d}{_SEALED}"
        _write_sealed(folder, kept, "model", tensors.to_bytes(state.model), state.round, config)
    records = [*load_all_records(folder), record]
    lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in records)
    write_atomically(folder / RECORDS, lines.encode())
    content = {
        f"{part}/{name}": np.ascontiguousarray(value)
        for part in _PARTS
        for name, value in sorted(getattr(state, part).items())
    }
    _write_sealed(folder, CHECKPOINT, "checkpoint", save(content), state.round, config)


def load_state(folder: Path, config: RunConfig) -> ServerState | None:
    """Return the state after the last finished round, or None where no round has ended.

    Raises:
        ArtifactError: the checkpoint is damaged, altered, not sealed or an older one.
        KeyFileError: the key that sealed it cannot be used.
        ConfigError: it belongs to a run with other settings.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        if (folder / _UNSEALED).exists():
            raise ArtifactError(
                f"expected a sealed checkpoint in {folder}, got one of an older version in clear",
                hint="end the run with that version; keepers begin no run a second time",
            )
        return None
    round_number, settings, content = _read_sealed(folder, CHECKPOINT, "checkpoint")
    if settings != config.digest:
        raise ConfigError(
            f"the checkpoint in {folder} belongs to a run with other settings",
            hint="resume with the settings it was started with, or choose another folder",
        )
    newest = load_all_records(folder)[-1:]
    if newest and newest[0].round > round_number + 1:  # a crash leaves a record of one round more
        raise ArtifactError(
            f"expected the checkpoint after round {newest[0].round}, got that of {round_number}",
            hint="an older one was put back? Restore the newest; else begin another run",
        )
    parts: dict[str, tensors.Tensors] = {part: {} for part in _PARTS}
    try:
        for key, value in sorted(load(content).items()):
            part, _, name = key.partition("/")
            parts[part][name] = value
    except (SafetensorError, KeyError, ValueError) as error:
        raise _damaged(path) from error
    return ServerState(round=round_number, **parts)


def kept_models(folder: Path) -> Iterator[tuple[int, tensors.Tensors]]:
    """Yield the rounds whose models were kept, and these.

    Raises:
        ArtifactError: one is damaged or altered.
    """
    for path in sorted((folder / MODELS).glob(f"*{_SEALED}")):
        round_number, _, content = _read_sealed(folder, f"{MODELS}/{path.name}", "model")
        yield round_number, tensors.from_bytes(content)


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


def _write_sealed(
    folder: Path, name: str, kind: _Kind, content: bytes, round_number: int, config: RunConfig
) -> None:
    key = envelope.derive(storage_key(folder), kind)
    line = canonical(
        {
            "key": envelope.key_id(key).hex(),
            "kind": kind,
            "round": round_number,
            "settings": config.digest,
        }
    ).encode()
    sealed = envelope.seal(key, content, envelope.associated("coordinator's file", line))
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, line + b"\n" + sealed)


def _read_sealed(folder: Path, name: str, kind: _Kind) -> tuple[int, str, bytes]:
    """Return of which round and settings a file is, and what was sealed in it."""
    path = folder / name
    line, _, sealed = path.read_bytes().partition(b"\n")
    key = envelope.derive(storage_key(folder), kind)
    try:
        told = json.loads(line)
        round_number, settings = int(told["round"]), str(told["settings"])
        if told["key"] != envelope.key_id(key).hex():
            raise ArtifactError(
                f"expected {path} to be sealed under the key of this coordinator, got another's",
                hint=f"put its {STORAGE_KEY} back",
            )
        plain = envelope.unseal(key, sealed, envelope.associated("coordinator's file", line))
    except (ValueError, TypeError, KeyError, VaultError) as error:
        raise _damaged(path) from error
    return round_number, settings, plain


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError(
        f"expected {path} as it was sealed, got a damaged or altered file",
        hint="put its newest copy back; else begin another run: keepers begin none a second time",
    )
