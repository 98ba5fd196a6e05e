"""What a ledger's steps bound, without the word epsilon; and the same for more or less than a unit.

All figures are upper bounds on the best possible attacker, who knows everything but whether one
unit is in the data. With E = e^epsilon:

belief        prior odds of 1 : 1 become at most E : 1, that is E / (1 + E), but for delta
right         share of right guesses: (1 + total variation distance) / 2, and the distance is
              delta(0) of the privacy loss distribution
found         true positive rate at a false positive rate F: by the hypothesis-testing view of
              Kairouz et al. 2015, at most e^t F + delta(t) for every t, in both directions

Another unit than the ledger's:

photographs   where the unit is an image, each of a person's k photographs is sampled by itself, so
              a step moves by i C with the binomial probability of i of k: a mixture of Gaussians
              (Charles et al. 2024), which is tighter than k epsilon with its enormous delta
one of many   where the unit is a person, whose other photographs stay, one photograph swaps the
              person's gradient for another one: neighbours that replace, at 2 C, not add or remove
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import comb
from typing import Literal

import numpy as np
from dp_accounting import NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution as losses

from veilface_common.budget.accountant import privacy_loss
from veilface_common.budget.events import Mechanism, Unit

PHOTOGRAPHS = (2, 5, 20)  # of a person, where the unit is an image
_GRID, _POINTS = 1e-2, 20_000  # a step's losses are rounded up to a grid of so many points
_LARGEST = 50.0  # epsilon up to which bounds on detection are sought

Whose = Literal["person", "image", "image of several", "the same at two organisations"]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What nobody can do better, from what was released; shares in [0, 1]."""

    belief: float  # that a person is in the data, from a prior belief of one half
    right: float  # guesses whether a unit is in the data, where half of them are
    found_at_1_in_100: float  # of those in the data, where 1 in 100 others is wrongly named
    found_at_1_in_1000: float


@dataclass(frozen=True, kw_only=True)
class Translation:
    """The epsilon for somebody, or something, else than the ledger's unit."""

    whose: Whose
    images: int | None  # of that person; None: however many
    epsilon: float  # at the ledger's delta; at two organisations, at twice that


def bounds(steps: Mapping[Mechanism, int], epsilon: float) -> Bounds:
    """Return what the steps, of which `epsilon` is charged, bound."""
    belief = float(1 / (1 + np.exp(-epsilon)))
    if not any(steps.values()):
        return Bounds(belief=belief, right=0.5, found_at_1_in_100=0.01, found_at_1_in_1000=0.001)
    loss = privacy_loss(steps)
    return Bounds(
        belief=belief,
        right=(1 + min(1.0, float(loss.get_delta_for_epsilon(0.0)))) / 2,
        found_at_1_in_100=_found(loss, 0.01),
        found_at_1_in_1000=_found(loss, 0.001),
    )


def translations(
    unit: Unit, steps: Mapping[Mechanism, int], delta: float, epsilon: float
) -> tuple[Translation, ...]:
    """Return what `epsilon`, which is charged for `unit`, says of persons and of images."""
    found = _of_persons(steps, delta, epsilon)
    if unit == "image":
        found = _of_images(steps, delta, epsilon)
    return (
        *found,
        Translation(whose="the same at two organisations", images=None, epsilon=2 * epsilon),
    )


def _of_persons(
    steps: Mapping[Mechanism, int], delta: float, epsilon: float
) -> Sequence[Translation]:
    replaced = max(epsilon, _replaced(steps, delta))
    return [
        Translation(whose="person", images=None, epsilon=epsilon),
        Translation(whose="image", images=1, epsilon=epsilon),
        Translation(whose="image of several", images=None, epsilon=replaced),
    ]


def _of_images(
    steps: Mapping[Mechanism, int], delta: float, epsilon: float
) -> Sequence[Translation]:
    return [Translation(whose="image", images=1, epsilon=epsilon)] + [
        Translation(
            whose="person", images=count, epsilon=max(epsilon, _all_of(count, steps, delta))
        )
        for count in PHOTOGRAPHS
    ]


def _found(loss: losses.PrivacyLossDistribution, false_alarms: float) -> float:
    at = np.linspace(0, _LARGEST, 2001)
    delta = np.asarray(loss.get_delta_for_epsilon(at))
    forwards = np.exp(at) * false_alarms + delta
    backwards = 1 - (1 - false_alarms - delta) * np.exp(-at)
    return float(min(1.0, forwards.min(), backwards.min()))


def _replaced(steps: Mapping[Mechanism, int], delta: float) -> float:
    """Return the epsilon of swapping a unit for another one."""
    interval = _interval(steps, 2)
    return _epsilon(
        [
            losses.from_gaussian_mechanism(
                standard_deviation=mechanism.noise_multiplier,
                value_discretization_interval=interval,
                sampling_prob=mechanism.sample_rate,
                neighboring_relation=NeighboringRelation.REPLACE_ONE,
            ).self_compose(count)
            for mechanism, count in sorted(steps.items())
        ],
        delta,
    )


def _all_of(photographs: int, steps: Mapping[Mechanism, int], delta: float) -> float:
    """Return the epsilon of adding or removing so many units at once, each sampled by itself."""
    interval = _interval(steps, photographs)
    return _epsilon(
        [
            losses.from_mixture_gaussian_mechanism(
                standard_deviation=mechanism.noise_multiplier,
                sensitivities=[float(taken) for taken in range(photographs + 1)],
                sampling_probs=_binomial(mechanism, photographs),
                value_discretization_interval=interval,
            ).self_compose(count)
            for mechanism, count in sorted(steps.items())
        ],
        delta,
    )


def _interval(steps: Mapping[Mechanism, int], sensitivity: int) -> float:
    """Return a grid that holds the losses of the least noise in a number of points that fits."""
    ratio = max((sensitivity / mechanism.noise_multiplier for mechanism in steps), default=0.0)
    return max(_GRID, (ratio**2 / 2 + 10 * ratio) / _POINTS)


def _epsilon(parts: Sequence[losses.PrivacyLossDistribution], delta: float) -> float:
    if not parts:
        return 0.0
    total = reduce(lambda one, other: one.compose(other), parts)
    return max(0.0, float(total.get_epsilon_for_delta(delta)))


def _binomial(mechanism: Mechanism, photographs: int) -> list[float]:
    """Return how probable it is that a step takes 0, 1, ... of so many photographs."""
    rate = mechanism.sample_rate
    return [
        comb(photographs, taken) * rate**taken * (1 - rate) ** (photographs - taken)
        for taken in range(photographs + 1)
    ]
