"""Rates of probes against references, at a threshold that clean probes gave.

Scores are cosines [P, G] of P probes and G references, one reference of each person; a score >= the
threshold is a match. A probe in which no face was found scores -inf everywhere: whoever is not seen
is not let in, and is not taken for another either. So every rate is one of attempts, failures to
acquire among them (ISO/IEC 19795-1:2021 calls these FAR and FRR of one attempt).

Intervals are 95% percentile intervals over people, see `veilface_common.bootstrap`; the threshold
stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from veilface_common import bootstrap
from veilface_common.bootstrap import Draws, Floats, Indexes
from veilface_common.errors import DataError
from veilface_common.metrics import EXPECTED_ERRORS, Interval, equal_error_rate

_STEP = 1e-6  # scores are rounded to it


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What happens to probes under one condition."""

    eer: float  # at whatever threshold it is reached: what is lost for good
    tar: float  # right people accepted at the clean threshold
    false_match_rate: float  # strangers accepted there
    failures: float  # share of the probes in which no face was found
    intervals: Mapping[str, Interval] = field(default_factory=dict)  # tar, false_match_rate


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampled:
    """Rates, and the TAR of each resample of people, from which ratios get their intervals."""

    rates: Rates
    tar: Floats  # [R]; NaN where no probe is left


def scores_of(
    probes: NDArray[np.float32], references: NDArray[np.float32], found: NDArray[np.bool_]
) -> Floats:
    """Return the cosines of templates [P, D] and [G, D], rounded to six decimals, as [P, G]."""
    cosines = np.round((probes @ references.T).astype(np.float64), 6)
    return np.asarray(np.where(found[:, None], cosines, -np.inf), np.float64)


def calibrate(scores: Floats, people: Indexes, rate: float) -> float:
    """Return the lowest threshold at which at most `rate` of the strangers are accepted.

    Raises:
        DataError: too few strangers are compared to say it.
    """
    _, impostor = split(scores, people)
    if rate * len(impostor) < EXPECTED_ERRORS - 1e-9:
        raise DataError(
            f"expected {EXPECTED_ERRORS / rate:,.0f} pairs of strangers or more to find the "
            f"threshold for a false match rate of {rate:g}, got {len(impostor):,}",
            hint="more people, or a larger --rate",
        )
    falling = np.sort(impostor)[::-1]
    first_refused = falling[int(rate * len(impostor) + 1e-9)]
    return float(np.round(first_refused + _STEP, 6))


def split(scores: Floats, people: Indexes) -> tuple[Floats, Floats]:
    """Return the genuine scores [P] and the impostor scores [P * (G - 1)] of scores [P, G]."""
    own = np.zeros(scores.shape, bool)
    own[np.arange(len(people)), people] = True
    return scores[own], scores[~own]


def measure(
    scores: Floats, people: Indexes, *, threshold: float, found: NDArray[np.bool_], draws: Draws
) -> Resampled:
    """Return the rates of scores [P, G] whose probes show `people` [P]; draws [G, R] of people."""
    genuine, impostor = split(scores, people)
    accepted = scores >= threshold  # [P, G]
    right = accepted[np.arange(len(people)), people]
    tar = bootstrap.weighted_mean(right[:, None], draws[people])
    rates = Rates(
        eer=equal_error_rate(genuine, impostor)[0],
        tar=float(right.mean()),
        false_match_rate=float((impostor >= threshold).mean()),
        failures=float(1 - found.mean()),
        intervals=known_intervals(
            {"tar": tar, "false_match_rate": _false_matches(accepted, people, draws)}
        ),
    )
    return Resampled(rates=rates, tar=tar)


def _false_matches(accepted: NDArray[np.bool_], people: Indexes, draws: Draws) -> Floats:
    """Return the false match rate of each resample, [R]: a pair counts by both of its people."""
    wrong = accepted.astype(np.float32)
    wrong[np.arange(len(people)), people] = 0
    weights = draws[people]  # [P, R]
    matches = ((weights.T @ wrong) * draws.T).sum(axis=1, dtype=np.float64)
    own = (weights * weights).sum(axis=0, dtype=np.float64)
    pairs = weights.sum(axis=0, dtype=np.float64) * draws.sum(axis=0, dtype=np.float64) - own
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(matches / pairs, np.float64)


def known_intervals(resampled: Mapping[str, Floats]) -> dict[str, Interval]:
    """Return the 95% interval of each figure that has one, by name."""
    found = {name: bootstrap.percentile_interval(values) for name, values in resampled.items()}
    return {name: interval for name, interval in found.items() if interval is not None}
