"""The door: who may ask, one at a time; what is refused is told and written down, within limits."""

from __future__ import annotations

import fcntl
import json
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.client.door_parts import (
    COORDINATOR,
    NEW,
    OTHER,
    STRANGER,
    Clock,
    ask,
    kinds,
    ledger_of,
    organisation,
    reasons,
    sealed,
    to_train,
)
from tests.client.test_account import CONFIG

from veilface_client import asked
from veilface_client import private as steps
from veilface_client.door import LOCK, REFUSED_IN_AN_HOUR, STRANGERS_NOTED, Door
from veilface_client.failures import load_failures
from veilface_client.identity import load_identity
from veilface_client.keeper import Keeper
from veilface_client.organisation import SETTINGS
from veilface_client.rules import POLICY
from veilface_common import protocol
from veilface_common.errors import DataError, ProtocolError, RequestRefused
from veilface_common.protocol import DescribeRequest, TrainReply, TrainRequest

DESCRIBE = protocol.encode_request(DescribeRequest(), to="", key=COORDINATOR)


def quickly(self: Keeper, request: TrainRequest) -> TrainReply:
    return TrainReply(organisation=self._name, round=request.round, update=b"update")


def test_a_known_coordinator_is_told_who_answers(tmp_path: Path) -> None:
    """The organisation's name and key; nothing is written down for it."""
    who = protocol.decode_description(organisation(tmp_path).answer(DESCRIBE))
    assert (who.organisation, who.key) == ("org", load_identity(tmp_path).public)
    assert kinds(tmp_path) == NEW


def test_a_request_is_trained_and_its_reply_is_signed(tmp_path: Path) -> None:
    """Charged once, answered under the organisation's key, bound to the request."""
    door = organisation(tmp_path)
    reply = ask(door, to_train())
    assert isinstance(reply, TrainReply)
    assert reply.update
    assert (kinds(tmp_path), reply.refusal) == ([*NEW, "reserve", "settle"], "")


def test_rules_are_read_anew_for_each_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the organisation writes holds from the next request on; a round may come again later."""
    monkeypatch.setattr(Keeper, "train", quickly)
    door = organisation(tmp_path, rules="min_participants = 4")
    first = ask(door, to_train())
    assert first.by_rules
    assert "4 organisations in a round, got 3" in first.refusal
    (tmp_path / POLICY).write_text("[requests]\nmin_participants = 3\n")
    assert not ask(door, to_train()).refusal


def test_a_refused_budget_is_no_rule(tmp_path: Path) -> None:
    """The coordinator may go on without an organisation that has spent its budget."""
    privately = replace(CONFIG.privacy, noise_multiplier=0.5)
    reply = ask(organisation(tmp_path), to_train(config=replace(CONFIG, privacy=privately)))
    assert "noise_multiplier at least 1" in reply.refusal
    assert not reply.by_rules


def test_the_words_of_a_failure_stay_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count in an error of ours, or a path in one of the settings, is not for a coordinator."""
    door = organisation(tmp_path)

    def fail(*_: object) -> TrainReply:
        raise DataError("expected 7 people")

    monkeypatch.setattr(Keeper, "train", fail)
    with pytest.raises(ProtocolError, match=r"^failed with DataError; the organisation's own log"):
        door.answer(sealed(to_train()))
    (tmp_path / POLICY).write_text("[requests]\nhour = 3\n")
    with pytest.raises(ProtocolError, match=r"^failed with ConfigError; [^/]*$"):
        door.answer(sealed(to_train()))
    with pytest.raises(ProtocolError, match=r"^failed with ConfigError; [^/]*$"):
        _ = door.max_model_bytes
    (tmp_path / SETTINGS).write_text("{}")
    with pytest.raises(ProtocolError, match=r"^failed with ArtifactError; [^/]*$"):
        door.answer(DESCRIBE)
    assert load_failures(tmp_path)[0] == "train 1: DataError: expected 7 people"
    assert kinds(tmp_path) == NEW


def test_a_flood_of_strangers_leaves_a_few_entries(tmp_path: Path) -> None:
    """Ten an hour are for the auditor to see; the ledger does not grow with the rest."""
    clock = Clock()
    door = organisation(tmp_path, now=clock)
    for _ in range(STRANGERS_NOTED + 5):
        with pytest.raises(RequestRefused, match="a coordinator that is known"):
            door.answer(sealed(to_train(weights=b""), STRANGER))
    assert kinds(tmp_path) == [*NEW, *["refuse"] * STRANGERS_NOTED]
    clock.now += timedelta(hours=1)
    with pytest.raises(RequestRefused):
        door.answer(sealed(to_train(weights=b""), STRANGER))
    assert len(reasons(tmp_path)) == STRANGERS_NOTED + 1


