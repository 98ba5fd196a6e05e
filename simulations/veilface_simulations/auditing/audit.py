"""One audit: the claim, what canaries show of it, and the exact tests.

The exit code and the verdict follow from `Audit.passed` alone: every test holds, and what was
measured is below what is claimed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from veilface_common import typed_json
from veilface_common.budget.accountant import calibrate_noise
from veilface_common.budget.events import Unit
from veilface_common.config import ModelConfig, PrivacyConfig, RunConfig
from veilface_common.errors import ConfigError
from veilface_simulations.auditing.bound import Measured, measure
from veilface_simulations.auditing.canaries import Plan, Run, run_canaries
from veilface_simulations.auditing.faults import FAULTS, SHIPPED, Fault
from veilface_simulations.auditing.mechanism import TESTS, Check, check_mechanism, check_run
from veilface_simulations.auditing.membership import Membership, attack
from veilface_simulations.auditing.subject import Subject, subject_of

SCHEMA = 1
LEAST_CANARIES = 20
_CLIP = 0.5  # below every canary's gradient: all are clipped
_ROWS = 1024

Progress = Callable[[str, int, int], None]  # (what, done, in all)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is audited, and how closely."""

    canaries: int = 1000
    steps: int = 2
    epsilon: float = 2.0  # that noise is made for; what is claimed is what the ledger says
    delta: float = 1e-5
    unit: Unit = "identity"
    seed: int = 0
    broken: str | None = None  # one of `FAULTS`

    def __post_init__(self) -> None:
        if self.canaries < LEAST_CANARIES:
            raise ConfigError(
                f"expected at least {LEAST_CANARIES} canaries, got {self.canaries}",
                hint="few canaries show nothing: 1,000 can show an epsilon of 5.6 at most",
            )
        if self.steps < 1 or self.seed < 0:
            raise ConfigError(
                f"expected a step at least and a seed from 0, got {self.steps} and {self.seed}"
            )
        if self.broken is not None and self.broken not in FAULTS:
            raise ConfigError(f"expected one of {', '.join(FAULTS)} to break, got {self.broken!r}")

    @property
    def fault(self) -> Fault:
        """What is planted."""
        return SHIPPED if self.broken is None else FAULTS[self.broken]


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """What the ledger of the run says."""

    epsilon: float
    delta: float
    unit: Unit


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found."""

    settings: Settings
    noise_multiplier: float
    claimed: Claimed
    measured: Measured
    membership: Membership
    checks: tuple[Check, ...]
    run: Run

    @property
    def passed(self) -> bool:
        """Whether nothing contradicts the claim."""
        below = self.measured.epsilon < self.claimed.epsilon
        return below and all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints; see docs/auditing.md."""
        return {
            "schema": SCHEMA,
            "claimed": typed_json.to_json(self.claimed),
            "measured": typed_json.to_json(self.measured),
            "membership": typed_json.to_json(self.membership),
            "checks": [typed_json.to_json(check) for check in self.checks],
            "broken": self.settings.broken,
            "verdict": "pass" if self.passed else "fail",
        }


def audit(settings: Settings, progress: Progress) -> Audit:
    """Run the canaries and every test.

    Raises:
        ConfigError: epsilon or delta are out of range.
        BudgetError: no noise keeps so many steps at epsilon.
    """
    subject = canary_subject(settings)
    plan = Plan(
        canaries=settings.canaries,
        steps=settings.steps,
        epsilon=settings.epsilon,
        delta=settings.delta,
        seed=settings.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = run_canaries(
            subject, plan, Path(folder), lambda done, total: progress("canaries", done, total)
        )
    checks = []
    for check in check_mechanism(settings.fault, settings.unit, settings.seed):
        checks.append(check)
        progress("exact tests", len(checks), TESTS)
    return Audit(
        settings=settings,
        noise_multiplier=subject.plan.noise_multiplier,
        claimed=Claimed(epsilon=run.claimed, delta=settings.delta, unit=settings.unit),
        measured=measure(run.scores, run.included, settings.delta),
        membership=attack(run.loss_drops, run.included, epsilon=run.claimed, delta=settings.delta),
        checks=(*checks, *check_run(run)),
        run=run,
    )


def canary_subject(settings: Settings) -> Subject:
    """Return the private step that canaries are run through: cheap, and hard to hide in.

    Only the projection is trained, against the fixed bank: one pass over a canary then is a third
    of the work, and what is clipped, summed, noised and charged is the same program.
    """
    noise = calibrate_noise(1.0, settings.steps, settings.delta, settings.epsilon)
    privacy = PrivacyConfig(
        unit=settings.unit,
        sample_rate=1.0,
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
    return subject_of(config, settings.fault, settings.canaries)
