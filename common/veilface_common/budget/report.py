"""The privacy budget of a data set as one value: what was spent, on what, and what it means.

`read_report` verifies a ledger and adds it up; `to_json` writes the result as docs/budget-report.md
has it. Epsilons are those of `accountant.epsilon` over all charges: reservations, settled or not,
and releases of figures; a mean of epsilons means nothing and stands nowhere.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from veilface_common.budget.accountant import Epsilon, epsilon, largest_steps
from veilface_common.budget.entries import Head
from veilface_common.budget.events import Event, Mechanism, Unit, total_steps
from veilface_common.budget.history import (
    History,
    Note,
    PolicyChange,
    Refused,
    Released,
    Reserved,
    read_history,
)
from veilface_common.budget.meaning import Bounds, Translation, bounds, translations
from veilface_common.budget.policy import Policy
from veilface_common.budget.statements import (
    Statement,
    all_statements,
    in_plain_words,
    warnings,
)
from veilface_common.crypto.signing import VerifyKey
from veilface_common.errors import BudgetExceeded

SCHEMA = 1
_POINTS = 120  # of the curve, at most


@dataclass(frozen=True, kw_only=True)
class Steps:
    """All steps of one mechanism: what composition depends on, and an auditor needs."""

    sample_rate: float
    noise_multiplier: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run's reservations had in common; None: not recorded."""

    mechanism: Mechanism
    max_gradient_norm: float | None
    images_per_unit: int | None
    units_declared: int | None
    head: str | None
    trained: str | None
    random: str | None
    reservations: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """The charges that name the same run: reservations, and releases of figures."""

    name: str | None
    first: str  # time of its first charge
    last: str
    reservations: int
    releases: int
    rounds: int | None  # planned
    steps: int  # of training
    plans: tuple[Plan, ...]
    sent: int
    failed: int
    unsettled: int
    epsilon: Epsilon  # of its own charges alone
    cumulative: Epsilon  # of all charges up to its last


@dataclass(frozen=True, kw_only=True)
class Release:
    """Figures that left, and what they cost."""

    released: Released
    alone: Epsilon  # of this release, had there been nothing else
    more: float  # by so much less would be spent without it


@dataclass(frozen=True, kw_only=True)
class Point:
    """The budget right after an entry, at the delta of the policy now in force."""

    sequence: int
    time: str
    epsilon: float  # charged
    limit: float  # of the policy then in force


@dataclass(frozen=True, kw_only=True)
class Remaining:
    """What the policy in force still allows."""

    epsilon: float  # limit minus charged, at least 0; epsilons of steps do not simply add up
    plan: Event | None  # the newest reservation's
    steps: int | None  # that it still buys of that plan; None without one
    rounds: int | None  # of as many steps as that reservation's
    reason: str | None  # why the policy refuses the plan, whatever was spent


@dataclass(frozen=True, kw_only=True)
class BudgetReport:
    """Everything that the page shows."""

    written: str  # ISO 8601, UTC
    organisation: str
    commitment: str | None
    people_declared: int | None
    images_declared: int | None
    started: str
    entries: int
    head: Head
    first_key: str  # fingerprint of the key that the ledger began with
    key: str  # of the key in force
    unit: Unit
    policy: Policy  # in force
    spent: Epsilon
    plain_words: str  # a paragraph: what this epsilon bounds
    bounds: Bounds
    translations: tuple[Translation, ...]
    remaining: Remaining
    steps: tuple[Steps, ...]
    runs: tuple[Run, ...]  # in the order of their first charges
    releases: tuple[Release, ...]
    curve: tuple[Point, ...]
    unsettled: tuple[Reserved, ...]
    refused: tuple[Refused, ...]
    policies: tuple[PolicyChange, ...]
    notes: tuple[Note, ...]
    warnings: tuple[str, ...]
    statements: Mapping[str, Sequence[Statement]]
    accountants: Mapping[str, str]  # {package: version}


def read_report(ledger: Path, key: VerifyKey, written: str) -> BudgetReport:
    """Return the report on a ledger, as of the time `written`.

    Args:
        ledger: the SQLite file.
        key: the public key that it began with.
        written: ISO 8601, UTC.

    Raises:
        LedgerError: the ledger cannot be read, or is not whole, unaltered and signed.
    """
    return report_of(read_history(ledger, key), key, written)


def report_of(history: History, key: VerifyKey, written: str) -> BudgetReport:
    """Return the report on a history that was verified with `key`."""
    policy, steps = history.policies[-1].policy, history.state.steps
    spent = epsilon(steps, policy.delta)
    limits = bounds(steps, spent.charged)
    return BudgetReport(
        written=written,
        organisation=history.organisation,
        commitment=history.commitment,
        people_declared=history.people_declared,
        images_declared=history.images_declared,
        started=history.started,
        entries=history.state.head.sequence,
        head=history.state.head,
        first_key=key.fingerprint,
        key=history.state.key.fingerprint,
        unit=policy.unit,
        policy=policy,
        spent=spent,
        plain_words=in_plain_words(history, spent.charged, limits),
        bounds=limits,
        translations=translations(policy.unit, steps, policy.delta, spent.charged),
        remaining=_remaining(history, policy, spent),
        steps=tuple(_steps(mechanism, count) for mechanism, count in sorted(steps.items())),
        runs=_runs(history.charges, policy.delta),
        releases=_releases(history, policy.delta, spent),
        curve=_curve(history, policy.delta),
        unsettled=tuple(charge for charge in history.reserved if not charge.settled),
        refused=history.refused,
        policies=history.policies,
        notes=history.notes,
        warnings=warnings(history, spent.charged),
        statements=all_statements(history),
        accountants={name: version(name) for name in ("opacus", "dp-accounting")},
    )


