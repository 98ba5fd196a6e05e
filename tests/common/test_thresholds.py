"""What a model's manifest says of strangers."""

from __future__ import annotations

import numpy as np
import pytest

from veilface_common.thresholds import Impostors, impostors_of


def test_a_threshold_gives_its_rate() -> None:
    """Of the scores that it was read from, the stated share lies above."""
    scores = np.random.default_rng(0).normal(size=50_000)
    known = impostors_of(scores, 300)
    assert known is not None
    for rate in (0.1, 0.01, 0.001):
        cosine, given = known.threshold(rate)
        assert given == rate
        assert float((scores > cosine).mean()) == pytest.approx(rate, rel=0.01)


def test_the_stricter_of_two_known_rates_is_taken() -> None:
    """And the strictest that is known where a smaller rate is asked for."""
    known = Impostors(people=9, pairs=900, rates=(0.1, 0.02), cosines=(0.3, 0.6))
    assert known.threshold(0.1) == (0.3, 0.1)
    assert known.threshold(0.09) == (0.6, 0.02)
    assert known.threshold(0.001) == (0.6, 0.02)


def test_few_scores_say_little_but_something() -> None:
    """The largest of 96 is a threshold for about one in 96; nothing comes of no scores."""
    scores = np.linspace(-1, 0.8, 96)
    assert impostors_of(scores, 4) == Impostors(people=4, pairs=96, rates=(1 / 96,), cosines=(0.8,))
    assert impostors_of([], 0) is None
