"""How the federation stands, as far as its coordinator knows: data for `status`.

Of budgets the coordinator knows what its own runs asked for: the plan, times the rounds in which an
organisation took part. What it spent on others, only its own ledger says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from veilface_common.config import PrivacyConfig
from veilface_common.errors import EngineError
from veilface_server import runs
from veilface_server.checkpoint import RoundRecord, load_records
from veilface_server.home import Home, Settings
from veilface_server.link import link_pid
from veilface_server.nodes import node_states
from veilface_server.register import Member, load_members
from veilface_server.runs import Run, load_runs


@dataclass(frozen=True, kw_only=True)
class MemberStanding:
    """One organisation."""

    name: str
    status: str
    presence: str  # of its node: online, offline, registered (never seen); empty: not known
    software: str
    left_out: str  # why, in the last round that it was left out of; empty: it took part since


@dataclass(frozen=True, kw_only=True)
class BudgetStanding:
    """What a run has asked of one organisation so far."""

    organisation: str
    rounds: int
    spent: float  # epsilon


@dataclass(frozen=True, kw_only=True)
class RunStanding:
    """One run."""

    id: str
    state: str
    asked: str
    rounds: int
    rounds_done: int
    waiting_for: tuple[str, ...]
    error: str
    epsilon: float  # planned; 0: without privacy
    delta: float
    unit: str
    budgets: tuple[BudgetStanding, ...]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The federation."""

    name: str
    address: str
    process: int | None
    trouble: str
    members: tuple[MemberStanding, ...]
    runs: tuple[RunStanding, ...]


def standing_of(home: Home, settings: Settings) -> Standing:
    """Return how the federation stands; Flower is asked who is there, which takes two seconds."""
    process = link_pid(home)
    states: dict[str, str] = {}
    trouble = ""
    if process is not None:
        try:
            states = node_states(home)
        except EngineError as error:
            trouble = str(error)
    known = load_runs(home)
    records = {run.id: load_records(runs.folder_of(home, run.id)) for run in known}
    every = [record for run in known for record in records[run.id]]
    return Standing(
        name=settings.name,
        address=settings.address,
        process=process,
        trouble=trouble,
        members=tuple(
            _member(member, states, every) for member in load_members(home.folder).values()
        ),
        runs=tuple(_run(home, run, records[run.id]) for run in known),
    )


def _member(
    member: Member, states: dict[str, str], records: Sequence[RoundRecord]
) -> MemberStanding:
    left_out = ""
    for record in records:
        if member.name in record.accepted:
            left_out = ""
        left_out = record.left_out.get(member.name, left_out)
    return MemberStanding(
        name=member.name,
        status=member.status,
        presence=states.get(member.node_id, "") if member.status == "member" else "",
        software=member.software,
        left_out=left_out,
    )


def _run(home: Home, run: Run, records: Sequence[RoundRecord]) -> RunStanding:
    config = run.config
    outcome = runs.load_outcome(runs.folder_of(home, run.id))
    is_waiting = run.state == "running" and outcome is not None and outcome.state == "waiting"
    return RunStanding(
        id=run.id,
        state=run.state,
        asked=run.asked,
        rounds=config.federation.rounds,
        rounds_done=records[-1].round if records else 0,
        waiting_for=outcome.waiting_for if is_waiting and outcome is not None else (),
        error=run.error if run.state != "finished" else "",
        epsilon=run.epsilon,
        delta=run.delta,
        unit=config.privacy.unit,
        budgets=_budgets(config.privacy, run.delta, records),
    )


def _budgets(
    privacy: PrivacyConfig, delta: float, records: Sequence[RoundRecord]
) -> tuple[BudgetStanding, ...]:
    if privacy.unit == "none" or not records:
        return ()
    from veilface_common.budget.accountant import epsilon  # noqa: PLC0415 -- takes seconds
    from veilface_common.budget.events import Mechanism  # noqa: PLC0415 -- the same

    mechanism = Mechanism(
        sample_rate=privacy.sample_rate, noise_multiplier=privacy.noise_multiplier
    )
    counts: dict[str, int] = {}
    for record in records:
        for name in record.accepted:
            counts[name] = counts.get(name, 0) + 1
    spent = {
        count: epsilon({mechanism: count * privacy.steps}, delta).charged
        for count in set(counts.values())
    }
    return tuple(
        BudgetStanding(organisation=name, rounds=count, spent=spent[count])
        for name, count in sorted(counts.items())
    )
