"""The newest replies, kept so that what is asked for again is not paid for again.

DIR/reply.bin         of training: a line of JSON (digest of the request, ledger head), then the
                      update's safetensors
DIR/evaluation.bin    of an evaluation: the same line, then its histograms as JSON

The coordinator may ask again after a crash, or a stranger may replay a request: both get the bytes
that were released already.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from veilface_common.budget.entries import Head
from veilface_common.errors import ArtifactError
from veilface_common.files import write_atomically
from veilface_common.protocol import (
    EvaluateReply,
    EvaluateRequest,
    TrainReply,
    TrainRequest,
)
from veilface_common.score_histograms import ScoreHistograms
from veilface_common.typed_json import from_json

FILE = "reply.bin"
EVALUATION = "evaluation.bin"


def save_reply(folder: Path, request: TrainRequest, reply: TrainReply) -> None:
    """Write the reply to `request`, in the place of the one before it."""
    _save(folder / FILE, request, reply, reply.update)


def load_reply(folder: Path, request: TrainRequest) -> TrainReply | None:
    """Return the reply that was given to this very request, or None where it is not the newest.

    Raises:
        ArtifactError: the file is damaged.
    """
    found = _load(folder / FILE, request)
    if found is None:
        return None
    name, head, update = found
    return TrainReply(organisation=name, round=request.round, update=update, ledger_head=head)


def save_evaluation(folder: Path, request: EvaluateRequest, reply: EvaluateReply) -> None:
    """Write the reply to `request`, in the place of the one before it."""
    assert reply.scores is not None  # a refusal is not kept
    _save(folder / EVALUATION, request, reply, json.dumps(asdict(reply.scores)).encode())


def load_evaluation(folder: Path, request: EvaluateRequest) -> EvaluateReply | None:
    """Return the reply that was given to this very request, or None where it is not the newest.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = folder / EVALUATION
    found = _load(path, request)
    if found is None:
        return None
    name, head, content = found
    try:
        scores = from_json(ScoreHistograms, json.loads(content), str(path))
    except ValueError as error:
        raise _damaged(path) from error
    return EvaluateReply(organisation=name, round=request.round, scores=scores, ledger_head=head)


def _save(
    path: Path,
    request: TrainRequest | EvaluateRequest,
    reply: TrainReply | EvaluateReply,
    content: bytes,
) -> None:
    head = reply.ledger_head
    header = {
        "head": head and [head.sequence, head.hash],
        "organisation": reply.organisation,
        "request": request.digest,
    }
    write_atomically(path, json.dumps(header).encode() + b"\n" + content)


def _load(
    path: Path, request: TrainRequest | EvaluateRequest
) -> tuple[str, Head | None, bytes] | None:
    """Return name, ledger head and content of the reply in a file, if it is to this request."""
    if not path.exists():
        return None
    line, _, content = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(line)
        if header["request"] != request.digest:
            return None
        head = header["head"] and Head(sequence=header["head"][0], hash=header["head"][1])
        return str(header["organisation"]), head, content
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError(
        f"expected the newest reply in {path}, got a damaged file",
        hint="remove it; what it answered is then done, and charged, again",
    )
