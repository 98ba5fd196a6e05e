"""What a model's manifest says of strangers: how alike two of them look to it.

It is measured on people whom nobody trained on. An organisation decides by it until it has people
enough to calibrate on itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RATES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5)
ENOUGH = 10  # pairs above a threshold, below which it says little


@dataclass(frozen=True, kw_only=True)
class Impostors:
    """False match rates and the cosines that give them, falling rates with rising cosines."""

    people: int
    pairs: int
    rates: tuple[float, ...]
    cosines: tuple[float, ...]

    def threshold(self, rate: float) -> tuple[float, float]:
        """Return (cosine, its false match rate): the rate asked for, or the least that is known.

        Between two known rates the stricter is taken.
        """
        for known, cosine in zip(self.rates, self.cosines, strict=True):
            if known <= rate * (1 + 1e-9):
                return cosine, known
        return self.cosines[-1], self.rates[-1]


def impostors_of(scores: ArrayLike, people: int) -> Impostors | None:
    """Return what impostor scores [P] say; of very few, that none of them was above the largest.

    None where there is no score at all.
    """
    falling: NDArray[np.float64] = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    if not len(falling):
        return None
    known = [rate for rate in RATES if rate * len(falling) >= ENOUGH]
    if not known:
        rate, largest = 1 / len(falling), _rounded_up(falling[0])
        return Impostors(people=people, pairs=len(falling), rates=(rate,), cosines=(largest,))
    return Impostors(
        people=people,
        pairs=len(falling),
        rates=tuple(known),
        cosines=tuple(_rounded_up(falling[int(rate * len(falling))]) for rate in known),
    )


def _rounded_up(score: float) -> float:
    """Return a threshold of six decimals that the score itself is not above."""
    return math.ceil(float(score) * 1e6) / 1e6
