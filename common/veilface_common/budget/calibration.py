"""How much noise a plan needs: the least that keeps all its rounds within a budget."""

from __future__ import annotations

from dataclasses import replace

from veilface_common.budget.accountant import calibrate_noise
from veilface_common.budget.events import Event, Mechanism, total_steps
from veilface_common.budget.policy import MAX_DELTA, MAX_EPSILON
from veilface_common.config import PrivacyConfig
from veilface_common.errors import BudgetError


def calibrated(
    config: PrivacyConfig, *, rounds: int, epsilon: float, delta: float
) -> PrivacyConfig:
    """Return `config` with the least noise that keeps all `rounds` at (epsilon, delta).

    What is released of figures beside them is paid out of the same budget.

    Raises:
        BudgetError: no noise does, or the budget is none that a policy may allow.
    """
    if not (0 < epsilon <= MAX_EPSILON and 0 < delta <= MAX_DELTA):  # and so no NaN
        raise BudgetError(
            f"expected epsilon in (0, {MAX_EPSILON:g}] and delta in (0, {MAX_DELTA:g}], "
            f"got {epsilon:g} and {delta:g}"
        )
    beside = total_steps([evaluation_event(config)] if config.releases_figures else [])
    noise = calibrate_noise(config.sample_rate, rounds * config.steps, delta, epsilon, beside)
    return replace(config, noise_multiplier=noise)


def evaluation_event(config: PrivacyConfig) -> Event:
    """Return what the ledger charges for the figures that `config` asks for.

    Raises:
        BudgetError: it asks for none.
    """
    if config.unit == "none" or not config.releases_figures:
        raise BudgetError("expected noise and a unit for figures that are to leave, got none")
    mechanism = Mechanism(sample_rate=1.0, noise_multiplier=config.evaluation_noise)
    return Event(unit=config.unit, mechanism=mechanism, steps=1)
