"""What is done to a run, and when; what must come of it is the same for all: see `test_drill`."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from tests.drill.disk import full
from tests.drill.federation import Federation, Organisation
from tests.drill.services import kill, wait_until
from tests.drill.stages import (
    COURIER,
    await_ended,
    await_recorded,
    reply_held,
    training_held,
)

Disturb = Callable[[Federation, str], None]
Victim = Callable[[Federation, Organisation], None]
Stage = Callable[[Organisation, str], AbstractContextManager[None]]
TRAINING, KEPT = "an organisation trains", "reply kept, not sent"
RECORDED, WAITING = "a round is recorded", "the coordinator waits"
_SHORT_CUT_SECONDS = 25.0
_FULL_SECONDS = 15.0
_RESTART_SECONDS = 1.0  # after which a service manager starts what died
_ALL: dict[str, object] = {"federation.min-replies": 3}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to disturb a run."""

    case: str
    stage: str
    disturb: Disturb
    settings: dict[str, object] = field(default_factory=dict)
    fails_with: str = ""  # in the reason that the operator is given, who then resumes
    may_leave_out: bool = False

    @property
    def name(self) -> str:
        """As pytest prints it."""
        return f"{self.case}, {self.stage}".replace(" ", "-").replace(",", "")


def coordinator(federation: Federation, _: Organisation) -> None:
    """Kill all of it; the service manager starts it again."""
    federation.coordinator.kill()
    time.sleep(_RESTART_SECONDS)
    federation.coordinator.start()


def start_alone(federation: Federation, _: Organisation) -> None:
    """Kill `veilface-server start` without what it started."""
    federation.coordinator.kill(alone=True)
    time.sleep(_RESTART_SECONDS)
    federation.coordinator.start()


def part_of_coordinator(word: str) -> Victim:
    """Return what kills a part of the coordinator, which is started again by the coordinator."""
    return lambda federation, _: kill(federation.coordinator.of(word))


def keeper(_: Federation, organisation: Organisation) -> None:
    """Kill an organisation's keeper."""
    organisation.keeper.kill()
    time.sleep(_RESTART_SECONDS)
    organisation.keeper.start()


def node(_: Federation, organisation: Organisation) -> None:
    """Kill all of an organisation's node."""
    organisation.node.kill()
    time.sleep(_RESTART_SECONDS)
    organisation.node.start()


def supernode(_: Federation, organisation: Organisation) -> None:
    """Kill Flower's part of a node."""
    kill(organisation.node.of("flower-supernode"))


def courier(_: Federation, organisation: Organisation) -> None:
    """Kill what carries the message."""
    kill(organisation.node.of(COURIER))


def machine(_: Federation, organisation: Organisation) -> None:
    """Cut the power of an organisation's machine."""
    kill([*organisation.keeper.everything, *organisation.node.everything])
    time.sleep(_RESTART_SECONDS)
    organisation.keeper.start()
    organisation.node.start()


def everything(federation: Federation, _: Organisation) -> None:
    """Cut the power of all machines."""
    kill([process for service in federation.services for process in service.everything])
    time.sleep(_RESTART_SECONDS)
    for service in federation.services:
        service.start()


def at(stage: Stage, victim: Victim, name: str = "bank") -> Disturb:
    """Return what falls on a victim while an organisation is at a stage of the first round."""

    def disturb(federation: Federation, run: str) -> None:
        organisation = federation.organisations[name]
        with stage(organisation, run):
            victim(federation, organisation)

    return disturb


def after_round(victim: Victim) -> Disturb:
    """Return what falls on a victim as soon as the first round is recorded."""

    def disturb(federation: Federation, run: str) -> None:
        await_recorded(federation, run, 1)
        victim(federation, federation.organisations["bank"])

    return disturb


def together(*blows: Disturb) -> Disturb:
    """Return what lets several blows fall in one run: Flower's minute is waited for once."""

    def disturb(federation: Federation, run: str) -> None:
        with ThreadPoolExecutor(len(blows)) as threads:
            for done in [threads.submit(blow, federation, run) for blow in blows]:
                done.result()

    return disturb


def short_cut(federation: Federation, run: str) -> None:
    """Pull the cable while the bank trains, and plug it in again soon."""
    with training_held(federation.organisations["bank"], run):
        federation.cable.pull()
    time.sleep(_SHORT_CUT_SECONDS)
    federation.cable.plug()


