"""Rates under resampled people: what the intervals in `metrics` are made of.

The subset bootstrap (Bolle, Ratha and Pankanti, "Error analysis of pattern recognition systems:
the subsets bootstrap", CVIU 2004): people, not pairs, are drawn with replacement, because all
comparisons of one person stand or fall together. A person drawn m times counts m times in her
genuine pairs, and people drawn m and n times count m*n times in the impostor pairs between them;
copies of one person are not compared with each other. So a resample is a column of weights, and
no pair is ever scored again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indexes = NDArray[np.integer[Any]]
Draws = NDArray[np.float32]

_GRID = 256  # thresholds from the impostor scores, and as many from the genuine ones
_ROWS = 4096


def draw_people(random: np.random.Generator, people: int, resamples: int) -> Draws:
    """Return how often each person is drawn: `[P, R]`, each column sums to P."""
    drawn = random.multinomial(people, np.full(people, 1 / people), size=resamples)
    return np.ascontiguousarray(drawn.T, dtype=np.float32)


def resampled_rates(
    genuine: Floats,
    genuine_people: Indexes,
    impostor: Floats,
    impostor_people: Indexes,
    draws: Draws,
) -> tuple[Floats, Floats]:
    """Return FMR and FNMR `[V, R]` of every resample, from lenient to strict thresholds.

    The V thresholds, at most 514, are dense where a rate is small; between them a rate is
    interpolated. Resamples without a genuine or without an impostor pair are left out.

    Args:
        genuine: scores `[G]`.
        genuine_people: whose they are, `[1, G]`.
        impostor: scores `[I]`.
        impostor_people: whose they are, `[2, I]`.
        draws: of each person, `[P, R]`.
    """
    tail = 1.0 - np.geomspace(1 / len(impostor), 1.0, _GRID)
    levels = [np.quantile(impostor, tail), np.quantile(genuine, np.linspace(0, 1, _GRID))]
    grid = np.unique(np.concatenate(levels))
    wrong = _rejected(grid, impostor, impostor_people, draws)
    right = _rejected(grid, genuine, genuine_people, draws)
    usable = (wrong[-1] > 0) & (right[-1] > 0)
    wrong, right = wrong[:, usable], right[:, usable]
    return 1.0 - wrong / wrong[-1:], right / right[-1:]


def _rejected(grid: Floats, scores: Floats, people: Indexes, draws: Draws) -> Floats:
    """Return the weight of the pairs below -inf, each threshold of `grid`, and inf: `[V, R]`."""
    bins = np.searchsorted(grid, scores, "right")
    order = np.argsort(bins.astype(np.int16), kind="stable")
    ends = np.cumsum(np.bincount(bins, minlength=len(grid) + 1))
    mass = np.zeros((len(ends) + 1, draws.shape[1]))
    start = 0
    for index, end in enumerate(ends):
        while start < end:
            rows = order[start : min(start + _ROWS, end)]
            mass[index + 1] += _weight(people[:, rows], draws)
            start += len(rows)
    return np.cumsum(mass, axis=0)


def _weight(people: Indexes, draws: Draws) -> NDArray[np.float32]:
    """Return the summed weight `[R]` of pairs of `people` `[1 or 2, n]`."""
    weight: NDArray[np.float32]
    if len(people) == 1:
        weight = draws[people[0]].sum(axis=0)
    else:
        weight = np.einsum("nr,nr->r", draws[people[0]], draws[people[1]])
    return weight


def crossing(fmr: Floats, fnmr: Floats) -> Floats:
    """Return the EER of each column, `[V, R] -> [R]`: where FMR = FNMR on straight pieces."""
    column = np.arange(fmr.shape[1])
    after = np.argmax(fnmr >= fmr, axis=0)
    before = np.maximum(after - 1, 0)
    gap, past = (fmr - fnmr)[before, column], (fnmr - fmr)[after, column]
    share = gap / np.where(gap + past > 0, gap + past, 1.0)
    eer: Floats = fmr[before, column] + share * (fmr[after, column] - fmr[before, column])
    return eer


def interpolated_tar(fmr: Floats, fnmr: Floats, rate: float) -> Floats:
    """Return the TAR at FAR = `rate` of each column, `[V, R] -> [R]`, on straight pieces."""
    column = np.arange(fmr.shape[1])
    after = np.argmax(fmr <= rate, axis=0)
    before = np.maximum(after - 1, 0)
    span = fmr[before, column] - fmr[after, column]
    share = (fmr[before, column] - rate) / np.where(span > 0, span, 1.0)
    missed: Floats = fnmr[before, column] + share * (fnmr[after, column] - fnmr[before, column])
    return 1.0 - missed


def weighted_mean(values: NDArray[Any], weights: NDArray[Any]) -> Floats:
    """Return the means `[R]` of `values` `[n, 1 or R]` under `weights` `[n, R]`; NaN for none."""
    with np.errstate(invalid="ignore"):
        mean: Floats = (values * weights).sum(axis=0) / weights.sum(axis=0)
    return mean


def percentile_interval(values: Floats) -> tuple[float, float] | None:
    """Return the 95% percentile interval of resampled values `[R]`; `None` where none is finite."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)
