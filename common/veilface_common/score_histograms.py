"""Histograms of scores with noise in them: how well a model does on people of whom nobody may tell.

An organisation releases two histograms of scores, of pairs of one person (genuine) and of two
people (impostor), over fixed bins: equal ones of the angle between templates, which are finer in
cosine the nearer that is to 1, where a poor model has all scores. How pairs are drawn so that one
unit moves them little, and what `SENSITIVITY` rests on, stands in `noised_scores` (client). The sum
over organisations is all that is computed from here: error rates of it cost no more privacy.

Noise makes counts negative and tails long. So each histogram is replaced by the nearest one that
rises to one peak, falls from it, and is nowhere negative (Stout 2008, "Unimodal regression via
prefix isotonic regression"): scores of one kind of pair are like that, and noise in the tails
averages out. Rates are read off cumulative sums, straight between the edges of bins. What noise
and chance do to them is seen by a parametric bootstrap: counts drawn anew from the fitted ones
(Poisson), noise drawn anew, fitted anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilface_common import bootstrap
from veilface_common.bootstrap import Floats
from veilface_common.budget.events import Unit

BINS = 64  # of angles from 180 to 0 degrees: rising scores
MATCHINGS = 16  # of people, for the impostor scores; each counts 1/16
# How far one unit, added or removed, can move both histograms together: L2.
SENSITIVITY: Mapping[Unit, float] = {"identity": math.sqrt(3.0), "image": 2.0}
FALSE_ACCEPT_RATE = 1e-2
_DRAWS = 400
# Deviations of the noise that must fit into a histogram's sum, and into what of it is accepted at
# the false accept rate: below them an interval was seen to miss the truth more often than it says.
_CLEAR_SUM, _CLEAR_TAIL = 4.0, 3.0
_COARSE = 0.15  # an EER that could be anything in so wide a range, within one bin, is not told


@dataclass(frozen=True, kw_only=True)
class ScoreHistograms:
    """Weights of scores in each bin, noised: not whole, and possibly negative."""

    genuine: tuple[float, ...]  # [BINS]
    impostor: tuple[float, ...]  # [BINS]


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What noised histograms say of a model: figures, 95% intervals, and the histograms."""

    eer: float
    low: float
    high: float
    tar_at_far_1e_2: float | None  # None: noise hides so small a false accept rate
    tar_low: float | None
    tar_high: float | None
    organisations: int  # whose histograms were summed
    deviation: float  # of the noise in each bin of the sum
    genuine_histogram: tuple[float, ...]  # as they were summed, noise and all
    impostor_histogram: tuple[float, ...]


def bins_of(scores: Floats) -> NDArray[np.int64]:
    """Return the bin of each cosine, rising with it: [n] -> [n] in [0, BINS)."""
    turned = 1.0 - np.arccos(np.clip(scores, -1.0, 1.0)) / np.pi
    return np.minimum(np.floor(turned * BINS), BINS - 1).astype(np.int64)


def deviation_of(unit: Unit, noise_multiplier: float, organisations: int = 1) -> float:
    """Return the deviation of the noise in each bin of a sum over so many organisations."""
    return noise_multiplier * SENSITIVITY[unit] * math.sqrt(organisations)


def summed(parts: Mapping[str, ScoreHistograms]) -> ScoreHistograms:
    """Return the sum, added in the order of names: the same parts always give the same bits."""
    ordered = [parts[name] for name in sorted(parts)]
    return ScoreHistograms(
        genuine=tuple(float(sum(part.genuine[i] for part in ordered)) for i in range(BINS)),
        impostor=tuple(float(sum(part.impostor[i] for part in ordered)) for i in range(BINS)),
    )