def test_who_is_refused_too_often_is_not_heard_for_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator that asks for refusals fills no ledger, and keeps no other one out."""
    clock = Clock()
    door = organisation(tmp_path, now=clock, rules='models = ["base/8"]')
    for number in range(REFUSED_IN_AN_HOUR + 3):
        again = to_train(config=replace(CONFIG, seed=number), weights=b"")
        refusal = ask(door, again)
    assert refusal.refusal == "refused, or failed, 60 times within an hour"
    assert len(reasons(tmp_path)) == REFUSED_IN_AN_HOUR
    (tmp_path / POLICY).unlink()
    monkeypatch.setattr(Keeper, "train", quickly)
    assert ask(door, to_train()).refusal
    assert not ask(door, to_train(), OTHER).refusal
    clock.now += timedelta(hours=1)
    assert not ask(door, to_train()).refusal


def test_runs_that_fail_are_not_begun_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator that knows how to make us fail fills no disk with the runs it begins."""

    def failing(*_: object) -> TrainReply:
        raise DataError("expected public faces")

    door = organisation(tmp_path)
    monkeypatch.setattr(Keeper, "train", failing)
    for number in range(REFUSED_IN_AN_HOUR):
        with pytest.raises(ProtocolError, match="failed with DataError"):
            ask(door, to_train(config=replace(CONFIG, seed=number), weights=b""))
    last = to_train(config=replace(CONFIG, seed=REFUSED_IN_AN_HOUR), weights=b"")
    assert "times within an hour" in ask(door, last).refusal
    assert len(json.loads((tmp_path / asked.FILE).read_bytes())["runs"]) == REFUSED_IN_AN_HOUR


def test_two_keepers_never_train_on_one_charge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second process asked for the same round waits for the first, and gives its reply.

    Without that it would find an open charge, take it for one that a crash left, and release the
    round a second time for nothing.
    """
    one = organisation(tmp_path)
    two = Door(tmp_path, Clock())
    inside, go_on = threading.Event(), threading.Event()
    real, trained = steps.train_private, []

    def slowly(*arguments: object, **settings: object) -> object:
        trained.append(1)
        inside.set()
        assert go_on.wait(20)
        return real(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(steps, "train_private", slowly)
    replies = []
    threads = [
        threading.Thread(target=lambda door=door: replies.append(ask(door, to_train())))
        for door in (one, two)
    ]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    threads[1].join(0.5)
    assert threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert replies[0] == replies[1]
    assert (len(trained), kinds(tmp_path)) == (1, [*NEW, "reserve", "settle"])


def test_a_keeper_that_trains_still_says_who_it_is(tmp_path: Path) -> None:
    """Who asks for that does not wait for a round to end, nor takes the keeper for one away."""
    door = organisation(tmp_path)
    with (tmp_path / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert protocol.decode_description(door.answer(DESCRIBE)).organisation == "org"


def test_a_crash_in_the_middle_goes_on_with_its_charge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the charge: the same request, at a keeper started anew, pays nothing more."""
    door = organisation(tmp_path)

    def die(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(steps, "train_private", die)
        with pytest.raises(SystemExit):
            door.answer(sealed(to_train()))
    reply = ask(Door(tmp_path, Clock()), to_train())
    assert isinstance(reply, TrainReply)
    assert reply.update
    assert kinds(tmp_path) == [*NEW, "reserve", "note", "settle"]
    assert sum(ledger_of(tmp_path).steps.values()) == CONFIG.privacy.steps


def test_without_a_ledger_a_refusal_is_told_all_the_same(tmp_path: Path) -> None:
    """An organisation that trains openly has no auditor; its own log holds what was refused."""
    organisation(tmp_path / "with")
    folder = tmp_path / "without"
    settings = json.loads((tmp_path / "with" / SETTINGS).read_text())
    (folder / "coordinators").mkdir(parents=True)
    for name in ("organisation.key", "organisation.pub", "coordinators/one.pub"):
        (folder / name).write_bytes((tmp_path / "with" / name).read_bytes())
        (folder / name).chmod(0o600)
    (folder / SETTINGS).write_text(json.dumps(settings | {"account": False}))
    door = Door(folder, Clock())
    with pytest.raises(RequestRefused):
        door.answer(sealed(to_train(weights=b""), STRANGER))
    (folder / POLICY).write_text("[requests]\nmin_participants = 4\n")
    assert ask(door, to_train(weights=b"")).by_rules
    assert len(load_failures(folder)) == 1
