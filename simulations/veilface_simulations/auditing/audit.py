"""One audit: the claim, what canaries show of it, and the exact tests.

The exit code and the verdict follow from `Record.passed` alone: every test holds, and what was
measured is below what is claimed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from veilface_common.budget.accountant import calibrate_noise
from veilface_common.budget.events import Unit
from veilface_common.config import ModelConfig, PrivacyConfig, RunConfig
from veilface_common.errors import ConfigError
from veilface_simulations.auditing.bound import measure
from veilface_simulations.auditing.canaries import Plan, Run, run_canaries
from veilface_simulations.auditing.faults import FAULTS, SHIPPED, Fault
from veilface_simulations.auditing.mechanism import (
    TESTS,
    TESTS_OF,
    check_mechanism,
    check_run,
    check_step,
)
from veilface_simulations.auditing.membership import attack
from veilface_simulations.auditing.record import Audited, Check, Claimed, Record
from veilface_simulations.auditing.subject import Subject, subject_of

LEAST_CANARIES = 20
_CLIP = 0.5  # below every canary's gradient: all are clipped
_ROWS = 1024
_LEARNING_RATE = 0.5  # a round then moves the weights by about a fiftieth of themselves

Progress = Callable[[str, int, int], None]  # (what, done, in all)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is audited where no run is named, and how closely."""

    canaries: int = 1000
    steps: int = 2
    epsilon: float = 2.0  # that noise is made for; what is claimed is what the ledger says
    delta: float = 1e-5
    unit: Unit = "identity"
    sample_rate: float = 1.0  # 1: the claim rests on clipping and noise alone
    seed: int = 0
    broken: str | None = None  # one of `FAULTS`

    def __post_init__(self) -> None:
        verify_closeness(self.canaries, self.steps, self.seed)
        if self.broken is not None and self.broken not in FAULTS:
            raise ConfigError(f"expected one of {', '.join(FAULTS)} to break, got {self.broken!r}")

    @property
    def fault(self) -> Fault:
        """What is planted."""
        return SHIPPED if self.broken is None else FAULTS[self.broken]


def verify_closeness(canaries: int, steps: int, seed: int) -> None:
    """Do nothing if an audit can be made so closely.

    Raises:
        ConfigError: it cannot.
    """
    if canaries < LEAST_CANARIES:
        raise ConfigError(
            f"expected at least {LEAST_CANARIES} canaries, got {canaries}",
            hint="few canaries show nothing: 1,000 can show an epsilon of 5.6 at most",
        )
    if steps < 1 or seed < 0:
        raise ConfigError(f"expected a step at least and a seed from 0, got {steps} and {seed}")


@dataclass(frozen=True, kw_only=True)
class Target:
    """The steps that an audit repeats, and what is known of the plan that they are of."""

    subject: Subject  # of one step
    plan: Plan
    planned_steps: int
    run_epsilon: float | None = None  # what a run claims; None: the step at its defaults
    broken: str | None = None

    def checks(self) -> Iterator[Check]:
        """Run the tests that need no canaries."""
        if self.run_epsilon is not None:
            return check_step(self.subject)
        private = self.subject.plan
        seed = self.plan.seed
        return check_mechanism(self.subject.fault, private.unit, seed, private.sample_rate)

    @property
    def tests(self) -> int:
        """How many `checks` gives."""
        return TESTS if self.run_epsilon is None else TESTS_OF[self.subject.config.privacy.method]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found, and the run that most of it was found in."""

    record: Record
    run: Run


def audit(target: Target, progress: Progress) -> Audit:
    """Run the canaries and every test.

    Raises:
        BudgetError: the audited steps alone cost more than the plan allows.
    """
    plan = target.plan
    with tempfile.TemporaryDirectory() as folder:
        run = run_canaries(
            target.subject,
            plan,
            Path(folder),
            lambda done, total: progress("canaries", done, total),
        )
    checks = []
    for check in target.checks():
        checks.append(check)
        progress("exact tests", len(checks), target.tests)
    record = Record(
        audited=_audited(target),
        claimed=Claimed(epsilon=run.claimed, delta=plan.delta, unit=target.subject.plan.unit),
        measured=measure(run.scores, run.included, plan.delta),
        membership=attack(run.loss_drops, run.included, epsilon=run.claimed, delta=plan.delta),
        contribution=run.contribution,
        checks=(*checks, *check_run(run)),
        broken=target.broken,
    )
    return Audit(record=record, run=run)


def target_at_defaults(settings: Settings) -> Target:
    """Return a private step that is cheap, and hard to hide in.

    Only the projection is trained, against the fixed bank: one pass over a canary then is a third
    of the work, and what is clipped, summed, noised and charged is the same program.

    Raises:
        ConfigError: a setting is out of range.
        BudgetError: no noise keeps so many steps at epsilon.
    """
    noise = calibrate_noise(settings.sample_rate, settings.steps, settings.delta, settings.epsilon)
    privacy = PrivacyConfig(
        unit=settings.unit,
        sample_rate=settings.sample_rate,
        noise_multiplier=noise,
        max_gradient_norm=_CLIP,
        steps=1,
        head="fixed",
        rows=_ROWS,
        trained="projection",
    )
    config = RunConfig(
        seed=settings.seed, device="cpu", precision="fp32", model=ModelConfig(), privacy=privacy
    )
    return Target(
        subject=subject_of(config, settings.fault, settings.canaries),
        plan=Plan(
            canaries=settings.canaries,
            learning_rates=(_LEARNING_RATE,) * settings.steps,
            epsilon=settings.epsilon,
            delta=settings.delta,
            seed=settings.seed,
        ),
        planned_steps=settings.steps,
        broken=settings.broken,
    )


def _audited(target: Target) -> Audited:
    private, config = target.subject.plan, target.subject.config
    return Audited(
        method=config.privacy.method,
        head=config.privacy.head,
        trained=config.privacy.trained,
        model=config.model.name,
        sample_rate=private.sample_rate,
        noise_multiplier=private.noise_multiplier,
        max_gradient_norm=private.max_gradient_norm,
        steps=target.plan.steps,
        planned_steps=target.planned_steps,
        run_epsilon=target.run_epsilon,
        seed=target.plan.seed,
    )
