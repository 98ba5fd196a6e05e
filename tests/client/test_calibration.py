"""Thresholds for a stated rate of false answers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from veilface_client.calibration import (
    Calibration,
    calibrate_identify,
    calibrate_verify,
    strangers_within,
)
from veilface_common.errors import ConfigError, DataError


def people(count: int, photos: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return templates of people who look a little like one another, and whose they are."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(count, 16)) + 0.5
    rows = np.repeat(centres, photos, axis=0) + 0.3 * random.normal(size=(count * photos, 16))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float32), np.repeat(np.arange(count), photos)


def slow_best(templates: NDArray[np.float32], owners: NDArray[np.int64], person: int) -> float:
    probe = next(row for row, owner in zip(templates, owners, strict=True) if owner == person)
    return max(
        float(np.dot(row, probe))
        for row, owner in zip(templates, owners, strict=True)
        if owner != person
    )


def test_strangers_within_is_the_best_of_all_others() -> None:
    """Everybody's own templates are left out of what they are compared with."""
    templates, owners = people(25, 3, seed=0)
    found = strangers_within(templates, owners)
    slow = [slow_best(templates, owners, person) for person in range(25)]
    assert np.allclose(found, slow, atol=1e-6)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_identify_keeps_its_rate(rate: float) -> None:
    """Over many galleries the realised rate of new strangers lies in the interval 95% of times."""
    random = np.random.default_rng(1)
    inside, rates = 0, []
    for _ in range(400):
        found = calibrate_identify(random.normal(size=300).astype(np.float32), 300, rate)
        realised = 1 - _normal_cdf(found.threshold)
        rates.append(realised)
        inside += found.low <= realised <= found.high
        assert found.low < found.rate < found.high
    assert 0.92 < inside / 400 < 0.98
    assert np.mean(rates) == pytest.approx(int(rate * 301) / 301, rel=0.1)


def _normal_cdf(value: float) -> float:
    from scipy.stats import norm

    return float(norm.cdf(value))


def test_verify_keeps_its_rate_on_other_people() -> None:
    """The realised false match rate of people who were not there lies near the stated one."""
    templates, owners = people(400, 2, seed=2)
    found = calibrate_verify(templates, owners, 0.01)
    others, other_owners = people(400, 2, seed=3)
    realised = calibrate_verify(others, other_owners, 0.01)
    scores = others[::2] @ others[1::2].T
    rate = float((scores[~np.eye(400, dtype=bool)] > found.threshold).mean())
    assert found.low < found.rate < found.high
    assert rate == pytest.approx(0.01, rel=0.4)
    assert abs(realised.threshold - found.threshold) < 0.05


def test_a_gallery_too_small_for_the_rate_says_so() -> None:
    """From 50 people a rate of one in a thousand cannot be promised, and is not."""
    scores = np.random.default_rng(4).normal(size=50).astype(np.float32)
    found = calibrate_identify(scores, 50, 0.001)
    assert found.threshold == scores.max()
    assert not found.is_enough
    assert "too few" in found.warning
    assert found.high > 0.001
    assert calibrate_identify(np.tile(scores, 100), 50, 0.01).warning == ""


def test_a_gallery_that_grew_takes_a_stricter_threshold() -> None:
    """Twice the people are twice the chances to be mistaken for one of them."""
    scores = np.random.default_rng(5).normal(size=999).astype(np.float32)
    found = calibrate_identify(scores, 100, 0.1)
    assert found.threshold == np.sort(scores)[-100]
    assert found.threshold_for(100) == found.threshold_for(50) == found.threshold
    assert found.threshold_for(200) == np.sort(scores)[-50]
    assert found.threshold_for(10**9) == scores.max()


def test_what_cannot_be_calibrated_is_refused() -> None:
    """A rate out of range, and a handful of people."""
    with pytest.raises(ConfigError):
        calibrate_identify(np.zeros(100, np.float32), 5, 0.0)
    with pytest.raises(DataError, match="at least 20 people"):
        calibrate_identify(np.zeros(19, np.float32), 19, 0.01)
    with pytest.raises(DataError, match="at least 20 people"):
        calibrate_verify(*people(5, 2, seed=6), 0.01)


def test_the_same_people_give_the_same_threshold() -> None:
    """A calibration can be repeated."""
    templates, owners = people(60, 2, seed=7)
    first: Calibration = calibrate_verify(templates, owners, 0.01)
    assert first == calibrate_verify(templates, owners, 0.01)
