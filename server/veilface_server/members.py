"""The organisations behind Flower's grid: names, not node numbers; reasons, not gaps.

Whatever goes through the grid is signed: requests with the coordinator's key, for one organisation
each, replies with the organisation's. A message that Flower lost, because a node went away and came
back, is sent again; an organisation answers the same request once, however often it comes.

Whoever was away for too long is not waited for again until its node is back; a node that cannot say
who it is, since its keeper is away, is asked again before the next round.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from veilface_common import protocol, wire
from veilface_common.config import FederationConfig
from veilface_common.crypto.signing import SigningKey, VerifyKey
from veilface_common.errors import FederationError, ProtocolError, VeilfaceError
from veilface_common.protocol import (
    DescribeRequest,
    Description,
    EvaluateReply,
    EvaluateRequest,
    TrainReply,
    TrainRequest,
)
from veilface_common.updates import SPARE_BYTES
from veilface_server import evaluation
from veilface_server.rounds import Answers

_POLL_SECONDS = 0.5
_MAX_REASON = 500
_SILENCE_SECONDS = 60.0  # of a node that is there, until it is asked again; then twice that, ...
_SPARE_SECONDS = 5.0  # a message lives beyond its round, so that the last look finds the replies
_PRESENCE_SECONDS = 3.0  # between two looks at who is there
_DESCRIBE_SECONDS = 300.0  # in which a node must say who it is; a keeper that trains says so too
_LOST = (
    ErrorCode.MESSAGE_UNAVAILABLE,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    ErrorCode.NODE_UNAVAILABLE,
    ErrorCode.CLIENT_APP_CRASHED,  # a courier that was killed
)
_MAX_SENDS = 20  # of one message to one node
Wanted = TypeVar("Wanted", TrainReply, EvaluateReply)
Known = Callable[[], Mapping[str, VerifyKey]]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How time passes, for the tests to say."""

    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


@dataclass(kw_only=True)
class _Waiting:
    """What is sent, what came back, and who is away."""

    contents: Mapping[int, RecordDict]
    message_type: str
    group: str
    ends: float  # when nobody waits any more
    sent: dict[str, int] = field(default_factory=dict)  # message -> node
    replies: dict[int, Message] = field(default_factory=dict)
    failed: dict[int, Message] = field(default_factory=dict)  # on the way: to be sent again
    sends: Counter[int] = field(default_factory=Counter)
    away: dict[int, float] = field(default_factory=dict)  # node -> since when
    again: dict[int, float] = field(default_factory=dict)  # node -> when it is asked again

    @property
    def open(self) -> set[int]:
        return set(self.contents) - set(self.replies)


