"""One number for all perturbations: of a model alone, and of a model against a baseline.

E(c, s) is the error under perturbation c at level s: 1 - TAR at the model's own clean threshold.

    mean relative loss      mean over c and s of (TAR(clean) - TAR(c, s)) / TAR(clean)
    relative error of c     sum over s of E(c, s), divided by the same sum of the baseline
    mean relative error     mean over c of the relative errors

The last two are CE and mCE of Hendrycks & Dietterich (2019, section 4) with the baseline in the
place of AlexNet, as a ratio and not in percent. Intervals are over people, the same resamples for
both models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from veilface_common.bootstrap import Floats
from veilface_common.metrics import Interval
from veilface_simulations.robustness.figures import Resampled, known_intervals

Conditions = Mapping[tuple[str, int], Resampled]  # (perturbation, level)
MEAN = "mean_relative_error"
LOSS = "mean_relative_loss"


@dataclass(frozen=True, kw_only=True)
class Relative:
    """A model's errors as multiples of a baseline's; `None` where the baseline makes none."""

    mean_relative_error: float | None
    relative_error: Mapping[str, float | None]  # by perturbation
    intervals: Mapping[str, Interval] = field(default_factory=dict)  # mean_relative_error


def mean_relative_loss(
    clean: Resampled, perturbed: Conditions
) -> tuple[float | None, dict[str, Interval]]:
    """Return the mean relative loss and its interval; None where nobody is accepted at all."""
    if clean.rates.tar == 0:
        return None, {}
    losses = [1 - one.rates.tar / clean.rates.tar for one in perturbed.values()]
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = np.mean([1 - one.tar / clean.tar for one in perturbed.values()], axis=0)
    return float(np.mean(losses)), known_intervals({LOSS: resampled})


def against(model: Conditions, baseline: Conditions) -> Relative:
    """Return a model's errors relative to a baseline's, under the same conditions."""
    names = list(dict.fromkeys(name for name, _ in model))
    ratios: dict[str, float | None] = {}
    resampled = []
    for name in names:
        above, below = _errors(model, name), _errors(baseline, name)
        ratios[name] = float(above[0] / below[0]) if below[0] > 0 else None
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled.append(above[1:] / below[1:])
    known = [ratio for ratio in ratios.values() if ratio is not None]
    complete = len(known) == len(names)
    return Relative(
        mean_relative_error=float(np.mean(known)) if complete else None,
        relative_error=ratios,
        intervals=known_intervals({MEAN: np.mean(resampled, axis=0)}) if complete else {},
    )


def _errors(conditions: Conditions, name: str) -> Floats:
    """Return the errors of a perturbation summed over its levels: as measured, then resampled."""
    levels = [one for (other, _), one in conditions.items() if other == name]
    errors = [np.append(1 - one.rates.tar, 1 - one.tar) for one in levels]
    return np.asarray(np.sum(errors, axis=0), np.float64)
