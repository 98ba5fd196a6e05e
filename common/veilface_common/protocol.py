"""What the coordinator and an organisation say to one another, and the only string keys.

A request is signed by the coordinator's key and names whom it is for, its run, its round and the
digest of the model that comes with it; a reply is signed by the organisation's key and names the
request that it answers. So nothing that carries a message can alter it, give it to another
organisation, or show it in another round; `wire` is how it travels.

What travels further up is checked in this order: size (`wire`), form, signature, addressee, model,
settings. Whether it is granted is then for the organisation's rules and policy.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Literal

from veilface_common import typed_json
from veilface_common.budget.entries import Head
from veilface_common.config import RunConfig, from_flat, to_flat
from veilface_common.crypto.signing import SigningKey, VerifyKey, parse_verify_key
from veilface_common.errors import (
    ArtifactError,
    ConfigError,
    KeyFileError,
    ProtocolError,
    SignatureError,
)
from veilface_common.score_histograms import BINS, ScoreHistograms
from veilface_common.wire import Envelope

VERSION = 2
MAX_REFUSAL = 500
MAX_WEIGHT = 1e9  # of a bin: beyond it, nobody's people are in a histogram
MAX_PARTICIPANTS = 10_000
Kind = Literal["describe", "train", "evaluate"]
LedgerHead = Head  # for the coordinator's code, in which no other head is ever named


@dataclass(frozen=True, kw_only=True)
class Description:
    """An organisation's answer to a first request: its name, and the key that signs its replies."""

    organisation: str
    key: VerifyKey
    software: str  # its release of Veilface


@dataclass(frozen=True, kw_only=True)
class DescribeRequest:
    """What is asked first: who are you?"""

    kind: Kind = "describe"

    @property
    def digest(self) -> str:
        """What a reply names: every such request is the same."""
        return _digest(self.kind)


@dataclass(frozen=True, kw_only=True)
class _WithModel:
    """What both requests that bring a model have in common."""

    round: int
    config: RunConfig
    model: bytes
    participants: tuple[str, ...] = ()  # the organisations that are asked
    kind: Kind

    @property
    def digest(self) -> str:
        """What the request is, hex; the same for one that is repeated after a crash."""
        return _digest(self.kind, self.config.digest, self.round, self.parent)

    @property
    def parent(self) -> str:
        """The digest of the model that comes with it, hex."""
        return hashlib.sha256(self.model).hexdigest()


@dataclass(frozen=True, kw_only=True)
class TrainRequest(_WithModel):
    """One round's request: the model, and how the coordinator asks for it to be trained."""

    kind: Kind = "train"


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
    by_rules: bool = False  # refused by rules that may allow it later; a spent budget never does


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(_WithModel):
    """What is asked for once, after the last round: figures of the model, noised and charged."""

    kind: Kind = "evaluate"


@dataclass(frozen=True, kw_only=True)
class EvaluateReply:
    """One organisation's answer: noised histograms of scores; or why its policy refuses."""

    organisation: str
    round: int
    scores: ScoreHistograms | None
    ledger_head: Head | None = None  # of its account, which was charged
    refusal: str = ""
    by_rules: bool = False  # as of a `TrainReply`