class GridMembers:
    """The members of a federation, who say once who they are and are then reached by name."""

    def __init__(
        self,
        grid: Grid,
        key: SigningKey,
        config: FederationConfig,
        *,
        known: Known | None = None,
        on_wait: Callable[[Sequence[str]], None] = lambda _: None,
        pace: Pace | None = None,
    ) -> None:
        """See the members behind `grid`.

        Args:
            grid: Flower's.
            key: the coordinator's.
            config: how long they are waited for.
            known: gives {name: key} of the members, anew before each round; None: whoever answers
                is one (simulation).
            on_wait: is told the names of those who are waited for; nobody, once that is over.
            pace: how time passes.
        """
        self._grid = grid
        self._key = key
        self._config = config
        self._read_known = known
        self._known: Mapping[str, VerifyKey] | None = None
        self._on_wait = on_wait
        self._pace = pace or Pace()
        self._nodes: dict[str, int] = {}
        self._keys: dict[str, VerifyKey] = {}
        self._unnamed: dict[int, str] = {}  # nodes that could not say who they are, and why
        self._silent: set[int] = set()  # those of them that said nothing at all
        self._gone: set[int] = set()  # nodes that were away for too long
        self._has_waited = False

    def absent(self) -> Mapping[str, str]:
        """Return the members that are away, the nodes that could not say who they are, and why."""
        away = [name for name, node in self._nodes.items() if node in self._gone]
        missing = dict.fromkeys(sorted([*self._missing(), *away]), "is away")
        return missing | {f"node {node}": why for node, why in sorted(self._unnamed.items())}

    def names(self) -> Sequence[str]:
        """Return the names of the organisations that answer, sorted.

        The first time, those who are known are waited for; later, who has come since is among them,
        and who was removed is not.

        Raises:
            FederationError: two nodes answer to one name, and no key says whose it is.
        """
        if self._read_known is not None:
            self._known = self._read_known()
            for name in [n for n in self._nodes if self._known.get(n) != self._keys[n]]:
                del self._nodes[name]
        ends = self._pace.clock() + self._config.away_seconds
        self._identify()
        while not self._has_waited and self._missing() and self._pace.clock() < ends:
            self._on_wait(self._missing())
            self._pace.pause(_PRESENCE_SECONDS)
            self._identify()
        if not self._has_waited:
            self._on_wait(())
        self._has_waited = True
        self._gone -= set(self._grid.get_node_ids())
        return sorted(name for name, node in self._nodes.items() if node not in self._gone)

    def train(self, names: Sequence[str], request: TrainRequest) -> Answers:
        """Send the request to the named organisations; every one gets a reply or a reason."""
        return self._asked(names, wire.TRAIN, request, TrainReply)

    def evaluate(self, names: Sequence[str], request: EvaluateRequest) -> evaluation.Answers:
        """Send the request to the named organisations; every one gets a reply or a reason."""
        return self._asked(names, wire.EVALUATE, request, EvaluateReply)

    def _missing(self) -> Sequence[str]:
        return sorted(set(self._known or ()) - set(self._nodes))

    def _identify(self) -> None:
        """Ask the nodes that nobody knows yet who they are."""
        present = set(self._grid.get_node_ids())
        self._silent &= present  # one that comes back may have found its voice
        self._unnamed = {n: why for n, why in self._unnamed.items() if n in present}
        nodes = present - set(self._nodes.values()) - self._silent
        if not nodes:
            return
        request = protocol.encode_request(DescribeRequest(), to="", key=self._key)
        content = wire.to_record(request)
        seconds = min(_DESCRIBE_SECONDS, self._config.timeout_seconds)
        replies = self._exchange(dict.fromkeys(nodes, content), wire.DESCRIBE, "describe", seconds)
        for node in sorted(nodes):
            self._unnamed.pop(node, None)
            try:
                description = protocol.decode_description(_envelope(replies[node], 0))
                self._verify_known(description)
            except VeilfaceError as error:
                self._unnamed[node] = str(error)
                if not isinstance(replies[node], Message):
                    self._silent.add(node)
                continue
            self._place(description, node, present)

    def _place(self, description: Description, node: int, present: Collection[int]) -> None:
        """Reach an organisation by this node from now on, unless another one is there for it."""
        name = description.organisation
        before = self._nodes.get(name, node)
        if before == node or before not in present:
            self._nodes[name], self._keys[name] = node, description.key
        elif self._known is None:
            raise FederationError(f"two nodes call themselves {name!r}")
        else:
            self._unnamed[node] = f"another node is there for {name!r}"

    def _verify_known(self, description: Description) -> None:
        if self._known is None:
            return
        name = description.organisation
        if name not in self._known:
            raise FederationError(f"{name!r} is no member")
        if self._known[name] != description.key:
            raise FederationError(f"expected the key that {name!r} joined with, got another")

    def _asked(
        self,
        names: Sequence[str],
        message_type: str,
        request: TrainRequest | EvaluateRequest,
        wanted: type[Wanted],
    ) -> dict[str, Wanted | VeilfaceError]:
        contents = {
            self._nodes[name]: wire.to_record(
                protocol.encode_request(request, to=name, key=self._key)
            )
            for name in names
        }
        seconds = self._config.timeout_seconds
        most = len(request.model) + SPARE_BYTES if isinstance(request, TrainRequest) else 0
        replies = self._exchange(contents, message_type, str(request.round), seconds)
        answers: dict[str, Wanted | VeilfaceError] = {}
        for name in names:
            try:
                envelope = _envelope(replies[self._nodes[name]], most)
                answer = protocol.decode_reply(envelope, request, self._keys[name])
                if not isinstance(answer, wanted):
                    raise ProtocolError("expected a reply of another kind")
                answers[name] = answer
            except VeilfaceError as error:
                answers[name] = error
        return answers

    def _exchange(
        self, contents: Mapping[int, RecordDict], message_type: str, group: str, seconds: float
    ) -> Mapping[int, Message | FederationError]:
        """Return of each node its reply, or how it was lost."""
        clock = self._pace.clock
        ends = clock() + seconds
        waiting = _Waiting(contents=contents, message_type=message_type, group=group, ends=ends)
        self._send(waiting, sorted(contents))
        looks = clock() + _PRESENCE_SECONDS
        while True:
            self._collect(waiting)
            if not waiting.open or clock() >= ends:
                break
            if clock() >= looks:
                looks = clock() + _PRESENCE_SECONDS
                if self._look(waiting, clock()):
                    break
            self._pace.pause(_POLL_SECONDS)
        lost: dict[int, Message | FederationError] = {}
        for node in waiting.open:
            reason = "is away" if node in waiting.away else f"no reply within {seconds:g} s"
            lost[node] = waiting.failed.get(node, FederationError(reason))
        self._gone |= waiting.open & set(waiting.away)
        return lost | waiting.replies

    def _send(self, waiting: _Waiting, nodes: Sequence[int]) -> None:
        # Flower throws a message away when its time is over. It would keep it for 12 hours, and a
        # node that comes back then would train, and pay, for a round that has long been closed.
        left = max(0.0, waiting.ends - self._pace.clock()) + _SPARE_SECONDS
        for node in nodes:  # one at a time: together, large models exceed what a request may hold
            message = Message(
                waiting.contents[node],
                node,
                waiting.message_type,
                ttl=left,
                group_id=waiting.group,
            )
            waiting.sends[node] += 1
            silence = _SILENCE_SECONDS * 2 ** min(waiting.sends[node] - 1, 10)
            waiting.again[node] = self._pace.clock() + silence
            for number in self._grid.push_messages([message]):
                if number:
                    waiting.sent[number] = node

    def _collect(self, waiting: _Waiting) -> None:
        if not waiting.sent:
            return
        for reply in self._grid.pull_messages(list(waiting.sent)):
            node = waiting.sent.pop(reply.metadata.reply_to_message_id, None)
            if node is None:
                continue
            is_lost = reply.has_error() and reply.error.code in _LOST
            if is_lost and waiting.sends[node] < _MAX_SENDS:
                waiting.failed[node] = reply
            else:
                waiting.replies[node] = reply

    def _look(self, waiting: _Waiting, now: float) -> bool:
        """Send again to who is back; say whether all who are asked still are away for too long."""
        present = set(self._grid.get_node_ids())
        silent = waiting.open - set(waiting.sent.values())
        for node in sorted(waiting.open):
            if node not in present:
                waiting.away.setdefault(node, now)
            elif node in waiting.away or node in silent or self._may_be_lost(waiting, node, now):
                waiting.away.pop(node, None)
                self._send(waiting, [node])
        limit = self._config.away_seconds
        return all(now - waiting.away.get(node, now) > limit for node in waiting.open)

    def _may_be_lost(self, waiting: _Waiting, node: int, now: float) -> bool:
        """Say whether a node that is there has been silent for long enough to be asked again.

        Flower counts a message as delivered before it has arrived: one whose line breaks in that
        moment is gone, and nobody is told. A node that still works on the first answers the second
        from what it kept. In a simulation there are no lines.
        """
        return self._known is not None and now >= waiting.again.get(node, now + 1)


def _envelope(reply: Message | FederationError, most_tensor_bytes: int) -> wire.Envelope:
    if isinstance(reply, FederationError):
        raise reply
    if reply.has_error():
        lines = (reply.error.reason or "").strip().splitlines() or ["no reason given"]
        said = "".join(filter(str.isprintable, lines[-1][:_MAX_REASON]))
        raise ProtocolError(f"failed: {said}")
    return wire.from_record(reply.content, most_tensor_bytes)
