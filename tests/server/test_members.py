"""Members behind a grid: lost messages, nodes that go and come back, names that are not theirs.

The grid is a fake with a fake clock: an hour passes in no time, and what happens when is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from flwr.app import RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity
from tests.server.grid_parts import COORDINATOR, KEYS, REQUEST, FakeGrid, Node

from veilface_common import protocol, wire
from veilface_common.config import FederationConfig
from veilface_common.crypto.signing import VerifyKey
from veilface_common.errors import FederationError, ProtocolError, SignatureError
from veilface_common.protocol import TrainReply
from veilface_common.wire import Envelope
from veilface_server import members
from veilface_server.members import GridMembers

PUBLIC = {name: key.public for name, key in KEYS.items()}
CONFIG = FederationConfig(timeout_seconds=3600, away_seconds=60)


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give Flower the identity without which it makes no messages."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def members_of(
    grid: FakeGrid, known: Mapping[str, VerifyKey] | None = None, **settings: object
) -> GridMembers:
    return GridMembers(
        grid,
        COORDINATOR,
        CONFIG,
        known=None if known is None else lambda: known,
        pace=grid.pace,
        **settings,  # type: ignore[arg-type]
    )


def trained(grid: FakeGrid, village: GridMembers | None = None) -> Mapping[str, object]:
    village = village or members_of(grid)
    return village.train(village.names(), REQUEST)


REPLIES = {name: TrainReply(organisation=name, round=1, update=b"update") for name in ("a", "b")}


def test_everybody_is_asked_by_name_and_answers() -> None:
    """Two nodes, two names, two replies; in next to no time."""
    grid = FakeGrid(Node("b"), Node("a"))
    assert trained(grid) == REPLIES
    assert grid.now < 2


def test_a_node_that_comes_back_is_sent_to_again() -> None:
    """Its message went down with it; no round is lost for that, nor an hour waited."""
    a, b = Node("a"), Node("b")
    grid = FakeGrid(a, b)
    village = members_of(grid)
    village.names()
    a.is_there = False
    grid.at(30, lambda: setattr(a, "is_there", True))
    assert trained(grid, village) == REPLIES
    assert 30 <= grid.now < 40
    assert b.asked == [wire.DESCRIBE, wire.TRAIN]


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.NODE_UNAVAILABLE,
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
        ErrorCode.CLIENT_APP_CRASHED,
    ],
)
def test_a_message_that_flower_lost_is_sent_again(code: int) -> None:
    """Flower says that it was lost: the organisation never refused anything."""
    grid = FakeGrid(Node("a"), Node("b"))
    village = members_of(grid)
    village.names()
    grid.nodes[100].errors = [code, code]
    assert trained(grid, village) == REPLIES
    assert grid.nodes[100].asked.count(wire.TRAIN) == 3


def test_a_message_that_is_lost_each_time_is_given_up() -> None:
    """A node that kills its courier each time costs a minute, not an hour; its reason is kept."""
    grid = FakeGrid(Node("a"), Node("b"))
    village = members_of(grid)
    village.names()
    grid.nodes[100].errors = [ErrorCode.CLIENT_APP_CRASHED] * 1000
    answers = trained(grid, village)
    assert isinstance(answers["a"], ProtocolError)
    assert grid.nodes[100].asked.count(wire.TRAIN) == members._MAX_SENDS
    assert grid.now < 120


def test_a_message_dies_with_its_round() -> None:
    """Sent once or again, it ends when nobody waits any more: no node pays for a round long over.

    It lives as long as that, or the replies of the last minute would be thrown away.
    """
    grid = FakeGrid(Node("a"), Node("b"))
    village = members_of(grid)
    village.names()
    asked = grid.now
    grid.nodes[100].errors = [ErrorCode.CLIENT_APP_CRASHED] * 5
    trained(grid, village)
    described, *expires = grid.nodes[100].expires
    assert len(expires) == 6
    assert min(expires) == pytest.approx(max(expires)) == asked + 3600 + members._SPARE_SECONDS
    assert described == members._DESCRIBE_SECONDS + members._SPARE_SECONDS


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.UNKNOWN,
        ErrorCode.LOAD_CLIENT_APP_EXCEPTION,
        ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
        ErrorCode.MOD_FAILED_PRECONDITION,
        ErrorCode.INVALID_FAB,
    ],
)
def test_what_an_app_says_is_final(code: int) -> None:
    """Refused, or not runnable there: the reason is told, fit for a terminal, and that is all."""
    grid = FakeGrid(Node("a"), Node("b"))
    village = members_of(grid)
    village.names()
    grid.nodes[100].errors = [code]
    answers = trained(grid, village)
    assert str(answers["a"]) == "failed: ValueError: [2Jwhy"
    assert answers["b"] == REPLIES["b"]
    assert grid.nodes[100].asked == [wire.DESCRIBE, wire.TRAIN]


def test_an_organisation_away_for_too_long_is_left_out() -> None:
    """And not waited for in the next round, until its node is back."""
    a, b = Node("a"), Node("b")
    grid = FakeGrid(a, b)
    village = members_of(grid)
    village.names()
    a.is_there = False
    answers = trained(grid, village)
    assert str(answers["a"]) == "is away"
    assert answers["b"] == REPLIES["b"]
    assert 60 < grid.now < 70
    assert (village.names(), village.absent()) == (["b"], {"a": "is away"})
    a.is_there = True
    assert (village.names(), village.absent()) == (["a", "b"], {})
    assert trained(grid, village) == REPLIES


def test_an_organisation_that_is_there_has_the_whole_time() -> None:
    """Slow is not away: it is waited for until the round's end, and then left out."""
    grid = FakeGrid(Node("a"), Node("b"))
    village = members_of(grid)
    village.names()
    grid.nodes[100].lost = 1
    answers = trained(grid, village)
    assert str(answers["a"]) == "no reply within 3600 s"
    assert 3600 <= grid.now < 3610
    assert grid.nodes[100].asked.count(wire.TRAIN) == 1