Request = TrainRequest | EvaluateRequest
Reply = TrainReply | EvaluateReply


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A request that its signer wrote, for whom it is and as it was written."""

    request: DescribeRequest | TrainRequest | EvaluateRequest
    coordinator: VerifyKey


def encode_request(request: DescribeRequest | Request, *, to: str, key: SigningKey) -> Envelope:
    """Return the request as it travels to one organisation, which the first knows no name of."""
    header: dict[str, object] = {"kind": request.kind, "to": to}
    if isinstance(request, DescribeRequest):
        return _signed(Envelope(header=_header(header)), "request", key)
    header |= {
        "config": to_flat(request.config),
        "parent": request.parent,
        "participants": list(request.participants),
        "round": request.round,
        "run": request.config.digest,
    }
    return _signed(Envelope(header=_header(header), tensors=request.model), "request", key)


def open_request(envelope: Envelope, *, name: str, coordinators: Mapping[str, VerifyKey]) -> Opened:
    """Return what is asked, and by whom; the rules are those above, in their order.

    Args:
        envelope: the message.
        name: of the organisation that it has reached.
        coordinators: {fingerprint: key} of those whom the organisation knows.

    Raises:
        ProtocolError: it is not what the protocol allows, or is for another organisation.
        SignatureError: none of the coordinators signed it.
    """
    header = _read(envelope)
    coordinator = _signer(envelope, coordinators)
    kind, to = header.get("kind"), header.get("to")
    if kind == "describe":
        return Opened(request=DescribeRequest(), coordinator=coordinator)
    if kind not in ("train", "evaluate"):
        raise ProtocolError(f"expected a request to describe, train or evaluate, got {kind!r:.40}")
    if to != name:
        raise ProtocolError(f"expected a request to {name!r}, got one to another organisation")
    request = _request(
        header, envelope.tensors, TrainRequest if kind == "train" else EvaluateRequest
    )
    if header.get("parent") != request.parent:
        raise ProtocolError("expected the model that the request names, got another")
    if header.get("run") != request.config.digest:
        raise ProtocolError("expected the settings of the run that the request names, got others")
    return Opened(request=request, coordinator=coordinator)


def encode_description(organisation: str, key: SigningKey) -> Envelope:
    """Return who answers, as it travels."""
    header = {
        "key": key.public.pem.decode(),
        "organisation": organisation,
        "request": DescribeRequest().digest,
        "software": version("veilface"),
    }
    return _signed(Envelope(header=_header(header)), "reply", key)


def decode_description(envelope: Envelope) -> Description:
    """Return who answers; that it has the key it names is proven, whose key it is is not.

    Raises:
        ProtocolError: it is no description.
        SignatureError: it is signed by another key than it names.
    """
    header = _read(envelope)
    try:
        key = parse_verify_key(str(header.get("key")).encode(), "the description")
    except KeyFileError as error:
        raise ProtocolError(str(error)) from None
    key.verify("reply", envelope.signed_bytes, envelope.signature)
    name = _organisation(header)
    return Description(organisation=name, key=key, software=_text(header, "software"))


def encode_reply(reply: Reply, *, request: Request, key: SigningKey) -> Envelope:
    """Return the reply as it travels, bound to the request that it answers."""
    header: dict[str, object] = {
        "organisation": reply.organisation,
        "request": request.digest,
        "round": reply.round,
    }
    if reply.refusal:
        header |= {"refusal": reply.refusal[:MAX_REFUSAL], "by_rules": reply.by_rules}
    if reply.ledger_head is not None:
        header["ledger_head"] = asdict(reply.ledger_head)
    update = b""
    if isinstance(reply, TrainReply):
        update = reply.update
    elif reply.scores is not None:
        header["scores"] = asdict(reply.scores)
    return _signed(Envelope(header=_header(header), tensors=update), "reply", key)


def decode_reply(envelope: Envelope, request: Request, key: VerifyKey) -> Reply:
    """Return the reply to this request by the organisation of this key.

    Raises:
        ProtocolError: it is none, or answers another request.
        SignatureError: the organisation did not sign it.
    """
    header = _read(envelope)
    key.verify("reply", envelope.signed_bytes, envelope.signature)
    if header.get("request") != request.digest:
        raise ProtocolError("expected an answer to this request, got one to another")
    name, number, paid = _organisation(header), _round(header), _ledger_head(header)
    refusal, by_rules = _text(header, "refusal"), header.get("by_rules") is True
    if isinstance(request, TrainRequest):
        return TrainReply(
            organisation=name,
            round=number,
            update=envelope.tensors,
            ledger_head=paid,
            refusal=refusal,
            by_rules=by_rules,
        )
    return EvaluateReply(
        organisation=name,
        round=number,
        scores=_scores(header),
        ledger_head=paid,
        refusal=refusal,
        by_rules=by_rules,
    )


def _signed(envelope: Envelope, purpose: Literal["request", "reply"], key: SigningKey) -> Envelope:
    return replace(envelope, signature=key.sign(purpose, envelope.signed_bytes))


def _signer(envelope: Envelope, coordinators: Mapping[str, VerifyKey]) -> VerifyKey:
    for key in coordinators.values():
        try:
            key.verify("request", envelope.signed_bytes, envelope.signature)
        except SignatureError:
            continue
        return key
    raise SignatureError("expected the signature of a coordinator that is known here, got none")


def _request(
    header: Mapping[str, object], model: bytes, kind: type[TrainRequest | EvaluateRequest]
) -> Request:
    config = header.get("config")
    if not isinstance(config, dict):
        raise ProtocolError("expected a configuration in the request, got none")
    try:
        parsed = from_flat(RunConfig, config)
    except ConfigError as error:
        raise ProtocolError(f"the request's configuration: {error}") from error
    named = header.get("participants")
    if (
        not isinstance(named, list)
        or len(named) > MAX_PARTICIPANTS
        or not all(isinstance(name, str) for name in named)
    ):
        raise ProtocolError("expected the names of those who take part")
    number, most = _round(header), parsed.federation.rounds
    if number > most:
        raise ProtocolError(f"expected a round up to {most}, the run's last, got another")
    participants = tuple(sorted(set(named)))
    return kind(round=number, config=parsed, model=model, participants=participants)


def _digest(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _header(values: Mapping[str, object]) -> str:
    return json.dumps({"version": VERSION, **values}, sort_keys=True)


def _read(envelope: Envelope) -> dict[str, object]:
    try:
        header = json.loads(envelope.header)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("expected a JSON header in the message") from error
    if not isinstance(header, dict) or header.get("version") != VERSION:
        raise ProtocolError(
            f"expected protocol version {VERSION}, got another",
            hint="every organisation and the coordinator need the same release of Veilface",
        )
    return header


def _text(header: Mapping[str, object], key: str) -> str:
    """Return words that somebody else chose, fit for a terminal; none where there are none."""
    text = header.get(key)
    words = text[:MAX_REFUSAL] if isinstance(text, str) else ""
    return "".join(character for character in words if character.isprintable())


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
