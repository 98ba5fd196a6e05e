"""A grid that is a fake with a fake clock, the nodes behind it, and who they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from flwr.app import Error, Message
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from veilface_common import protocol, wire
from veilface_common.config import RunConfig
from veilface_common.crypto.signing import SigningKey
from veilface_common.protocol import TrainReply, TrainRequest
from veilface_common.wire import Envelope
from veilface_server.members import Pace

COORDINATOR = SigningKey.from_seed(b"c" * 32)
KEYS = {name: SigningKey.from_seed(name.encode() * 32) for name in "abz"}
REQUEST = TrainRequest(round=1, config=RunConfig(), model=b"model", participants=("a", "b"))
TRUSTED = {COORDINATOR.public.fingerprint: COORDINATOR.public}


class Node:
    """A node and the organisation behind it; a test says when it is there and what it answers."""

    def __init__(self, name: str, key: SigningKey | None = None, update: bytes = b"update") -> None:
        self.name = name
        self.key = key or KEYS[name]
        self.is_there = True
        self.asked: list[str] = []  # kinds of messages, in their order
        self.errors: list[int] = []  # of the next messages: Flower's codes in the place of answers
        self.lost = 0  # of the next messages: how many are never answered
        self.expires: list[float] = []  # of each of these messages: when Flower throws it away
        self.update = update

    def answer(self, envelope: Envelope, kind: str) -> Envelope:
        if kind == wire.DESCRIBE:
            return protocol.encode_description(self.name, self.key)
        opened = protocol.open_request(envelope, name=self.name, coordinators=TRUSTED)
        request = opened.request
        assert isinstance(request, TrainRequest)
        reply = TrainReply(organisation=self.name, round=request.round, update=self.update)
        return protocol.encode_reply(reply, request=request, key=self.key)


class FakeGrid(Grid):
    """A grid in which a message is answered at the next look, or as its node says."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = dict(enumerate(nodes, start=100))
        self.now = 0.0
        self.later: dict[float, Callable[[], None]] = {}  # what happens when
        self._numbers = map(str, count(1))
        self._replies: dict[str, Message] = {}

    def at(self, seconds: float, happens: Callable[[], object]) -> None:
        self.later[seconds] = lambda: (happens(), None)[1]

    def pause(self, seconds: float) -> None:
        self.now += seconds
        for due in sorted(when for when in self.later if when <= self.now):
            self.later.pop(due)()

    @property
    def pace(self) -> Pace:
        return Pace(clock=lambda: self.now, pause=self.pause)

    def set_run(self, run: Run) -> None: ...

    @property
    def run(self) -> Run:
        return Run.create_empty(1)

    def create_message(self, *_: object, **__: object) -> Message:
        raise NotImplementedError

    def send_and_receive(self, *_: object, **__: object) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return [number for number, node in self.nodes.items() if node.is_there]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        numbers = []
        for message in messages:
            number = next(self._numbers)
            message.metadata.__dict__["_message_id"] = number
            numbers.append(number)
            node = self.nodes[message.metadata.dst_node_id]
            node.asked.append(message.metadata.message_type)
            node.expires.append(self.now + message.metadata.ttl)
            if node.lost or not node.is_there:
                node.lost = max(0, node.lost - 1)
            elif node.errors:
                error = Error(code=node.errors.pop(0), reason="Trace\nValueError: \x1b[2Jwhy")
                self._replies[number] = Message(error, reply_to=message)
            else:
                envelope = wire.from_record(message.content)
                answer = node.answer(envelope, message.metadata.message_type)
                self._replies[number] = Message(wire.to_record(answer), reply_to=message)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]