def long_cut(federation: Federation, run: str) -> None:
    """Pull the cable while the bank trains, until the round has gone on without it."""
    with training_held(federation.organisations["bank"], run):
        federation.cable.pull()
    await_recorded(federation, run, 1)
    federation.cable.plug()


def full_ledger(federation: Federation, run: str) -> None:
    """Leave the school room for the note that it was asked, and none for the charge."""
    training = federation.organisations["school"].training
    note = training / "asked.json"
    with full(training, leaving=note.stat().st_size + 512):
        await_ended(federation, run)


def full_reply(federation: Federation, run: str) -> None:
    """Fill the school's disk while it trains."""
    school = federation.organisations["school"]
    with ExitStack() as filled:
        with training_held(school, run):
            filled.enter_context(full(school.training))
        await_ended(federation, run)


def full_run(federation: Federation, run: str) -> None:
    """Fill the disk of the coordinator's runs while it waits for the bank."""
    with ExitStack() as filled:
        with training_held(federation.organisations["bank"], run):
            filled.enter_context(full(federation.home.runs))
        gone = "the ServerApp cannot write its round"
        wait_until(lambda: not federation.coordinator.of("flwr-serverapp"), gone)
        time.sleep(_FULL_SECONDS)


SUPERLINK = part_of_coordinator("flower-superlink")
PROXY = part_of_coordinator("veilface_server.proxy_process")
SERVERAPP = part_of_coordinator("flwr-serverapp")
STAGES: dict[str, Stage] = {
    TRAINING: training_held,
    WAITING: training_held,
    KEPT: reply_held,
}


def killed(what: str, stage: str, victim: Victim) -> Case:
    """Return a case of `kill -9`."""
    disturb = after_round(victim) if stage == RECORDED else at(STAGES[stage], victim)
    return Case(case=f"kill -9: {what}", stage=stage, disturb=disturb)


def killed_at_two(what: str, victim: Victim, other: Victim, other_stage: str) -> Case:
    """Return a case of `kill -9` at two organisations, the first of which trains."""
    blows = at(training_held, victim), at(STAGES[other_stage], other, "shop")
    stage = TRAINING if other_stage == TRAINING else f"{TRAINING}; another: {other_stage}"
    return Case(case=f"kill -9: {what}", stage=stage, disturb=together(*blows))


CASES = (
    Case(case="nothing", stage="", disturb=lambda _, __: None),
    killed("coordinator, all of it", WAITING, coordinator),
    killed("coordinator, all of it", KEPT, coordinator),
    killed("coordinator, all of it", RECORDED, coordinator),
    killed("`start` alone", WAITING, start_alone),
    killed("SuperLink", WAITING, SUPERLINK),
    killed("SuperLink", RECORDED, SUPERLINK),
    killed("proxy", WAITING, PROXY),
    killed("proxy", KEPT, PROXY),
    killed("ServerApp", WAITING, SERVERAPP),
    killed("ServerApp", RECORDED, SERVERAPP),
    killed("keeper", TRAINING, keeper),
    killed("keeper", KEPT, keeper),
    killed("keeper", RECORDED, keeper),
    killed_at_two("couriers of two", courier, courier, KEPT),
    killed_at_two("nodes of two, all of them", node, node, KEPT),
    killed_at_two("SuperNode; another's keeper and node", supernode, machine, TRAINING),
    killed("all processes of all", TRAINING, everything),
    Case(case="cable pulled for 25 s", stage=TRAINING, disturb=short_cut),
    Case(
        case="cable pulled until given up",
        stage=TRAINING,
        disturb=long_cut,
        settings={"federation.away-seconds": 20.0},
        may_leave_out=True,
    ),
    Case(
        case="disk full: ledger",
        stage="an organisation charges",
        disturb=full_ledger,
        settings=_ALL,
        fails_with="failed with LedgerError",
    ),
    Case(
        case="disk full: reply",
        stage=TRAINING,
        disturb=full_reply,
        settings=_ALL,
        fails_with="failed with OSError",
    ),
    Case(case="disk full: coordinator's runs", stage=WAITING, disturb=full_run),
)
