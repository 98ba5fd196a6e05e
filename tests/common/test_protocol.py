"""What travels, and that nothing else does."""

from __future__ import annotations

import json

import pytest
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from veilface_common import protocol
from veilface_common.budget.entries import Head
from veilface_common.config import RunConfig
from veilface_common.errors import ProtocolError
from veilface_common.protocol import (
    Description,
    Envelope,
    EvaluateReply,
    EvaluateRequest,
    TrainReply,
    TrainRequest,
)
from veilface_common.score_histograms import BINS, ScoreHistograms

REQUEST = TrainRequest(round=3, config=RunConfig(seed=9), model=b"weights")
REPLY = TrainReply(organisation="org-1", round=3, update=b"update")
ASKED = EvaluateRequest(round=3, config=RunConfig(seed=9), model=b"weights")
SCORES = ScoreHistograms(genuine=(0.1,) * BINS, impostor=(-0.2,) * BINS)
FIGURES = EvaluateReply(
    organisation="org-1", round=3, scores=SCORES, ledger_head=Head(sequence=4, hash="ab" * 32)
)


def decode_train(envelope: Envelope) -> TrainRequest:
    return protocol.decode_request(envelope, TrainRequest)


def decode_asked(envelope: Envelope) -> EvaluateRequest:
    return protocol.decode_request(envelope, EvaluateRequest)


DECODERS = (
    decode_train,
    decode_asked,
    protocol.decode_reply,
    protocol.decode_evaluation,
    protocol.decode_description,
)


def test_messages_survive_the_journey() -> None:
    """What one side encodes the other decodes, through a Flower record."""

    def carried(envelope: Envelope) -> Envelope:
        return protocol.from_record(protocol.to_record(envelope))

    assert decode_train(carried(protocol.encode_request(REQUEST))) == REQUEST
    assert protocol.decode_reply(carried(protocol.encode_reply(REPLY))) == REPLY
    assert decode_asked(carried(protocol.encode_request(ASKED))) == ASKED
    assert protocol.decode_evaluation(carried(protocol.encode_evaluation(FIGURES))) == FIGURES
    refusal = EvaluateReply(organisation="org-1", round=3, scores=None, refusal="spent")
    assert protocol.decode_evaluation(carried(protocol.encode_evaluation(refusal))) == refusal
    description = Description(organisation="org-1")
    assert (
        protocol.decode_description(carried(protocol.encode_description(description)))
        == description
    )


def test_a_reply_holds_no_counts_and_no_figures() -> None:
    """A number of people, of images or a loss would be a release that nobody charged."""
    header = json.loads(protocol.encode_reply(REPLY).header)
    assert set(header) == {"version", "organisation", "round"}


def test_figures_travel_as_histograms_alone() -> None:
    """A name, a round, the ledger's head and two histograms; no tensors."""
    envelope = protocol.encode_evaluation(FIGURES)
    assert envelope.tensors == b""
    header = json.loads(envelope.header)
    assert set(header) == {"version", "organisation", "round", "scores", "ledger_head"}
    assert set(header["scores"]) == {"genuine", "impostor"}


@pytest.mark.parametrize(
    "weights",
    [[0.0] * (BINS - 1), [float("nan")] * BINS, [float("inf")] * BINS, [1e300] * BINS, "x", [[]]],
)
def test_foreign_histograms_are_refused(weights: object) -> None:
    """Of another size, not finite, or of more than there are people on earth."""
    header = json.loads(protocol.encode_evaluation(FIGURES).header)
    header["scores"]["impostor"] = weights
    with pytest.raises(ProtocolError):
        protocol.decode_evaluation(Envelope(header=json.dumps(header)))


@given(st.text(max_size=60), st.binary(max_size=20))
def test_rubbish_is_a_protocol_error(header: str, tensors: bytes) -> None:
    """Whatever comes, the answer is a ProtocolError or a message."""
    envelope = Envelope(header=header, tensors=tensors)
    for decode in DECODERS:
        with pytest.raises(ProtocolError):
            decode(envelope)


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"round": 0}, {"round": "1"}, {"round": True}, {"config": {"sead": 1}}],
)
def test_a_foreign_request_is_refused(change: dict[str, object]) -> None:
    """Another version, an impossible round or an unknown setting never reaches the keeper."""
    header = json.loads(protocol.encode_request(REQUEST).header) | change
    with pytest.raises(ProtocolError):
        decode_train(Envelope(header=json.dumps(header), tensors=b""))


@pytest.mark.parametrize(
    "content",
    [RecordDict(), RecordDict({"veilface": ConfigRecord({"header": 1, "tensors": b""})})],
)
def test_a_foreign_record_is_refused(content: RecordDict) -> None:
    """Records of another application are refused, not guessed."""
    with pytest.raises(ProtocolError):
        protocol.from_record(content)
