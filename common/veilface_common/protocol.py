"""What travels between the coordinator and an organisation, and the only string keys.

A message is a JSON header and, where it carries a model or an update, safetensors bytes; both stand
in one Flower ConfigRecord. The courier forwards them unread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

from flwr.app import ConfigRecord, RecordDict

from veilface_common import typed_json
from veilface_common.budget.entries import Head
from veilface_common.config import RunConfig, Scalar, from_flat, to_flat
from veilface_common.errors import ArtifactError, ConfigError, ProtocolError
from veilface_common.score_histograms import BINS, ScoreHistograms

VERSION = 1
DESCRIBE = "query.describe"
TRAIN = "train"
EVALUATE = "evaluate"
MAX_TENSOR_BYTES = 1 << 30
MAX_HEADER_BYTES = 1 << 20
MAX_REFUSAL = 500
MAX_WEIGHT = 1e9  # of a bin: beyond it, nobody's people are in a histogram
_RECORD = "veilface"
LedgerHead = Head  # for the coordinator's code, in which no other head is ever named


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A message as it travels: what the courier sees."""

    header: str
    tensors: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Description:
    """An organisation's answer to `DESCRIBE`: the name under which it takes part."""

    organisation: str


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One round's request: the model, and how the coordinator asks for it to be trained."""

    round: int
    config: RunConfig
    model: bytes


@dataclass(frozen=True, kw_only=True)
class TrainReply:
    """One organisation's answer: trained weights minus received ones; no counts, no losses.

    Or the reason for which its policy refuses; there is no update then.
    """

    organisation: str
    round: int
    update: bytes
    ledger_head: Head | None = None  # of the organisation's account, where it keeps one
    refusal: str = ""


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """What is asked for once, after the last round: figures of the model, noised and charged."""

    round: int  # the last one
    config: RunConfig
    model: bytes


@dataclass(frozen=True, kw_only=True)
class EvaluateReply:
    """One organisation's answer: noised histograms of scores; or why its policy refuses."""

    organisation: str
    round: int
    scores: ScoreHistograms | None
    ledger_head: Head | None = None  # of its account, which was charged
    refusal: str = ""


Request = TypeVar("Request", TrainRequest, EvaluateRequest)


def encode_description(description: Description) -> Envelope:
    """Return the description as it travels."""
    return Envelope(header=_header({"organisation": description.organisation}))


def decode_description(envelope: Envelope) -> Description:
    """Return the description. Raises ProtocolError when it is not one."""
    header = _read(envelope)
    return Description(organisation=_organisation(header))


def encode_request(request: TrainRequest | EvaluateRequest) -> Envelope:
    """Return the request as it travels."""
    header: dict[str, object] = {"round": request.round, "config": to_flat(request.config)}
    return Envelope(header=_header(header), tensors=request.model)


def decode_request(envelope: Envelope, kind: type[Request]) -> Request:
    """Return the request of that kind. Raises ProtocolError when it is not one."""
    header = _read(envelope)
    config = header.get("config")
    if not isinstance(config, dict):
        raise ProtocolError("expected a configuration in the request, got none")
    try:
        parsed = from_flat(RunConfig, config)
    except ConfigError as error:
        raise ProtocolError(f"the request's configuration: {error}") from error
    return kind(round=_round(header), config=parsed, model=envelope.tensors)


def encode_reply(reply: TrainReply) -> Envelope:
    """Return the reply as it travels."""
    return Envelope(header=_header(_answer(reply)), tensors=reply.update)


def encode_evaluation(reply: EvaluateReply) -> Envelope:
    """Return the reply as it travels."""
    scores = {} if reply.scores is None else {"scores": asdict(reply.scores)}
    return Envelope(header=_header({**_answer(reply), **scores}))


def decode_reply(envelope: Envelope) -> TrainReply:
    """Return the reply. Raises ProtocolError when it is not one."""
    header = _read(envelope)
    return TrainReply(
        organisation=_organisation(header),
        round=_round(header),
        update=envelope.tensors,
        ledger_head=_ledger_head(header),
        refusal=str(header.get("refusal", ""))[:MAX_REFUSAL],
    )