def estimate(
    histograms: ScoreHistograms, deviation: float, organisations: int, seed: int = 0
) -> Reported | None:
    """Return what the histograms say; None where noise hides too much, or bins are too coarse.

    An interval takes the matchings of impostors for one, and the longer of its two arms for both:
    it is rather too wide than too narrow.

    Args:
        histograms: their sum over organisations.
        deviation: of the noise in each bin; 0 for exact histograms.
        organisations: how many there were.
        seed: of the bootstrap.
    """
    genuine, impostor = np.array(histograms.genuine), np.array(histograms.impostor)
    visible = _CLEAR_SUM * deviation * math.sqrt(BINS)
    if min(genuine.sum(), impostor.sum()) <= visible:
        return None
    right, wrong = unimodal(genuine), unimodal(impostor)
    if _ambiguity(right, wrong) > _COARSE:
        return None
    random = np.random.default_rng(seed)
    drawn = _rates(*(_redrawn(counts, deviation, random) for counts in (right, wrong)))
    found = _rates(right[:, None], wrong[:, None])
    (eer, low, high), tar = (
        _corrected(float(value[0]), draws) for value, draws in zip(found, drawn, strict=True)
    )
    hidden = FALSE_ACCEPT_RATE * impostor.sum() < _CLEAR_TAIL * deviation
    return Reported(
        eer=eer,
        low=low,
        high=high,
        tar_at_far_1e_2=None if hidden else tar[0],
        tar_low=None if hidden else tar[1],
        tar_high=None if hidden else tar[2],
        organisations=organisations,
        deviation=deviation,
        genuine_histogram=histograms.genuine,
        impostor_histogram=histograms.impostor,
    )


def unimodal(counts: Floats) -> Floats:
    """Return the nearest histogram that rises, then falls, and is not negative: [B] -> [B]."""
    values = counts.tolist()
    rise, fall = _pooled(values)[1], _pooled(values[::-1])[1]
    peak = min(range(len(values) + 1), key=lambda k: rise[k] + fall[len(values) - k])
    left, right = _pooled(values[:peak])[0], _pooled(values[peak:][::-1])[0]
    return np.asarray(np.maximum(left + right[::-1], 0.0), np.float64)


def _pooled(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the nearest rising values, and the squared error of that of each prefix: [n], [n + 1].

    Neighbours that fall are pooled to their mean (Ayer et al. 1955).
    """
    blocks: list[tuple[float, int, float]] = []  # mean, width, squared error
    errors, total = [0.0], 0.0
    for value in values:
        mean, width, error = value, 1, 0.0
        while blocks and blocks[-1][0] >= mean:
            before, wide, old = blocks.pop()
            total -= old
            error += old + (before - mean) ** 2 * wide * width / (wide + width)
            mean = (before * wide + mean * width) / (wide + width)
            width += wide
        blocks.append((mean, width, error))
        total += error
        errors.append(total)
    return [mean for mean, width, _ in blocks for _ in range(width)], errors


def _redrawn(counts: Floats, deviation: float, random: np.random.Generator) -> Floats:
    """Return fitted histograms as they might have been: [B] -> [B, draws]."""
    drawn = random.poisson(counts, (_DRAWS, len(counts))).astype(np.float64)
    drawn += deviation * random.standard_normal(drawn.shape)
    found = np.stack([unimodal(row) for row in drawn], axis=1)
    found[:, found.sum(0) <= 0] = 1.0  # nothing is left of it: it says nothing
    return found


def _corrected(found: float, drawn: Floats) -> tuple[float, float, float]:
    """Return a rate without the bias that redrawing shows, and its 95% interval."""
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    arm = max(high - found, found - low)
    corrected = min(1.0, max(0.0, 2 * found - float(drawn.mean())))
    return corrected, max(0.0, min(corrected, found - arm)), min(1.0, max(corrected, found + arm))


def _rates(genuine: Floats, impostor: Floats) -> tuple[Floats, Floats]:
    """Return EER and TAR at the false accept rate of columns of counts: [B, R] twice -> [R] twice.

    Thresholds are the edges of bins, from lenient to strict.
    """
    fnmr, passed = _below(genuine), _below(impostor)
    fmr = 1.0 - passed
    return (
        bootstrap.crossing(fmr, fnmr),
        bootstrap.interpolated_tar(fmr, fnmr, FALSE_ACCEPT_RATE),
    )


def _ambiguity(genuine: Floats, impostor: Floats) -> float:
    """Return the width of the range in which the EER is, however scores lie within their bin."""
    fnmr, fmr = _below(genuine[:, None])[:, 0], 1.0 - _below(impostor[:, None])[:, 0]
    after = int(np.argmax(fnmr >= fmr))
    return float(min(fmr[after - 1], fnmr[after]) - max(fmr[after], fnmr[after - 1]))


def _below(counts: Floats) -> Floats:
    """Return the share below each edge: [B, R] -> [B + 1, R]."""
    cumulative = np.cumsum(np.concatenate([np.zeros((1, counts.shape[1])), counts]), axis=0)
    share: Floats = np.minimum(cumulative / cumulative[-1:], 1.0)
    return share
