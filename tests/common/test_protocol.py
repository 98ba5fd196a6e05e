"""What travels, that nothing else does, and that nobody who carries it can change it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilface_common import protocol
from veilface_common.budget.entries import Head
from veilface_common.config import RunConfig
from veilface_common.crypto.signing import SigningKey
from veilface_common.errors import ProtocolError, SignatureError
from veilface_common.protocol import (
    DescribeRequest,
    EvaluateReply,
    EvaluateRequest,
    Opened,
    Reply,
    Request,
    TrainReply,
    TrainRequest,
)
from veilface_common.score_histograms import BINS, ScoreHistograms
from veilface_common.wire import Envelope

COORDINATOR = SigningKey.from_seed(b"c" * 32)
ORGANISATION = SigningKey.from_seed(b"o" * 32)
STRANGER = SigningKey.from_seed(b"s" * 32)
KNOWN = {COORDINATOR.public.fingerprint: COORDINATOR.public}
NAMES = ("org-1", "org-2")
REQUEST = TrainRequest(round=3, config=RunConfig(seed=9), model=b"weights", participants=NAMES)
ASKED = EvaluateRequest(round=3, config=RunConfig(seed=9), model=b"weights", participants=NAMES)
PAID = Head(sequence=4, hash="ab" * 32)
REPLY = TrainReply(organisation="org-1", round=3, update=b"update", ledger_head=PAID)
SCORES = ScoreHistograms(genuine=(0.1,) * BINS, impostor=(-0.2,) * BINS)
FIGURES = EvaluateReply(organisation="org-1", round=3, scores=SCORES, ledger_head=PAID)
Change = Callable[[dict[str, object]], dict[str, object]]


def asked(request: DescribeRequest | Request, to: str = "org-1") -> Envelope:
    return protocol.encode_request(request, to=to, key=COORDINATOR)


def opened(envelope: Envelope, name: str = "org-1") -> Opened:
    return protocol.open_request(envelope, name=name, coordinators=KNOWN)


def answered(reply: Reply, request: Request) -> Envelope:
    return protocol.encode_reply(reply, request=request, key=ORGANISATION)


def resigned(envelope: Envelope, header: dict[str, object], key: SigningKey) -> Envelope:
    changed = replace(envelope, header=json.dumps(header))
    purpose = "request" if key is COORDINATOR else "reply"
    return replace(changed, signature=key.sign(purpose, changed.signed_bytes))


def test_messages_survive_the_journey() -> None:
    """What one side encodes the other decodes, and who signed it is known."""
    for request in (REQUEST, ASKED, DescribeRequest()):
        found = opened(asked(request))
        assert (found.request, found.coordinator) == (request, COORDINATOR.public)
    refused = replace(REPLY, update=b"", ledger_head=None, refusal="at night", by_rules=True)
    for reply in (REPLY, refused):
        assert (
            protocol.decode_reply(answered(reply, REQUEST), REQUEST, ORGANISATION.public) == reply
        )
    spent = EvaluateReply(organisation="org-1", round=3, scores=None, refusal="spent")
    for figures in (FIGURES, spent):
        found_reply = protocol.decode_reply(answered(figures, ASKED), ASKED, ORGANISATION.public)
        assert found_reply == figures
    who = protocol.decode_description(protocol.encode_description("org-1", ORGANISATION))
    assert (who.organisation, who.key) == ("org-1", ORGANISATION.public)


def test_a_reply_holds_no_counts_and_no_figures() -> None:
    """A number of people, of images or a loss would be a release that nobody charged."""
    header = json.loads(answered(REPLY, REQUEST).header)
    assert set(header) == {"version", "organisation", "request", "round", "ledger_head"}


def test_figures_travel_as_histograms_alone() -> None:
    """A name, a round, the request, the ledger's head and two histograms; no tensors."""
    envelope = answered(FIGURES, ASKED)
    assert envelope.tensors == b""
    header = json.loads(envelope.header)
    assert set(header) == {"version", "organisation", "request", "round", "scores", "ledger_head"}
    assert set(header["scores"]) == {"genuine", "impostor"}


