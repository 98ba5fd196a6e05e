"""The in-process engine: the two Flower apps called directly, for tests and small machines.

Organisations are opened when their message comes and forgotten after it, so that memory does not
grow with their number. A round's messages are handled by a few threads, one organisation on each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from veilface_client import app as client
from veilface_common.config import RunConfig, to_flat
from veilface_server import app as server

_SERVER_NODE = 1
_FIRST_CLIENT_NODE = 100
_RUN = 1
_CLIENT_APP_RAISED = 2
_POLL_SECONDS = 0.02


class InProcessGrid(Grid):
    """A grid whose nodes are organisations' folders on this machine."""

    def __init__(self, app: ClientApp, folders: Sequence[Path], workers: int) -> None:
        self._app = app
        self._folders = {_FIRST_CLIENT_NODE + i: path for i, path in enumerate(folders)}
        self._workers = workers
        self._waiting: SimpleQueue[Message] = SimpleQueue()
        self._replies: dict[str, Message] = {}
        self._running = 0
        self._lock = threading.Lock()

    def set_run(self, run: Run) -> None:
        """Do nothing: there is one run."""

    @property
    def run(self) -> Run:
        """The one run."""
        return Run.create_empty(_RUN)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message, as Flower's older interface has it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the numbers of the nodes."""
        return list(self._folders)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let the messages be handled; `pull_messages` has the replies once they are there."""
        numbers = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            numbers.append(message.metadata.message_id)
            self._waiting.put(message)
            self._start_worker()
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to the messages that are there."""
        with self._lock:
            return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Handle the messages; whatever is not answered in time is left behind."""
        waiting = set(self.push_messages(messages))
        ends = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while waiting and (ends is None or time.monotonic() < ends):
            found = list(self.pull_messages(waiting))
            waiting -= {reply.metadata.reply_to_message_id for reply in found}
            replies += found
            time.sleep(_POLL_SECONDS)
        return replies

    def _start_worker(self) -> None:
        with self._lock:
            if self._running >= self._workers:
                return
            self._running += 1
        # A daemon: an organisation that hangs must not keep the program from ending.
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:  # so that nobody puts a message in for a worker that is leaving
                try:
                    message = self._waiting.get_nowait()
                except Empty:
                    self._running -= 1
                    return
            reply = self._handle(message)
            with self._lock:
                self._replies[message.metadata.message_id] = reply

    def _handle(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = Context(
            run_id=_RUN,
            node_id=node,
            node_config={client.KEEPER_SETTING: f"folder:{self._folders[node]}"},
            state=RecordDict(),
            run_config={},
        )
        try:
            return self._app(message, context)
        except Exception as error:  # noqa: BLE001 -- as Flower does: the reply says what broke
            reason = f"{type(error).__name__}: {error}"
            return Message(Error(code=_CLIENT_APP_RAISED, reason=reason), reply_to=message)


def run_in_process(
    config: RunConfig, organisations: Mapping[str, Path], folder: Path, workers: int
) -> None:
    """Run a federation to its end; `folder` is the coordinator's."""
    TaskIdentity.run_id = _RUN
    TaskIdentity.node_id = _SERVER_NODE
    TaskIdentity.task_id = _RUN
    folders = [organisations[name] for name in sorted(organisations)]
    context = Context(
        run_id=_RUN,
        node_id=_SERVER_NODE,
        node_config={server.FOLDER_SETTING: str(folder)},
        state=RecordDict(),
        run_config=dict(to_flat(config)),
    )
    server.app(InProcessGrid(client.app, folders, workers), context)
