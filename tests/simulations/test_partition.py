"""Who holds whom."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilface_common.errors import ConfigError
from veilface_simulations.partition import hold_out, split


@given(
    st.integers(1, 20),
    st.integers(0, 200),
    st.integers(0, 2**31 - 1),
    st.floats(0, 3),
)
def test_everybody_is_somewhere_and_nobody_twice(
    organisations: int, extra: int, seed: int, skew: float
) -> None:
    """A partition without sharing is one in the mathematical sense, two people each at least."""
    people = list(range(100, 100 + 2 * organisations + extra))
    parts = split(people, organisations, seed, skew=skew).organisations
    assert sorted(p for part in parts.values() for p in part) == people
    assert min(map(len, parts.values())) >= 2
    assert list(parts) == sorted(parts)


def test_equal_sizes_differ_by_at_most_one() -> None:
    """Without skew nobody is favoured."""
    sizes = [len(p) for p in split(range(103), 5, 0).organisations.values()]
    assert max(sizes) - min(sizes) <= 1


def test_skew_follows_the_power_law() -> None:
    """At skew 1 the first of two organisations holds twice the second."""
    sizes = [len(p) for p in split(range(300), 2, 0, skew=1.0).organisations.values()]
    assert abs(sizes[0] - 2 * sizes[1]) <= 3


def test_shared_people_stand_at_the_next_organisation_too() -> None:
    """A share of 0.5 puts half of each organisation's people into one more."""
    parts = list(split(range(40), 4, 3, shared=0.5).organisations.values())
    assert [len(p) for p in parts] == [15, 15, 15, 15]
    assert len(set(parts[0]) & set(parts[1])) == 5


def test_held_out_people_are_on_one_side_only() -> None:
    """Training and evaluation people are disjoint, and together everybody."""
    has_pair = np.arange(100) % 4 == 0
    train, held = hold_out(has_pair, 0.2, seed=5)
    assert not set(train) & set(held)
    assert sorted(train + held) == list(range(100))
    assert sum(bool(has_pair[p]) for p in held) == 5


def test_the_seed_decides() -> None:
    """The same seed gives the same people, another one others."""
    has_pair = np.ones(50, bool)
    assert hold_out(has_pair, 0.2, 1) == hold_out(has_pair, 0.2, 1)
    assert hold_out(has_pair, 0.2, 1) != hold_out(has_pair, 0.2, 2)


@pytest.mark.parametrize("organisations", [0, 6])
def test_too_few_people_are_refused(organisations: int) -> None:
    """An organisation cannot train on fewer than two people."""
    with pytest.raises(ConfigError):
        split(range(11), organisations, 0)
