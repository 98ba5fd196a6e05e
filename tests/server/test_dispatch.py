"""Runs go on whatever dies, end when they say so, and are given up at last."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.server.coordinator_parts import NOW, made_home

from veilface_common.errors import ConfigError, EngineError
from veilface_common.presets import preset
from veilface_server import dispatch, runs
from veilface_server.dispatch import MAX_LOST, Dispatcher
from veilface_server.home import Home
from veilface_server.runs import Run, change_run, create_run, load_run, new_name


@dataclass
class FakeFlower:
    """Flower, as the test wants it to be."""

    submitted: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    alive: bool = False
    says: str = "running"
    refuses: bool = False
    asked: int = 0

    def submit(self, run: Run) -> str:
        if self.refuses:
            raise EngineError("flwr run failed: no")
        self.submitted.append(run.id)
        return str(len(self.submitted))

    def stop(self, number: str) -> None:
        self.stopped.append(number)
        raise EngineError("it has ended already")

    def status(self, number: str) -> str:
        assert number
        self.asked += 1
        return self.says

    def is_running_app(self) -> bool:
        return self.alive


class Desk:
    """A coordinator at work, whose time the test moves."""

    def __init__(self, folder: Path) -> None:
        self.home: Home = made_home(folder)
        self.flower = FakeFlower()
        self.now = 0.0
        self.said: list[str] = []
        self.restart()

    def restart(self) -> None:
        self.dispatcher = Dispatcher(
            home=self.home, flower=self.flower, clock=lambda: self.now, say=self.said.append
        )

    def wanted(self) -> str:
        config = replace(preset("smoke"), run=new_name())
        return create_run(self.home, config, epsilon=0.0, delta=0.0, now=NOW).id

    def step(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.dispatcher.step()

    def state(self, run: str) -> str:
        return load_run(self.home, run).state

    def says(self, run: str, state: str, error: str = "") -> None:
        body = {"state": state, "waiting_for": [], "error": error}
        (self.home.runs / run / runs.OUTCOME).write_text(json.dumps(body))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Return a coordinator that nobody wants anything of yet."""
    return Desk(tmp_path / "federation")


def test_a_run_from_its_wish_to_its_end(desk: Desk) -> None:
    """Handed over once, followed without asking Flower, finished when it says so."""
    run = desk.wanted()
    desk.step()
    desk.flower.alive = True
    for _ in range(500):
        desk.step()
    assert desk.state(run) == "running"
    desk.says(run, "finished")
    desk.flower.alive = False
    desk.step()
    assert (desk.state(run), desk.flower.submitted, desk.flower.asked) == ("finished", [run], 0)


def test_an_error_of_ours_ends_a_run_with_its_reason(desk: Desk) -> None:
    """It would come again; it is not tried again."""
    run = desk.wanted()
    desk.step()
    desk.says(run, "failed", "FederationError: too few")
    for _ in range(100):
        desk.step()
    assert load_run(desk.home, run).error == "FederationError: too few"
    assert (desk.state(run), desk.flower.submitted) == ("failed", [run])


def test_a_killed_serverapp_is_started_again(desk: Desk) -> None:
    """Under a new number of Flower's; the old one is stopped, and that it had ended is no error."""
    run = desk.wanted()
    desk.step()
    desk.flower.alive = True
    desk.step()
    desk.says(run, "waiting")  # what it said while it lived counts no more
    desk.flower.alive = False
    for _ in range(4):
        desk.step()
    assert load_run(desk.home, run).flower == ("1", "2")
    assert desk.flower.stopped == ["1"]
    assert not (desk.home.runs / run / runs.OUTCOME).exists()


def test_a_serverapp_that_never_shows_is_asked_for(desk: Desk) -> None:
    """Flower says that it ended; while Flower says that it goes on, it is waited for."""
    run = desk.wanted()
    desk.step()
    for _ in range(300):
        desk.step()
    assert 5 <= desk.flower.asked <= 20
    assert desk.flower.submitted == [run]
    desk.flower.says = "finished:failed"
    for _ in range(30):
        desk.step()
    assert desk.flower.submitted == [run, run]


