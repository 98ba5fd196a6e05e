"""From events to epsilon, by two accountants that were written apart; the larger one counts.

RDP    Opacus: Renyi differential privacy of the sampled Gaussian (Mironov, Talwar and Zhang 2019),
       turned into (epsilon, delta) as in Balle et al. 2020, theorem 21
PLD    dp-accounting: privacy loss distributions (Doroshenko et al. 2022, connect the dots)

Both are upper bounds; PLD is the tighter. GDP's central limit is none (it under-states by up to
60%) and is not offered. Composition depends on how many steps of each mechanism there were, in
whatever order and over however many rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as losses
from numpy.typing import NDArray

from veilface_common.budget.events import MAX_STEPS, Mechanism
from veilface_common.errors import BudgetError


def _opacus_analysis() -> ModuleType:
    """Return Opacus's RDP analysis without Opacus, whose engine takes seconds to import."""
    package = find_spec("opacus")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0], "accountants", "analysis", "rdp.py")
    spec = spec_from_file_location("veilface_opacus_rdp", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


opacus_rdp = _opacus_analysis()
# Opacus's own (`RDPAccountant.DEFAULT_ALPHAS`), and larger ones, which small epsilons need
_DEFAULT_ALPHAS = (*(1 + tenths / 10 for tenths in range(1, 100)), *range(12, 64))
ORDERS = (*_DEFAULT_ALPHAS, 80, 100, 128, 180, 256, 360, 512)
# Where the best order is the first or the last, Opacus warns at the terminal, where nobody can
# help. One beyond each end, at an infinite cost, is never the best; `Epsilon.is_loose` says it.
_PADDED = (1.05, *ORDERS, 1024)
_MOST_NOISE, _LEAST_NOISE = 1_000_000, 100  # thousandths
GRID = (
    1e-3  # width of PLD's grid; losses are rounded up, against a grid of 1e-4 by under 1e-5 of it
)


@dataclass(frozen=True, kw_only=True)
class Epsilon:
    """What both accountants say."""

    rdp: float
    pld: float
    is_loose: bool = False  # `rdp`: best at an end of `ORDERS`, where others might give less

    @property
    def charged(self) -> float:
        """The figure that is enforced: the larger."""
        return max(self.rdp, self.pld)


def epsilon(steps: Mapping[Mechanism, int], delta: float) -> Epsilon:
    """Return the epsilon of all steps together at `delta`.

    Raises:
        BudgetError: delta is not in (0, 1).
    """
    if not 0 < delta < 1:
        raise BudgetError(f"expected delta in (0, 1), got {delta!r}")
    if not any(steps.values()):
        return Epsilon(rdp=0.0, pld=0.0)
    rdp, order = _rdp(steps, delta)
    is_loose = order in (ORDERS[0], ORDERS[-1])
    return Epsilon(rdp=rdp, pld=_pld(steps, delta), is_loose=is_loose)


def largest_steps(
    spent: Mapping[Mechanism, int], mechanism: Mechanism, delta: float, limit: float
) -> int:
    """Return how many more steps of `mechanism` keep the charged epsilon at or below `limit`."""

    def fits(more: int) -> bool:
        return _fits({**spent, mechanism: spent.get(mechanism, 0) + more}, delta, limit)

    return _largest(fits, MAX_STEPS)


def privacy_loss(steps: Mapping[Mechanism, int]) -> losses.PrivacyLossDistribution:
    """Return the privacy loss distribution of all steps together; there is at least one."""
    parts = [_composed(mechanism, count) for mechanism, count in sorted(steps.items()) if count]
    total = parts[0]
    for part in parts[1:]:
        total = total.compose(part)
    return total


def calibrate_noise(
    sample_rate: float,
    steps: int,
    delta: float,
    limit: float,
    beside: Mapping[Mechanism, int] | None = None,
) -> float:
    """Return the smallest noise multiplier, on a grid of 1e-3, that keeps `steps` at `limit`.

    Args:
        sample_rate: of the steps.
        steps: how many there will be.
        delta: at which epsilon is told.
        limit: epsilon of all of them, and of what is released beside them.
        beside: steps of other mechanisms.

    Raises:
        BudgetError: no noise multiplier up to 1,000 does.
    """
    others = beside or {}

    def is_too_little(thousandths: int) -> bool:
        if thousandths < _LEAST_NOISE:
            return True
        mechanism = Mechanism(sample_rate=sample_rate, noise_multiplier=thousandths / 1000)
        return not _fits({**others, mechanism: others.get(mechanism, 0) + steps}, delta, limit)

    # From 1 upwards: both accountants take long over much noise.
    found = 1 + _largest(is_too_little, _MOST_NOISE, guess=1000)
    if found > _MOST_NOISE:
        raise BudgetError(
            f"expected a plan of {steps} steps that fits epsilon {limit:g}, got none",
            hint="fewer steps, a smaller sample rate, or a larger epsilon",
        )
    return found / 1000


def _fits(steps: Mapping[Mechanism, int], delta: float, limit: float) -> bool:
    """Return whether both accountants stay at `limit`; the quicker one is asked first."""
    if not any(steps.values()):
        return True
    return _rdp(steps, delta)[0] <= limit and _pld(steps, delta) <= limit


def _largest(fits: Callable[[int], bool], most: int, guess: int = 1) -> int:
    """Return the largest number up to `most` that fits, given that all smaller ones do; 0 fits."""
    low, high = 0, max(1, guess)
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _rdp(steps: Mapping[Mechanism, int], delta: float) -> tuple[float, float]:
    """Return epsilon and the order that gives it; infinity and none where no order gives one."""
    total = np.zeros(len(ORDERS))
    for mechanism, count in steps.items():
        total += count * _rdp_of_a_step(mechanism)
    if not np.isfinite(total).any():
        return float("inf"), float("nan")
    padded = np.pad(total, 1, constant_values=np.inf)
    found, order = opacus_rdp.get_privacy_spent(orders=_PADDED, rdp=padded, delta=delta)
    return float(found), float(order)


@lru_cache(maxsize=256)
def _rdp_of_a_step(mechanism: Mechanism) -> NDArray[np.float64]:
    found = opacus_rdp.compute_rdp(
        q=mechanism.sample_rate,
        noise_multiplier=mechanism.noise_multiplier,
        steps=1,
        orders=ORDERS,
    )
    return np.asarray(found, np.float64)  # [orders]


def _pld(steps: Mapping[Mechanism, int], delta: float) -> float:
    return max(0.0, float(privacy_loss(steps).get_epsilon_for_delta(delta)))


@lru_cache(maxsize=512)
def _composed(mechanism: Mechanism, count: int) -> losses.PrivacyLossDistribution:
    return _of_a_step(mechanism).self_compose(count)


@lru_cache(maxsize=256)
def _of_a_step(mechanism: Mechanism) -> losses.PrivacyLossDistribution:
    return losses.from_gaussian_mechanism(
        standard_deviation=mechanism.noise_multiplier,
        sensitivity=1.0,
        value_discretization_interval=GRID,
        sampling_prob=mechanism.sample_rate,
        use_connect_dots=True,
    )