def test_a_message_that_vanished_on_its_way_is_sent_again() -> None:
    """Flower counted it as delivered, its line broke then: the node is there and knows nothing."""
    grid = FakeGrid(Node("a"), Node("b"))
    village = members_of(grid, PUBLIC)
    village.names()
    grid.nodes[100].lost = 1
    began = grid.now
    assert trained(grid, village) == REPLIES
    assert 60 <= grid.now - began < 70
    assert grid.nodes[101].asked.count(wire.TRAIN) == 1


def test_a_node_that_works_for_an_hour_is_not_flooded() -> None:
    """It is asked again after 1, 3, 7, 15 and 31 minutes, and answers all from what it keeps."""
    grid = FakeGrid(Node("a"), Node("b"))
    village = members_of(grid, PUBLIC)
    village.names()
    grid.nodes[100].lost = 100
    assert str(trained(grid, village)["a"]) == "no reply within 3600 s"
    assert grid.nodes[100].asked.count(wire.TRAIN) == 6


def test_known_members_are_waited_for_by_name() -> None:
    """Until they are there; it is said whom the run waits for, and that it does no more."""
    late = Node("b")
    late.is_there = False
    grid = FakeGrid(Node("a"), late)
    grid.at(20, lambda: setattr(late, "is_there", True))
    said: list[list[str]] = []
    village = members_of(grid, PUBLIC, on_wait=lambda names: said.append(list(names)))
    grid.at(40, lambda: grid.nodes.update({102: Node("z")}))
    assert village.names() == ["a", "b", "z"]
    assert next(names for names in said if names) == ["b", "z"]
    assert ["z"] in said
    assert said[-1] == []
    assert 40 <= grid.now < 50


def test_a_member_that_does_not_come_is_waited_for_once() -> None:
    """For as long as one may be away; before later rounds it is only looked for."""
    grid = FakeGrid(Node("a"))
    village = members_of(grid, {"a": PUBLIC["a"], "b": PUBLIC["b"]})
    assert village.names() == ["a"]
    assert village.absent() == {"b": "is away"}
    assert 60 <= grid.now < 70
    before = grid.now
    assert village.names() == ["a"]
    assert grid.now == before
    grid.nodes[101] = Node("b")
    assert (village.names(), village.absent()) == (["a", "b"], {})


def test_a_keeper_that_was_away_is_asked_again_before_the_next_round() -> None:
    """Its node answered for it that nobody is there; a run may go on for days."""
    grid = FakeGrid(Node("a"), Node("b"))
    grid.nodes[101].errors = [ErrorCode.CLIENT_APP_RAISED_EXCEPTION]
    village = members_of(grid)
    assert village.names() == ["a"]
    assert "failed: ValueError" in village.absent()["node 101"]
    assert village.names() == ["a", "b"]
    assert village.absent() == {}


def test_a_silent_node_is_asked_again_once_it_comes_back() -> None:
    """It holds up one look at who is there, not every one."""
    grid = FakeGrid(Node("a"), Node("b"))
    grid.nodes[101].lost = 1
    village = members_of(grid)
    assert village.names() == ["a"]
    assert village.names() == ["a"]
    assert grid.now < members._DESCRIBE_SECONDS + 10
    grid.nodes[101].is_there = False
    village.names()
    grid.nodes[101].is_there = True
    assert village.names() == ["a", "b"]