def test_a_request_names_what_makes_it_another() -> None:
    """Run, round, model and kind make the digest that a reply is bound to; nothing else does."""
    others = [
        replace(REQUEST, round=2),
        replace(REQUEST, model=b"other"),
        replace(REQUEST, config=RunConfig(seed=9, run="0" * 16)),
        ASKED,
    ]
    assert len({request.digest for request in (REQUEST, *others)}) == 5
    assert replace(REQUEST, participants=()).digest == REQUEST.digest


def test_a_request_that_a_stranger_signed_is_refused() -> None:
    """So is one without a signature, and one that was signed as something else."""
    envelope = asked(REQUEST)
    by_stranger = protocol.encode_request(REQUEST, to="org-1", key=STRANGER)
    as_reply = replace(envelope, signature=COORDINATOR.sign("reply", envelope.signed_bytes))
    for forged in (by_stranger, replace(envelope, signature=b""), as_reply):
        with pytest.raises(SignatureError, match="a coordinator that is known"):
            opened(forged)


def test_a_request_that_was_altered_is_refused() -> None:
    """A letter of the header, a byte of the model, or another message's model."""
    envelope = asked(REQUEST)
    other = asked(replace(REQUEST, model=b"others"))
    for altered in (
        replace(envelope, header=envelope.header.replace("org-2", "org-3")),
        replace(envelope, tensors=b"weightz"),
        replace(envelope, tensors=other.tensors),
        replace(other, header=envelope.header),
    ):
        with pytest.raises(SignatureError):
            opened(altered)


def test_a_request_to_another_organisation_is_refused() -> None:
    """Signed and whole, but not for us."""
    with pytest.raises(ProtocolError, match="another organisation"):
        opened(asked(REQUEST, to="org-2"))


