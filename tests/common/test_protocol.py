"""What travels, and that nothing else does."""

from __future__ import annotations

import json

import pytest
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from veilface_common import protocol
from veilface_common.config import RunConfig
from veilface_common.errors import ProtocolError
from veilface_common.protocol import Description, Envelope, TrainReply, TrainRequest

REQUEST = TrainRequest(round=3, config=RunConfig(seed=9), model=b"weights")
REPLY = TrainReply(organisation="org-1", round=3, update=b"update")


def test_messages_survive_the_journey() -> None:
    """What one side encodes the other decodes, through a Flower record."""

    def carried(envelope: Envelope) -> Envelope:
        return protocol.from_record(protocol.to_record(envelope))

    assert protocol.decode_request(carried(protocol.encode_request(REQUEST))) == REQUEST
    assert protocol.decode_reply(carried(protocol.encode_reply(REPLY))) == REPLY
    description = Description(organisation="org-1")
    assert (
        protocol.decode_description(carried(protocol.encode_description(description)))
        == description
    )


def test_a_reply_holds_no_counts_and_no_figures() -> None:
    """A number of people, of images or a loss would be a release that nobody charged."""
    header = json.loads(protocol.encode_reply(REPLY).header)
    assert set(header) == {"version", "organisation", "round"}


@given(st.text(max_size=60), st.binary(max_size=20))
def test_rubbish_is_a_protocol_error(header: str, tensors: bytes) -> None:
    """Whatever comes, the answer is a ProtocolError or a message."""
    envelope = Envelope(header=header, tensors=tensors)
    for decode in (protocol.decode_request, protocol.decode_reply, protocol.decode_description):
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
        protocol.decode_request(Envelope(header=json.dumps(header), tensors=b""))


@pytest.mark.parametrize(
    "content",
    [RecordDict(), RecordDict({"veilface": ConfigRecord({"header": 1, "tensors": b""})})],
)
def test_a_foreign_record_is_refused(content: RecordDict) -> None:
    """Records of another application are refused, not guessed."""
    with pytest.raises(ProtocolError):
        protocol.from_record(content)