def test_a_member_by_another_node_is_found_there() -> None:
    """Its node was set up anew, with another number: the old one is gone."""
    grid = FakeGrid(Node("a"))
    village = members_of(grid, {"a": PUBLIC["a"]})
    village.names()
    grid.nodes[100].is_there = False
    grid.nodes[101] = Node("a")
    assert trained(grid, village) == {"a": REPLIES["a"]}
    assert grid.nodes[101].asked == [wire.DESCRIBE, wire.TRAIN]


def test_two_nodes_with_one_name() -> None:
    """Without keys nobody can tell whose it is: the run ends. With them, both are the member's."""
    with pytest.raises(FederationError, match="two nodes call themselves 'a'"):
        members_of(FakeGrid(Node("a"), Node("a"))).names()
    village = members_of(FakeGrid(Node("a"), Node("a")), {"a": PUBLIC["a"]})
    assert village.names() == ["a"]
    assert village.absent() == {"node 101": "another node is there for 'a'"}


def test_a_stranger_is_not_asked_to_train() -> None:
    """It has a node and a key, and nobody let it in; it is named, and left out."""
    stranger = Node("z")
    village = members_of(FakeGrid(Node("a"), stranger), {"a": PUBLIC["a"]})
    assert village.names() == ["a"]
    assert village.absent() == {"node 101": "'z' is no member"}
    village.train(village.names(), REQUEST)
    assert wire.TRAIN not in stranger.asked


def test_a_member_with_another_key_is_not_the_member() -> None:
    """Somebody else's node that calls itself by a member's name, signed with its own key."""
    village = members_of(
        FakeGrid(Node("a", KEYS["z"]), Node("b")), {"a": PUBLIC["a"], "b": PUBLIC["b"]}
    )
    assert village.names() == ["b"]
    assert "the key that 'a' joined with" in village.absent()["node 100"]


def test_who_is_removed_or_let_in_during_a_run() -> None:
    """The register is read before each round: neither waits for the run to end."""
    known = {"a": PUBLIC["a"], "b": PUBLIC["b"]}
    grid = FakeGrid(Node("a"), Node("b"), Node("z"))
    village = members_of(grid, known)
    assert village.names() == ["a", "b"]
    del known["a"]
    known["z"] = PUBLIC["z"]
    assert village.names() == ["b", "z"]
    assert village.absent() == {"node 100": "'a' is no member"}


class Replaying(Node):
    def answer(self, envelope: Envelope, kind: str) -> Envelope:
        if kind == wire.DESCRIBE:
            return super().answer(envelope, kind)
        reply = TrainReply(organisation=self.name, round=1, update=b"old")
        older = replace(REQUEST, model=b"older")
        return protocol.encode_reply(reply, request=older, key=self.key)


class Forging(Node):
    def answer(self, envelope: Envelope, kind: str) -> Envelope:
        answer = super().answer(envelope, kind)
        return answer if kind == wire.DESCRIBE else replace(answer, tensors=b"zeros")


class Babbling(Node):
    def answer(self, envelope: Envelope, kind: str) -> Envelope:
        if kind == wire.DESCRIBE:
            return super().answer(envelope, kind)
        return Envelope(header="[" * 200_000)


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [
        (Replaying, ProtocolError, "to another"),
        (Forging, SignatureError, "expected the signature"),
        (Babbling, ProtocolError, "JSON header"),
    ],
)
def test_a_reply_that_is_not_one_is_a_reason(
    kind: type[Node], error: type[Exception], reason: str
) -> None:
    """To another request, altered on its way, or rubbish: the others' replies are used."""
    answers = trained(FakeGrid(kind("a"), Node("b")))
    assert isinstance(answers["a"], error)
    assert reason in str(answers["a"])
    assert answers["b"] == REPLIES["b"]


def test_a_record_of_another_app_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that answers in another protocol is left out with that."""
    grid = FakeGrid(Node("a"), Node("b"))
    village = members_of(grid)
    village.names()
    real = wire.to_record
    monkeypatch.setattr(
        wire, "to_record", lambda e: RecordDict() if '"organisation": "a"' in e.header else real(e)
    )
    answers = trained(grid, village)
    assert "expected a Veilface message" in str(answers["a"])
    assert answers["b"] == REPLIES["b"]


def test_a_reply_far_larger_than_the_model_is_refused() -> None:
    """Nothing of it is looked at: an update has about the model's size, or it is none."""
    grid = FakeGrid(Node("a"), Node("b", update=bytes(len(REQUEST.model) + 2000)))
    answers = trained(grid)
    assert answers["a"] == REPLIES["a"]
    assert isinstance(answers["b"], ProtocolError)
    assert "of tensors, got 2005" in str(answers["b"])