FOREIGN: dict[str, Change] = {
    "version 1": lambda h: h | {"version": 1},
    "no version": lambda h: {k: v for k, v in h.items() if k != "version"},
    "round 0": lambda h: h | {"round": 0},
    "a round that is text": lambda h: h | {"round": "1"},
    "a round that is true": lambda h: h | {"round": True},
    "a round after the last": lambda h: h | {"round": 21},
    "a round beyond all numbers": lambda h: h | {"round": 10**4000},
    "unknown setting": lambda h: h | {"config": {"sead": 1}},
    "a setting beyond all numbers": lambda h: h | {"config": {"training.momentum": 10**400}},
    "another run's settings": lambda h: h | {"config": {"seed": 8}},
    "no settings": lambda h: h | {"config": None},
    "another run": lambda h: h | {"run": "0" * 64},
    "another model": lambda h: h | {"parent": "0" * 64},
    "another kind": lambda h: h | {"kind": "erase"},
    "a kind that is a list": lambda h: h | {"kind": ["train"]},
    "no participants": lambda h: {k: v for k, v in h.items() if k != "participants"},
    "participants that are numbers": lambda h: h | {"participants": [1]},
    "participants without end": lambda h: h | {"participants": ["x"] * 10_001},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_request_is_refused(kind: str) -> None:
    """Signed by the coordinator all the same: what the protocol does not allow ends here."""
    envelope = asked(REQUEST)
    header = FOREIGN[kind](json.loads(envelope.header))
    with pytest.raises(ProtocolError):
        opened(resigned(envelope, header, COORDINATOR))


def test_a_reply_to_another_request_is_refused() -> None:
    """One of the round before, shown again, or one of another kind."""
    for other in (replace(REQUEST, round=2), replace(REQUEST, model=b"other"), ASKED):
        with pytest.raises(ProtocolError, match="to another"):
            protocol.decode_reply(answered(REPLY, other), REQUEST, ORGANISATION.public)


def test_a_reply_that_the_organisation_did_not_sign_is_refused() -> None:
    """A node, or the coordinator's own machinery, cannot answer for an organisation."""
    envelope = answered(REPLY, REQUEST)
    with pytest.raises(SignatureError):
        protocol.decode_reply(envelope, REQUEST, STRANGER.public)
    for altered in (replace(envelope, tensors=b"zeros"), replace(envelope, signature=b"")):
        with pytest.raises(SignatureError):
            protocol.decode_reply(altered, REQUEST, ORGANISATION.public)


def test_a_description_proves_the_key_that_it_names() -> None:
    """Whoever names another's key cannot sign for it."""
    envelope = protocol.encode_description("org-1", ORGANISATION)
    header = json.loads(envelope.header) | {"key": STRANGER.public.pem.decode()}
    with pytest.raises(SignatureError):
        protocol.decode_description(resigned(envelope, header, ORGANISATION))
    for key in (None, "no key", 3):
        with pytest.raises(ProtocolError):
            protocol.decode_description(resigned(envelope, header | {"key": key}, ORGANISATION))


@pytest.mark.parametrize("name", ["", "x" * 65, "a\x1b[2J", 3, None, "\ud800"])
def test_an_impossible_name_is_refused(name: object) -> None:
    """Too long, or fit to write over an operator's terminal."""
    envelope = protocol.encode_description("org-1", ORGANISATION)
    header = json.loads(envelope.header) | {"organisation": name}
    with pytest.raises(ProtocolError):
        protocol.decode_description(resigned(envelope, header, ORGANISATION))


def test_words_of_others_are_fit_for_a_terminal() -> None:
    """A refusal is cut to its length, and loses what a terminal would obey."""
    shouting = replace(REPLY, refusal="\x1b[2J" + "no\n" * 1000)
    found = protocol.decode_reply(answered(shouting, REQUEST), REQUEST, ORGANISATION.public)
    assert found.refusal.isprintable()
    assert found.refusal.startswith("[2Jnono")
    assert len(found.refusal) <= protocol.MAX_REFUSAL


@pytest.mark.parametrize(
    "weights",
    [
        [0.0] * (BINS - 1),
        [float("nan")] * BINS,
        [float("inf")] * BINS,
        [1e300] * BINS,
        [10**400] * BINS,
        "x",
        [[]],
    ],
)
def test_foreign_histograms_are_refused(weights: object) -> None:
    """Of another size, not finite, or of more than there are people on earth."""
    envelope = answered(FIGURES, ASKED)
    header = json.loads(envelope.header)
    header["scores"]["impostor"] = weights
    with pytest.raises(ProtocolError):
        protocol.decode_reply(resigned(envelope, header, ORGANISATION), ASKED, ORGANISATION.public)


@given(st.text(max_size=60), st.binary(max_size=20))
def test_rubbish_is_refused(header: str, tensors: bytes) -> None:
    """Whatever comes, signed or not, the answer is one of two errors."""
    envelope = Envelope(header=header, tensors=tensors)
    as_request = replace(envelope, signature=COORDINATOR.sign("request", envelope.signed_bytes))
    as_reply = replace(envelope, signature=ORGANISATION.sign("reply", envelope.signed_bytes))
    with pytest.raises((ProtocolError, SignatureError)):
        opened(as_request)
    with pytest.raises((ProtocolError, SignatureError)):
        protocol.decode_reply(as_reply, REQUEST, ORGANISATION.public)
    with pytest.raises((ProtocolError, SignatureError)):
        protocol.decode_description(as_reply)


def test_a_header_of_many_brackets_is_refused() -> None:
    """JSON that is nested without end is an error of the message, not of the program."""
    header = "[" * 500_000
    with pytest.raises(ProtocolError):
        opened(Envelope(header=header))
    with pytest.raises(ProtocolError):
        protocol.decode_reply(Envelope(header=header), REQUEST, ORGANISATION.public)
