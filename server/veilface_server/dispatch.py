"""Which run is at work: handed to Flower, followed, handed over again when it was lost.

One run at a time: an organisation trains one thing at once, and rounds of two runs would wait for
each other. What is to be done next follows from run.json, from what the ServerApp says of itself
and from whether it lives; Flower is asked where that leaves a doubt, since a question takes it two
seconds of a processor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from veilface_common.errors import EngineError
from veilface_server import runs
from veilface_server.checkpoint import load_records
from veilface_server.home import Home
from veilface_server.runs import Outcome, Run

MAX_LOST = 5  # times in a row, without a finished round in between
_FIRST_PAUSE_SECONDS = 2.0
_START_SECONDS = 45.0  # within which a ServerApp that was handed over shows itself
_ASK_SECONDS = 15.0
Action = Literal["wait", "submit", "stop", "settle", "ask", "lost"]


class Flower(Protocol):
    """What is asked of Flower; every call raises EngineError when it fails."""

    def submit(self, run: Run) -> str:
        """Hand a run over and return Flower's number of it."""
        ...

    def stop(self, number: str) -> None:
        """Stop a run, and end its ServerApp."""
        ...

    def status(self, number: str) -> str:
        """Return what Flower says of a run."""
        ...

    def is_running_app(self) -> bool:
        """Whether a ServerApp of ours is alive."""
        ...


@dataclass(kw_only=True)
class _Attempt:
    """What this process knows of the run at work."""

    run: str
    submitted: float
    seen: bool = False  # its ServerApp
    asked: float = 0.0  # Flower, when


@dataclass(kw_only=True)
class Dispatcher:
    """The operator's wishes on one side, Flower on the other. `step` again and again."""

    home: Home
    flower: Flower
    clock: Callable[[], float]
    say: Callable[[str], None]
    _attempt: _Attempt | None = field(default=None, init=False)
    _lost: int = field(default=0, init=False)
    _rounds: int = field(default=0, init=False)  # finished, when it was last lost
    _not_before: float = field(default=0.0, init=False)

    def step(self) -> None:
        """Do the next thing, if there is one."""
        run = _at_work(runs.load_runs(self.home))
        if run is None or (run.state != "stopping" and self.clock() < self._not_before):
            return
        try:
            self._act(run)
        except EngineError as error:
            self._retry(run, str(error))

    def _act(self, run: Run) -> None:
        alive = self.flower.is_running_app()  # before the outcome: it is written before the end
        outcome = runs.load_outcome(runs.folder_of(self.home, run.id))
        match self._next(run, outcome, alive=alive):
            case "submit":
                self._submit(run)
            case "stop":
                self._stop(run)
                self._set(run, "stopped")
            case "settle":
                assert outcome is not None
                self._set(run, "finished" if outcome.state == "finished" else "failed", outcome)
            case "ask":
                self._ask(run)
            case "lost":
                self._lose(run)
            case "wait":
                pass

    def _next(self, run: Run, outcome: Outcome | None, *, alive: bool) -> Action:
        if run.state == "stopping":
            return "stop"
        if run.state == "waiting":
            return "wait" if alive else "submit"  # the run before is still ending
        if outcome is not None and outcome.state in ("finished", "failed"):
            return "settle"
        if self._attempt is None or self._attempt.run != run.id:
            return "submit"  # handed over by a coordinator's process that is no more
        return self._next_of(self._attempt, alive=alive)

    def _next_of(self, attempt: _Attempt, *, alive: bool) -> Action:
        """What follows from a run that was handed over and has not said that it ended."""
        if alive:
            attempt.seen = True
            return "wait"
        if attempt.seen:
            return "lost"
        now = self.clock()
        is_late = now - attempt.submitted > _START_SECONDS
        return "ask" if is_late and now - attempt.asked > _ASK_SECONDS else "wait"

    def _submit(self, run: Run) -> None:
        self._stop(run)
        outcome = runs.folder_of(self.home, run.id) / runs.OUTCOME
        outcome.unlink(missing_ok=True)
        number = self.flower.submit(run)
        self._attempt = _Attempt(run=run.id, submitted=self.clock())

        def started(known: Run) -> Run:
            going = known.state not in ("stopping", "stopped")  # while it was handed over
            state: runs.State = "running" if going else "stopping"
            return replace(known, state=state, flower=(*known.flower, number))

        try:
            runs.change_run(self.home, run.id, started)
        except OSError:  # a full disk: what it has under a number that nobody knows stays nobody's
            self._attempt = None
            self._stop(replace(run, flower=(number,)))
            raise
        self.say(f"run {run.id}: handed to Flower as {number}")

    def _stop(self, run: Run) -> None:
        """Stop what Flower may still do for the run; that it has ended already is no error."""
        if run.flower:
            try:
                self.flower.stop(run.flower[-1])
            except EngineError:
                return

    def _ask(self, run: Run) -> None:
        assert self._attempt is not None
        self._attempt.asked = self.clock()
        if self.flower.status(run.flower[-1]).startswith("finished"):
            self._lose(run)

    def _lose(self, run: Run) -> None:
        self._retry(run, "the ServerApp ended without a word")

    def _retry(self, run: Run, reason: str) -> None:
        """Hand the run over again after a pause, or give it up."""
        records = load_records(runs.folder_of(self.home, run.id))
        done = records[-1].round if records else 0
        self._lost = 1 if done > self._rounds else self._lost + 1
        self._rounds = done
        self._attempt = None
        if self._lost > MAX_LOST:
            error = f"given up after {MAX_LOST} attempts without a new round: {reason}"
            self._set(run, "failed", Outcome(state="failed", error=error))
            return
        pause = _FIRST_PAUSE_SECONDS * 2.0 ** (self._lost - 1)
        self._not_before = self.clock() + pause
        runs.change_run(self.home, run.id, lambda known: replace(known, error=reason))
        self.say(f"run {run.id}: {reason}; again in {pause:g} s")

    def _set(self, run: Run, state: runs.State, outcome: Outcome | None = None) -> None:
        error = outcome.error if outcome is not None else run.error
        self._attempt = None
        self._lost = self._rounds = 0
        runs.change_run(self.home, run.id, lambda known: replace(known, state=state, error=error))
        self.say(f"run {run.id}: {state}{': ' + error if state == 'failed' else ''}")


def _at_work(known: tuple[Run, ...]) -> Run | None:
    """Return the run to look after: one that was begun, else the oldest that waits."""
    begun = [run for run in known if run.state in ("running", "stopping")]
    waiting = [run for run in known if run.state == "waiting"]
    return next(iter([*begun, *waiting]), None)
