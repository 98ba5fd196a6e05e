"""The organisations behind Flower's grid: names, not node numbers; reasons, not gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from veilface_common import protocol
from veilface_common.errors import FederationError, ProtocolError, VeilfaceError
from veilface_common.protocol import EvaluateRequest, TrainRequest
from veilface_server import evaluation
from veilface_server.rounds import Answers

Reply = TypeVar("Reply")


class GridMembers:
    """The members of a federation, asked once for their names and then reached by them."""

    def __init__(self, grid: Grid, timeout_seconds: float) -> None:
        self._grid = grid
        self._timeout_seconds = timeout_seconds
        self._nodes: dict[str, int] = {}
        self._absent: dict[str, str] = {}

    def absent(self) -> Mapping[str, str]:
        """Return the nodes that could not say who they are, and why."""
        return self._absent

    def names(self) -> Sequence[str]:
        """Return the names of the organisations that answer, sorted.

        Raises:
            FederationError: two nodes answer to one name.
        """
        nodes = list(self._grid.get_node_ids())
        content = protocol.to_record(protocol.Envelope(header="{}"))
        self._nodes, self._absent = {}, {}
        silent = set(nodes)
        for reply in self._send(nodes, protocol.DESCRIBE, content, group="describe"):
            description = _decoded(reply, protocol.decode_description)
            silent.discard(reply.metadata.src_node_id)
            if isinstance(description, VeilfaceError):
                self._absent[f"node {reply.metadata.src_node_id}"] = str(description)
                continue
            if description.organisation in self._nodes:
                raise FederationError(f"two nodes call themselves {description.organisation!r}")
            self._nodes[description.organisation] = reply.metadata.src_node_id
        self._absent |= {f"node {node}": "does not answer" for node in silent}
        return sorted(self._nodes)

    def train(self, names: Sequence[str], request: TrainRequest) -> Answers:
        """Send the request to the named organisations; every one gets a reply or a reason."""
        return self._asked(names, protocol.TRAIN, request, protocol.decode_reply)

    def evaluate(self, names: Sequence[str], request: EvaluateRequest) -> evaluation.Answers:
        """Send the request to the named organisations; every one gets a reply or a reason."""
        return self._asked(names, protocol.EVALUATE, request, protocol.decode_evaluation)

    def _asked(
        self,
        names: Sequence[str],
        message_type: str,
        request: TrainRequest | EvaluateRequest,
        decode: Callable[[protocol.Envelope], Reply],
    ) -> dict[str, Reply | VeilfaceError]:
        content = protocol.to_record(protocol.encode_request(request))
        owners = {self._nodes[name]: name for name in names}
        answers: dict[str, Reply | VeilfaceError] = {
            name: FederationError(f"no reply within {self._timeout_seconds:g} s") for name in names
        }
        for reply in self._send(list(owners), message_type, content, group=str(request.round)):
            name = owners.get(reply.metadata.src_node_id)
            if name is not None:
                answers[name] = _decoded(reply, decode)
        return answers

    def _send(
        self, nodes: Sequence[int], message_type: str, content: RecordDict, group: str
    ) -> list[Message]:
        messages = [Message(content, node, message_type, group_id=group) for node in sorted(nodes)]
        return list(self._grid.send_and_receive(messages, timeout=self._timeout_seconds))


def _decoded(reply: Message, decode: Callable[[protocol.Envelope], Reply]) -> Reply | VeilfaceError:
    try:
        return decode(_envelope(reply))
    except VeilfaceError as error:
        return error


def _envelope(reply: Message) -> protocol.Envelope:
    if reply.has_error():
        reason = (reply.error.reason or "no reason given").strip().splitlines()
        raise ProtocolError(f"failed: {reason[-1] if reason else 'no reason given'}")
    return protocol.from_record(reply.content)
