"""The plan of a run, to be audited: its network, its start, its step and what it claims.

Left as they are: unit, method, head, what is trained, clipping norm, noise, sampling rate, learning
rate, augmentation. Made plain, as it is computed from releases alone or touches nobody: momentum
and averaging of an organisation, public faces beside the private ones (the head's public people are
patterns), several organisations, bf16. Every step is released by itself, which tells more than a
round does.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from veilface_common.config import RunConfig
from veilface_common.errors import ConfigError
from veilface_server.checkpoint import load_initial
from veilface_simulations.auditing.audit import Target, verify_closeness
from veilface_simulations.auditing.canaries import Plan, method_of
from veilface_simulations.auditing.faults import SHIPPED, Fault
from veilface_simulations.auditing.subject import subject_of
from veilface_simulations.experiment import load_experiment
from veilface_simulations.results import load_result
from veilface_simulations.training import arm_config
from veilface_simulations.world import Federation

CANARIES = 1000
_PASSES = 6000  # over a canary, where it is not said how many steps: minutes on one core
_MOST_NUMBERS = 600_000_000  # of all canaries' contributions, float32: 2.4 GB


def target_of_run(
    folder: Path,
    *,
    canaries: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    fault: Fault = SHIPPED,
) -> Target:
    """Return the first steps of the run in `folder`.

    Args:
        folder: of a run that has ended.
        canaries: how many; None: 1,000, or as many as memory holds.
        steps: how many of the run's; None: as many as take minutes.
        seed: of patterns, coins and noise.
        fault: planted in the step; only a test of the audit does.

    Raises:
        ArtifactError: there is no run that has ended, or its start cannot be read.
        ConfigError: it did not train privately, or cannot be audited so closely.
    """
    experiment, _ = load_experiment(folder)
    arm = load_result(folder).federated
    if not experiment.is_private or arm is None or arm.privacy is None:
        raise ConfigError(
            f"expected a run that trained privately in {folder}, got one without privacy",
            hint="train with --privacy identity; without --run the usual step is audited",
        )
    federation = Federation(arm="federated", organisation=None, members={}, folder=folder)
    config = arm_config(experiment, federation)
    initial = load_initial(federation.server, config.initial) if config.initial else None
    rates = _learning_rates(config)
    plain = _plain(config)
    size = method_of(subject_of(plain, fault, 1, initial), rates).size()
    canaries = _canaries(canaries, size)
    audited = _steps(steps, len(rates), canaries)
    verify_closeness(canaries, audited, seed)
    return Target(
        subject=subject_of(plain, fault, canaries, initial),
        plan=Plan(
            canaries=canaries,
            learning_rates=rates[:audited],
            epsilon=experiment.epsilon,
            delta=experiment.delta,
            seed=seed,
        ),
        planned_steps=len(rates),
        run_epsilon=arm.privacy.epsilon,
    )


def _learning_rates(config: RunConfig) -> tuple[float, ...]:
    """Return the learning rate of each step of the run."""
    rounds = range(1, config.federation.rounds + 1)
    rates = [config.learning_rate_in(number) for number in rounds]
    if config.privacy.method == "gradient" and not min(rates) > 0:
        raise ConfigError("expected a run that moves its weights, got a learning rate of 0")
    return tuple(rate for rate in rates for _ in range(config.privacy.steps))


def _plain(config: RunConfig) -> RunConfig:
    """Return the settings of one step, whose update tells the noised sum and no more."""
    privacy = replace(
        config.privacy, steps=1, optimizer="sgd", momentum=0.0, average=0.0, public_weight=0.0
    )
    return replace(config, device="cpu", precision="fp32", privacy=privacy)


def _canaries(wanted: int | None, size: int) -> int:
    most = min(_MOST_NUMBERS // size, size // 2)  # noise is told by what canaries do not span
    if wanted is not None and wanted > most:
        raise ConfigError(
            f"expected at most {most} canaries for {size:,} trained numbers, got {wanted}"
        )
    return min(CANARIES, most) if wanted is None else wanted


def _steps(wanted: int | None, planned: int, canaries: int) -> int:
    if wanted is not None and wanted > planned:
        raise ConfigError(f"expected at most the {planned} steps of the run, got {wanted}")
    return min(planned, max(1, _PASSES // canaries - 2)) if wanted is None else wanted
