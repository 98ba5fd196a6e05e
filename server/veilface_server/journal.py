"""The coordinator's log of events, SERVER/log/server.jsonl: rounds, who is waited for, processes.

round-started    run, round; whom it asks
round-finished   run, round, seconds; who took part
left-out         run, round; who, and why, as the signed record has it
waiting          run; for whom
run              run, state: finished, or failed and the class of the error
link             what became of the processes that `start` keeps running
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from veilface_common.errors import VeilfaceError
from veilface_common.events_log import EventsLog, Field
from veilface_server.checkpoint import RoundRecord, load_records

if TYPE_CHECKING:  # they bring PyTorch with them, and commands write into the log as well
    from veilface_common.protocol import EvaluateRequest, TrainRequest
    from veilface_server import evaluation
    from veilface_server.rounds import Answers, Members

LOG = Path("log") / "server.jsonl"


class Journal:
    """What becomes of one run, written down."""

    def __init__(self, home: Path, run: str) -> None:
        """Write into the log of the coordinator's folder."""
        self._log = EventsLog(home / LOG)
        self._run = run
        self._waited_for: tuple[str, ...] = ()

    def waiting(self, names: Sequence[str]) -> None:
        """Write down who is waited for, or that this is over; once, however often it is said."""
        if tuple(names) == self._waited_for:
            return
        self._waited_for = tuple(names)
        event = "waiting" if names else "waited"
        self._log.write("info", event, {"run": self._run}, told=dict.fromkeys(names, ""))

    def asked(self, what: str, round_number: int, names: Sequence[str]) -> None:
        """Write down who is asked for something."""
        fields: dict[str, Field] = {"run": self._run, "round": round_number}
        self._log.write("info", what, fields, told=dict.fromkeys(names, ""))

    def finished(self, record: RoundRecord) -> None:
        """Write down how a round ended."""
        fields: dict[str, Field] = {"run": self._run, "round": record.round}
        if record.left_out:
            self._log.write("warning", "left-out", fields, told=record.left_out)
        fields["seconds"] = record.seconds
        accepted = dict.fromkeys(record.accepted, "")
        self._log.write("info", "round-finished", fields, told=accepted)

    def ended(self, error: Exception | None = None) -> None:
        """Write down how the run ended."""
        if error is None:
            self._log.write("info", "run", {"run": self._run, "state": "finished"})
            return
        fields = {"run": self._run, "state": "failed", "error": type(error).__name__}
        text = str(error) if isinstance(error, VeilfaceError) else ""
        self._log.write("error", "run", fields, text=text)


class NotedMembers:
    """The members of a federation; what becomes of each round is written into a journal."""

    def __init__(self, members: Members, journal: Journal, folder: Path) -> None:
        """See `members`, the records of whose rounds come to lie in `folder`."""
        self._members = members
        self._journal = journal
        self._folder = folder
        self._open: int | None = None  # the round whose record is not written yet

    def names(self) -> Sequence[str]:
        """Return the names of the organisations that answer; asked before and after each round."""
        self._note_finished()
        return self._members.names()

    def absent(self) -> Mapping[str, str]:
        """Return the nodes that could not say who they are, and why."""
        return self._members.absent()

    def train(self, names: Sequence[str], request: TrainRequest) -> Answers:
        """Send the request to the named organisations; every one gets a reply or a reason."""
        self._journal.asked("round-started", request.round, names)
        self._open = request.round
        return self._members.train(names, request)

    def evaluate(self, names: Sequence[str], request: EvaluateRequest) -> evaluation.Answers:
        """Send the request to the named organisations; every one gets a reply or a reason."""
        self._journal.asked("figures-asked", request.round, names)
        return self._members.evaluate(names, request)

    def _note_finished(self) -> None:
        """Write down how the round before ended; it is on disk when names are asked for again."""
        if self._open is None:
            return
        newest = load_records(self._folder)[-1:]
        if newest and newest[0].round == self._open:
            self._journal.finished(newest[0])
        self._open = None


def note_link(home: Path, line: str) -> None:
    """Write down a line of the process that keeps the federation reachable."""
    EventsLog(home / LOG).write("info", "link", text=line)
