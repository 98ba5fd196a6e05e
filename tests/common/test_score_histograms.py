"""Figures out of noised histograms: near the exact ones, and honest about the noise."""

from __future__ import annotations

import json
from dataclasses import asdict
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilface_common.metrics import equal_error_rate, tar_at_far
from veilface_common.score_histograms import (
    BINS,
    Reported,
    ScoreHistograms,
    bins_of,
    deviation_of,
    estimate,
    summed,
    unimodal,
)

APART, WIDE = 0.5, 0.18  # of genuine and impostor scores, as of a recognizer of EER 8%


def scores(people: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(APART, WIDE, people), random.normal(0.0, WIDE, 4 * people)


def histograms(people: int, seed: int, deviation: float = 0.0) -> ScoreHistograms:
    random = np.random.default_rng(seed + 1000)
    parts = [
        np.bincount(bins_of(np.clip(part, -1, 1)), minlength=BINS) * weight
        for part, weight in zip(scores(people, seed), (1.0, 1 / 16), strict=True)
    ]
    genuine, impostor = (part + deviation * random.standard_normal(BINS) for part in parts)
    return ScoreHistograms(genuine=tuple(genuine.tolist()), impostor=tuple(impostor.tolist()))


def found(people: int, seed: int, deviation: float = 0.0) -> Reported:
    said = estimate(histograms(people, seed, deviation), deviation, 1, seed)
    assert said is not None
    return said


def test_without_noise_the_figures_are_those_of_the_scores() -> None:
    """Bins and fit cost less than half a point of EER, two of TAR."""
    genuine, impostor = scores(20_000, 1)
    said, (eer, _) = found(20_000, 1), equal_error_rate(genuine, impostor)
    assert said.eer == pytest.approx(eer, abs=0.005)
    assert said.low < eer < said.high < said.low + 0.03
    assert said.tar_at_far_1e_2 == pytest.approx(tar_at_far(genuine, impostor, 1e-2), abs=0.02)


@pytest.mark.parametrize(("people", "deviation"), [(1000, 0.0), (1000, 3.5), (4000, 3.5)])
def test_intervals_hold_the_truth(people: int, deviation: float) -> None:
    """Nine times of ten at least: a floor under 95%, so that 20 trials are enough to see it."""
    true = NormalDist().cdf(-APART / 2 / WIDE)
    said = [found(people, seed, deviation) for seed in range(20)]
    assert sum(one.low <= true <= one.high for one in said) >= 17
    assert np.mean([one.eer for one in said]) == pytest.approx(true, abs=0.02)


def test_noise_widens_the_interval_and_hides_what_is_small() -> None:
    """More noise, less to say: first of the low false accept rate, then of anything."""
    widths = [found(2000, 5, deviation) for deviation in (0.0, 2.0, 8.0)]
    arms = [one.high - one.low for one in widths]
    assert arms == sorted(arms)
    assert widths[0].tar_at_far_1e_2 is not None
    assert widths[2].tar_at_far_1e_2 is widths[2].tar_low is widths[2].tar_high is None
    assert estimate(histograms(2000, 5, 40.0), 40.0, 1) is None
    empty = ScoreHistograms(genuine=(0.0,) * BINS, impostor=(0.0,) * BINS)
    assert estimate(empty, 0.0, 1) is None


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=2 * BINS), st.floats(0.1, 100))
def test_whatever_is_reported_is_a_rate(weights: list[float], deviation: float) -> None:
    """Hostile or unlucky histograms end in None or in figures inside [0, 1], in order."""
    padded = (weights * BINS)[: 2 * BINS]
    said = estimate(
        ScoreHistograms(genuine=tuple(padded[:BINS]), impostor=tuple(padded[BINS:])), deviation, 1
    )
    if said is not None:
        assert 0 <= said.low <= said.eer <= said.high <= 1
        json.dumps(asdict(said), allow_nan=False)


def rising(values: list[float]) -> list[float]:
    """Return the nearest rising values by the min-max formula: slow and plain."""
    count = range(len(values))
    return [
        max(min(float(np.mean(values[a : b + 1])) for b in count if b >= i) for a in range(i + 1))
        for i in count
    ]


@settings(deadline=None)
@given(st.lists(st.floats(-20, 60), min_size=1, max_size=9))
def test_the_fit_is_the_nearest_of_all_peaks(values: list[float]) -> None:
    """Against a slow search over every peak; negative levels become zero."""
    fits = [
        rising(values[:peak]) + rising(values[peak:][::-1])[::-1] for peak in range(len(values) + 1)
    ]
    errors = [float(((np.array(fit) - values) ** 2).sum()) for fit in fits]
    mine = unimodal(np.array(values))
    allowed = [
        np.maximum(fit, 0)
        for fit, error in zip(fits, errors, strict=True)
        if error <= min(errors) + 1e-6
    ]
    assert any(np.allclose(mine, fit, atol=1e-6) for fit in allowed)


def test_the_sum_does_not_depend_on_the_order_of_replies() -> None:
    """The same histograms, bit for bit; noise adds up in variance."""
    parts = {name: histograms(50, i, 3.3) for i, name in enumerate("abc")}
    turned = dict(reversed(parts.items()))
    assert summed(parts) == summed(turned)
    assert summed(parts).genuine[20] == pytest.approx(sum(p.genuine[20] for p in parts.values()))
    assert deviation_of("identity", 2.0, 4) == pytest.approx(2 * 3**0.5 * 2)
    assert deviation_of("image", 2.0) == 4.0


def test_scores_that_bins_cannot_tell_apart_are_not_reported() -> None:
    """A model that finds everybody alike: whatever is inside one bin, no rate is made up."""
    near = np.zeros(BINS)
    near[-1] = 500.0
    alike = ScoreHistograms(genuine=tuple(near.tolist()), impostor=tuple((near / 5).tolist()))
    assert estimate(alike, 1.0, 1) is None


def test_every_cosine_has_a_bin() -> None:
    """Also 1 and -1, and what rounding puts beyond them."""
    assert bins_of(np.array([-1.1, -1.0, 0.0, 0.999, 1.0, 1.1])).tolist() == [
        0, 0, BINS // 2, BINS - 1, BINS - 1, BINS - 1,
    ]  # fmt: skip
