"""Rates and ratios of robustness against slow and obvious ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from veilface_common.bootstrap import draw_people
from veilface_common.errors import DataError
from veilface_simulations.robustness.figures import (
    Rates,
    Resampled,
    calibrate,
    measure,
    scores_of,
    split,
)
from veilface_simulations.robustness.relative import against, mean_relative_loss


def some_scores(people: int = 30, probes: int = 80) -> tuple[NDArray, NDArray]:
    random = np.random.default_rng(3)
    whose = random.integers(0, people, probes)
    scores = np.round(random.normal(0, 0.2, (probes, people)), 6)
    scores[np.arange(probes), whose] += 0.4
    return scores, whose


def everybody(scores: NDArray) -> NDArray:
    return np.ones(len(scores), bool)


def test_rates_are_those_of_counting() -> None:
    """Every pair looked at by itself, those of the same person apart from the others."""
    scores, whose = some_scores()
    found = measure(
        scores, whose, threshold=0.25, found=everybody(scores), draws=np.ones((30, 2), np.float32)
    ).rates
    right = wrong = strangers = 0
    for probe in range(80):
        for person in range(30):
            accepted = scores[probe, person] >= 0.25
            if whose[probe] == person:
                right += accepted
            else:
                wrong += accepted
                strangers += 1
    assert found.tar == right / 80
    assert found.false_match_rate == wrong / strangers
    assert found.failures == 0


@pytest.mark.parametrize("rate", [0.005, 0.01, 0.1])
def test_the_threshold_is_the_lowest_that_keeps_the_rate(rate: float) -> None:
    """At it at most the rate of strangers gets in; a millionth lower, more."""
    scores, whose = some_scores()
    threshold = calibrate(scores, whose, rate)
    _, impostor = split(scores, whose)
    assert (impostor >= threshold).mean() <= rate
    assert (impostor >= threshold - 1e-6).mean() > rate


def test_tied_strangers_are_all_kept_out() -> None:
    """Where ten of a hundred tie at the limit, the threshold is above them."""
    scores = np.zeros((40, 40))
    scores[:, :5] = 0.5
    threshold = calibrate(scores, np.arange(40), 0.01)
    assert threshold == pytest.approx(0.500001)


def test_too_few_strangers_give_no_threshold() -> None:
    """One line that says how many pairs it takes."""
    with pytest.raises(DataError, match=r"expected 1,000 pairs of strangers .* got 90"):
        calibrate(np.zeros((10, 10)), np.arange(10), 0.01)


def test_a_probe_without_a_face_is_neither_accepted_nor_mistaken() -> None:
    """It lowers TAR and false match rate alike, and with nobody found EER is a guess."""
    scores, whose = some_scores()
    draws = np.ones((30, 1), np.float32)
    seen = np.arange(80) < 40
    probes, people = np.eye(80, dtype=np.float32), np.zeros((30, 80), np.float32)
    assert np.isneginf(scores_of(probes, people, seen)[40:]).all()
    assert (scores_of(probes, people, seen)[:40] == 0).all()
    half = np.where(seen[:, None], scores, -np.inf)
    found = measure(half, whose, threshold=-9.0, found=seen, draws=draws).rates
    assert (found.tar, found.false_match_rate, found.failures) == (0.5, 0.5, 0.5)
    nobody = np.full_like(scores, -np.inf)
    blind = measure(nobody, whose, threshold=-9.0, found=seen & False, draws=draws).rates
    assert (blind.tar, blind.false_match_rate, blind.eer, blind.failures) == (0, 0, 0.5, 1)


def test_resampled_rates_are_those_of_people_drawn_again() -> None:
    """A person drawn twice counts twice in her pairs, pairs of two people by both."""
    scores, whose = some_scores(people=6, probes=14)
    draws = draw_people(np.random.default_rng(1), 6, 40)
    found = measure(scores, whose, threshold=0.2, found=everybody(scores), draws=draws)
    tars, fmrs = [], []
    for weight in draws.T:
        right = wrong = genuine = strangers = 0.0
        for probe in range(14):
            for person in range(6):
                accepted = scores[probe, person] >= 0.2
                if whose[probe] == person:
                    genuine += weight[person]
                    right += weight[person] * accepted
                else:
                    strangers += weight[person] * weight[whose[probe]]
                    wrong += weight[person] * weight[whose[probe]] * accepted
        tars.append(right / genuine)
        fmrs.append(wrong / strangers)
    assert found.tar == pytest.approx(tars)
    assert found.rates.intervals["tar"] == pytest.approx(np.percentile(tars, (2.5, 97.5)))
    low_high = found.rates.intervals["false_match_rate"]
    assert low_high == pytest.approx(np.percentile(fmrs, (2.5, 97.5)), abs=1e-6)


def resampled(tar: float, *more: float) -> Resampled:
    rates = Rates(eer=0.1, tar=tar, false_match_rate=0.01, failures=0.0)
    return Resampled(rates=rates, tar=np.array(more or (tar,)))


def test_relative_errors_are_those_of_the_formula() -> None:
    """Sums over levels are divided, then perturbations averaged: Hendrycks & Dietterich 2019."""
    model = {("a", 1): resampled(0.9), ("a", 2): resampled(0.7), ("b", 1): resampled(0.5)}
    base = {("a", 1): resampled(0.8), ("a", 2): resampled(0.3), ("b", 1): resampled(0.75)}
    found = against(model, base)
    assert found.relative_error == pytest.approx({"a": 0.4 / 0.9, "b": 0.5 / 0.25})
    assert found.mean_relative_error == pytest.approx((4 / 9 + 2) / 2)
    loss, _ = mean_relative_loss(resampled(0.8), model)
    assert loss == pytest.approx(((0.8 - 0.9) / 0.8 + (0.8 - 0.7) / 0.8 + (0.8 - 0.5) / 0.8) / 3)


def test_without_errors_to_divide_by_there_is_no_ratio() -> None:
    """A baseline that makes none, a model that accepts nobody: no figure, not infinity."""
    perfect, model = {("a", 1): resampled(1.0)}, {("a", 1): resampled(0.5)}
    assert against(model, perfect).relative_error == {"a": None}
    assert against(model, perfect).mean_relative_error is None
    assert mean_relative_loss(resampled(0.0), model) == (None, {})
