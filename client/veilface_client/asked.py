"""How far each run has come here: a request that is not the next, or the newest again, is refused.

DIR/asked.json    {"schema": 1, "runs": {COORDINATOR/RUN: {"round": N, "request": DIGEST,
                   "figures": DIGEST or ""}}}

The newest request of a run may come again, after a crash or a lost reply: it gets the same answer.
An older one, or another for the same round, was replayed, reordered or altered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from veilface_common import typed_json
from veilface_common.crypto.signing import VerifyKey
from veilface_common.errors import ArtifactError, RequestRefused
from veilface_common.files import write_atomically
from veilface_common.protocol import EvaluateRequest, TrainRequest

FILE = "asked.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Newest:
    """What was asked last in a run."""

    round: int = 0
    request: str = ""  # digest of the newest to train
    figures: str = ""  # digest of the one to evaluate


@dataclass(frozen=True, kw_only=True)
class _Asked:
    schema: int = SCHEMA
    runs: Mapping[str, Newest] = field(default_factory=dict)


def verify_next(
    folder: Path, request: TrainRequest | EvaluateRequest, coordinator: VerifyKey
) -> None:
    """Write the request down as the newest of its run; do nothing more if it is in order.

    Raises:
        RequestRefused: it is older than another, or another one for the same round.
        ArtifactError: the file is damaged.
    """
    asked = _load(folder / FILE)
    name = f"{coordinator.fingerprint}/{request.config.digest}"
    before = asked.runs.get(name, Newest())
    newest = _after(before, request)
    if newest == before:
        return
    body = typed_json.to_json(replace(asked, runs={**asked.runs, name: newest}))
    write_atomically(folder / FILE, (json.dumps(body) + "\n").encode())


def _after(before: Newest, request: TrainRequest | EvaluateRequest) -> Newest:
    if request.round < before.round:
        raise RequestRefused(
            f"expected a request after round {before.round} of this run, got one for round "
            f"{request.round}: replayed, or out of order"
        )
    if isinstance(request, EvaluateRequest):
        if before.figures not in ("", request.digest):
            raise RequestRefused("other figures of this run were asked for: a run ends once")
        return replace(before, round=request.round, figures=request.digest)
    if before.figures:
        raise RequestRefused("figures of this run were asked for: it has ended")
    if request.round == before.round and before.request != request.digest:
        raise RequestRefused(
            f"another request for round {request.round} of this run came before: altered, or sent "
            "from another model"
        )
    return replace(before, round=request.round, request=request.digest)


def _load(path: Path) -> _Asked:
    if not path.exists():
        return _Asked()
    try:
        asked = typed_json.from_json(_Asked, json.loads(path.read_bytes()), str(path))
    except ValueError as error:
        raise ArtifactError(f"expected {path} as it was written, got a damaged file") from error
    if asked.schema != SCHEMA:
        raise ArtifactError(f"expected schema {SCHEMA} in {path}, got {asked.schema}")
    return asked