def to_json(report: BudgetReport) -> dict[str, object]:
    """Return the report as JSON holds it; a figure that is not finite is null."""
    body = {field.name: _json(getattr(report, field.name)) for field in dataclasses.fields(report)}
    return {"schema": SCHEMA, **body}


def _json(value: object) -> object:
    if isinstance(value, Epsilon):
        return {"charged": _json(value.charged), "rdp": _json(value.rdp), "pld": _json(value.pld)}
    if dataclasses.is_dataclass(value):
        return {
            field.name: _json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {name: _json(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _steps(mechanism: Mechanism, count: int) -> Steps:
    return Steps(
        sample_rate=mechanism.sample_rate,
        noise_multiplier=mechanism.noise_multiplier,
        steps=count,
    )


def _remaining(history: History, policy: Policy, spent: Epsilon) -> Remaining:
    left = max(0.0, policy.epsilon - spent.charged)
    if not history.reserved:
        return Remaining(epsilon=left, plan=None, steps=None, rounds=None, reason=None)
    plan = history.reserved[-1].event
    try:
        policy.verify_allows(plan)
    except BudgetExceeded as refusal:
        return Remaining(epsilon=left, plan=plan, steps=0, rounds=0, reason=str(refusal))
    more = largest_steps(history.state.steps, plan.mechanism, policy.delta, policy.epsilon)
    return Remaining(epsilon=left, plan=plan, steps=more, rounds=more // plan.steps, reason=None)


def _runs(charges: Sequence[Reserved | Released], delta: float) -> tuple[Run, ...]:
    """Return the runs; a run's own epsilon and the one so far are of other steps, never added."""
    grouped: dict[str | None, list[Reserved | Released]] = {}
    for charge in charges:
        grouped.setdefault(charge.run, []).append(charge)
    return tuple(_run(own, charges, delta) for own in grouped.values())


def _run(
    own: Sequence[Reserved | Released], charges: Sequence[Reserved | Released], delta: float
) -> Run:
    last = own[-1]
    until = (charge.event for charge in charges if charge.sequence <= last.sequence)
    reserved = [charge for charge in own if isinstance(charge, Reserved)]
    return Run(
        name=last.run,
        first=own[0].time,
        last=last.time,
        reservations=len(reserved),
        releases=len(own) - len(reserved),
        rounds=reserved[-1].rounds if reserved else None,
        steps=sum(charge.event.steps for charge in reserved),
        plans=_plans(reserved),
        sent=sum(charge.outcome == "sent" for charge in reserved),
        failed=sum(charge.outcome == "failed" for charge in reserved),
        unsettled=sum(not charge.settled for charge in reserved),
        epsilon=epsilon(total_steps(charge.event for charge in own), delta),
        cumulative=epsilon(total_steps(until), delta),
    )


def _releases(history: History, delta: float, spent: Epsilon) -> tuple[Release, ...]:
    """Return each release with its price; those of one mechanism have the same."""
    prices: dict[Mechanism, tuple[Epsilon, float]] = {}
    for released in history.released:
        mechanism = released.event.mechanism
        if mechanism not in prices:
            others = dict(history.state.steps)
            others[mechanism] -= 1
            more = spent.charged - epsilon(others, delta).charged
            prices[mechanism] = epsilon({mechanism: 1}, delta), more
    return tuple(
        Release(released=item, alone=alone, more=more)
        for item in history.released
        for alone, more in [prices[item.event.mechanism]]
    )


def _plans(charges: Sequence[Reserved]) -> tuple[Plan, ...]:
    """Return the different plans of the charges, with how often and how long each was used."""
    plans: dict[Plan, Plan] = {}
    for charge in charges:
        plan = Plan(
            mechanism=charge.event.mechanism,
            max_gradient_norm=charge.max_gradient_norm,
            images_per_unit=charge.images_per_unit,
            units_declared=charge.units_declared,
            head=charge.head,
            trained=charge.trained,
            random=charge.random,
            reservations=0,
            steps=0,
        )
        known = plans.get(plan, plan)
        plans[plan] = dataclasses.replace(
            known,
            reservations=known.reservations + 1,
            steps=known.steps + charge.event.steps,
        )
    return tuple(plans.values())


def _curve(history: History, delta: float) -> tuple[Point, ...]:
    """Return the budget after evenly chosen charges, the first and the last, and now."""
    charges = history.charges
    shown = {round(index * (len(charges) - 1) / max(1, _POINTS - 1)) for index in range(_POINTS)}
    if len(charges) <= _POINTS:
        shown = set(range(len(charges)))
    steps: dict[Mechanism, int] = {}
    points = []
    for index, charge in enumerate(charges):
        mechanism = charge.event.mechanism
        steps[mechanism] = steps.get(mechanism, 0) + charge.event.steps
        if index in shown:
            points.append(
                Point(
                    sequence=charge.sequence,
                    time=charge.time,
                    epsilon=epsilon(steps, delta).charged,
                    limit=_limit(history.policies, charge.sequence),
                )
            )
    now = history.state.head.sequence
    if points and points[-1].sequence < now:
        limit = history.policies[-1].policy.epsilon
        points.append(
            dataclasses.replace(points[-1], sequence=now, time=history.newest, limit=limit)
        )
    return tuple(points)


def _limit(policies: Sequence[PolicyChange], sequence: int) -> float:
    """Return the largest epsilon that was allowed when that entry was written."""
    return [change.policy.epsilon for change in policies if change.sequence < sequence][-1]
