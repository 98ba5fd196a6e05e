"""The newest reply, kept so that a round that is asked for again is not paid for again.

DIR/reply.bin    a line of JSON (digest of the request, ledger head), then the update's safetensors

The coordinator may ask again after a crash, or a stranger may replay a request: both get the bytes
that were released already.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from veilface_common.budget.entries import Head
from veilface_common.errors import ArtifactError
from veilface_common.files import write_atomically
from veilface_common.protocol import TrainReply, TrainRequest, encode_request

FILE = "reply.bin"


def save_reply(folder: Path, request: TrainRequest, reply: TrainReply) -> None:
    """Write the reply to `request`, in the place of the one before it."""
    head = reply.ledger_head
    header = {
        "head": head and [head.sequence, head.hash],
        "organisation": reply.organisation,
        "request": _digest(request),
    }
    write_atomically(folder / FILE, json.dumps(header).encode() + b"\n" + reply.update)


def load_reply(folder: Path, request: TrainRequest) -> TrainReply | None:
    """Return the reply that was given to this very request, or None where it is not the newest.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    line, _, update = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(line)
        if header["request"] != _digest(request):
            return None
        head = header["head"] and Head(sequence=header["head"][0], hash=header["head"][1])
        name = str(header["organisation"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ArtifactError(
            f"expected the newest reply in {path}, got a damaged file",
            hint="remove it; its round is then trained, and charged, again",
        ) from error
    return TrainReply(organisation=name, round=request.round, update=update, ledger_head=head)


def _digest(request: TrainRequest) -> str:
    envelope = encode_request(request)
    digest = hashlib.sha256(envelope.header.encode() + b"\0" + envelope.tensors)
    return digest.hexdigest()