def test_a_run_is_given_up_after_some_attempts(desk: Desk) -> None:
    """With longer and longer pauses, and with the reason."""
    run = desk.wanted()
    times = []
    for _ in range(400):
        before = len(desk.flower.submitted)
        desk.step()
        desk.flower.alive = len(desk.flower.submitted) > before
        if desk.flower.alive:
            times.append(desk.now)
            desk.step()
            desk.flower.alive = False
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(times) == MAX_LOST + 1
    assert gaps == sorted(gaps)
    assert desk.state(run) == "failed"
    assert "given up" in load_run(desk.home, run).error


def test_a_finished_round_earns_new_attempts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that dies every night still gets through a long run."""
    run = desk.wanted()
    done = [0]
    record = type("Record", (), {"round": property(lambda _: done[0])})()
    monkeypatch.setattr(dispatch, "load_records", lambda _: [record])
    for attempt in range(3 * MAX_LOST):
        desk.step(60)
        desk.flower.alive = True
        desk.step()
        done[0] = attempt + 1
        desk.flower.alive = False
        desk.step()
    assert desk.state(run) == "running"


def test_flower_that_refuses_is_asked_again_later(desk: Desk) -> None:
    """And the operator sees why."""
    run = desk.wanted()
    desk.flower.refuses = True
    desk.step()
    assert (desk.state(run), load_run(desk.home, run).error) == ("waiting", "flwr run failed: no")
    desk.flower.refuses = False
    desk.step(10)
    assert desk.state(run) == "running"


def test_after_a_restart_a_run_is_handed_over_anew(desk: Desk) -> None:
    """Its ServerApp was ended with everything that the killed start had left behind."""
    run = desk.wanted()
    desk.step()
    desk.restart()
    desk.step()
    assert load_run(desk.home, run).flower == ("1", "2")


def test_one_run_at_a_time(desk: Desk) -> None:
    """The next begins when the one before has ended, its process too."""
    first, second = desk.wanted(), desk.wanted()
    desk.step()
    begun = desk.flower.submitted[0]
    other = second if begun == first else first
    desk.flower.alive = True
    desk.says(begun, "finished")
    desk.step()
    desk.step()
    assert (desk.state(begun), desk.state(other)) == ("finished", "waiting")
    desk.flower.alive = False
    desk.step()
    assert desk.flower.submitted == [begun, other]


def test_a_stop_is_done_at_once(desk: Desk) -> None:
    """Even in the pause before the next attempt; and stopped runs stay so until resumed."""
    run = desk.wanted()
    desk.step()
    desk.flower.alive = True
    desk.step()
    desk.flower.alive = False
    desk.step()
    change_run(desk.home, run, runs.stopped)
    desk.step()
    assert desk.state(run) == "stopped"
    desk.step(100)
    assert desk.flower.submitted == [run]
    with pytest.raises(ConfigError):
        change_run(desk.home, run, runs.stopped)
    change_run(desk.home, run, runs.resumed)
    desk.step()
    assert desk.flower.submitted == [run, run]
    with pytest.raises(ConfigError):
        change_run(desk.home, run, runs.resumed)


def test_settings_reach_flower_as_they_are(desk: Desk) -> None:
    """What `flwr run --run-config` reads is what was written down."""
    from flwr.common.config import parse_config_args

    run = load_run(desk.home, desk.wanted())
    path = desk.home.runs / run.id / runs.SETTINGS
    assert parse_config_args([str(path)]) == run.settings
    assert run.config.run == run.id


def test_a_run_whose_number_cannot_be_kept_is_stopped(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: two ServerApps of one run would write over each other's rounds."""
    run = desk.wanted()
    with monkeypatch.context() as full:
        full.setattr(runs, "write_atomically", _no_room)
        with pytest.raises(OSError, match="room"):
            desk.step()
    assert desk.flower.stopped == ["1"]
    desk.step()
    assert load_run(desk.home, run).flower == ("2",)


def _no_room(*_: object) -> None:
    raise OSError("no room")