def decode_evaluation(envelope: Envelope) -> EvaluateReply:
    """Return the reply. Raises ProtocolError when it is not one."""
    header = _read(envelope)
    return EvaluateReply(
        organisation=_organisation(header),
        round=_round(header),
        scores=_scores(header),
        ledger_head=_ledger_head(header),
        refusal=str(header.get("refusal", ""))[:MAX_REFUSAL],
    )


def to_record(envelope: Envelope) -> RecordDict:
    """Return the message's content as Flower carries it."""
    values: dict[str, Scalar | bytes] = {"header": envelope.header, "tensors": envelope.tensors}
    return RecordDict({_RECORD: ConfigRecord(dict(values))})


def from_record(content: RecordDict) -> Envelope:
    """Return what `to_record` wrote. Raises ProtocolError when it is something else."""
    record = content.get(_RECORD)
    if not isinstance(record, ConfigRecord):
        raise ProtocolError("expected a Veilface message, got another")
    header, tensors = record.get("header"), record.get("tensors")
    if not isinstance(header, str) or not isinstance(tensors, bytes):
        raise ProtocolError("expected a header and tensors in the message")
    if len(tensors) > MAX_TENSOR_BYTES or len(header) > MAX_HEADER_BYTES:
        raise ProtocolError(f"expected at most {MAX_TENSOR_BYTES} bytes, got {len(tensors)}")
    return Envelope(header=header, tensors=tensors)


def _answer(reply: TrainReply | EvaluateReply) -> dict[str, object]:
    header: dict[str, object] = {"organisation": reply.organisation, "round": reply.round}
    if reply.refusal:
        header["refusal"] = reply.refusal
    if reply.ledger_head is not None:
        header["ledger_head"] = asdict(reply.ledger_head)
    return header


def _header(values: Mapping[str, object]) -> str:
    return json.dumps({"version": VERSION, **values}, sort_keys=True)


def _read(envelope: Envelope) -> dict[str, object]:
    try:
        header = json.loads(envelope.header)
    except ValueError as error:
        raise ProtocolError("expected a JSON header in the message") from error
    if not isinstance(header, dict) or header.get("version") != VERSION:
        raise ProtocolError(
            f"expected protocol version {VERSION}, got another",
            hint="every organisation and the coordinator need the same release of Veilface",
        )
    return header


def _organisation(header: Mapping[str, object]) -> str:
    name = header.get("organisation")
    if not isinstance(name, str) or not 0 < len(name) <= 64 or not name.isprintable():
        raise ProtocolError("expected an organisation's name of 1 to 64 characters")
    return name


def _round(header: Mapping[str, object]) -> int:
    number = header.get("round")
    if type(number) is not int or number < 1:
        raise ProtocolError(f"expected a round from 1 on, got {number!r}")
    return number


def _scores(header: Mapping[str, object]) -> ScoreHistograms | None:
    scores = header.get("scores")
    if scores is None:
        return None
    try:
        found = typed_json.from_json(ScoreHistograms, scores, "the histograms")
    except ArtifactError as error:
        raise ProtocolError(str(error)) from None
    for weights in (found.genuine, found.impostor):
        if len(weights) != BINS or not all(abs(weight) <= MAX_WEIGHT for weight in weights):
            raise ProtocolError(f"expected {BINS} finite weights in a histogram, got others")
    return found


def _ledger_head(header: Mapping[str, object]) -> Head | None:
    head = header.get("ledger_head")
    if head is None:
        return None
    try:
        found = typed_json.from_json(Head, head, "a ledger's head")
    except ArtifactError as error:
        raise ProtocolError(str(error)) from None
    if found.sequence < 1 or not re.fullmatch(r"[0-9a-f]{64}", found.hash):
        raise ProtocolError("expected a ledger's head: its entry and that entry's hash")
    return found
