"""Rates of templates of tracks, and how far one way is from another on the same people.

All pairs of tracks are compared, each once. Intervals are 95% percentile intervals over people, see
`veilface_common.bootstrap`; those of a difference are over the same resamples of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilface_common import bootstrap
from veilface_common.bootstrap import Floats, Indexes
from veilface_common.metrics import Interval, equal_error_rate, pair_scores, tar_at_far

RATE = 0.01
RESAMPLES = 500


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A rate, or a difference of two, with its interval."""

    value: float
    interval: Interval


@dataclass(frozen=True, kw_only=True, eq=False)
class Rates:
    """EER and TAR at a false accept rate of 1e-2, each also in every resample [R]."""

    eer: float
    tar: float
    eers: Floats
    tars: Floats

    def figures(self) -> Mapping[str, Figure]:
        """Return both with their intervals."""
        return {"eer": _figure(self.eer, self.eers), "tar@1e-2": _figure(self.tar, self.tars)}

    def less(self, other: Rates) -> Mapping[str, Figure]:
        """Return both less those of `other`, resample by resample."""
        return {
            "eer": _figure(self.eer - other.eer, self.eers - other.eers),
            "tar@1e-2": _figure(self.tar - other.tar, self.tars - other.tars),
        }


def measure(templates: NDArray[np.float32], people: Indexes, seed: int) -> Rates:
    """Return the rates of templates [V, D], unit length, of tracks that show `people` [V]."""
    random = np.random.default_rng(seed)
    draws = bootstrap.draw_people(random, int(people.max()) + 1, RESAMPLES)
    scores = pair_scores(templates, people, random)
    fmr, fnmr = bootstrap.resampled_rates(
        scores.genuine,
        scores.genuine_person[None],
        scores.impostor,
        scores.impostor_people,
        draws,
    )
    return Rates(
        eer=equal_error_rate(scores.genuine, scores.impostor)[0],
        tar=tar_at_far(scores.genuine, scores.impostor, RATE) or 0.0,
        eers=bootstrap.crossing(fmr, fnmr),
        tars=bootstrap.interpolated_tar(fmr, fnmr, RATE),
    )


def _figure(value: float, resampled: Floats) -> Figure:
    low, high = bootstrap.percentile_interval(resampled) or (value, value)
    return Figure(value=value, interval=(low, high))
