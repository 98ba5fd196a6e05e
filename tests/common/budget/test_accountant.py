"""Epsilon: against published figures, the other accountant, and what must not happen."""

from __future__ import annotations

import math
import warnings

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

from veilface_common.budget import accountant
from veilface_common.budget.accountant import ORDERS, calibrate_noise, epsilon, largest_steps
from veilface_common.budget.events import Event, Mechanism, from_body, to_body, total_steps
from veilface_common.errors import BudgetError

# (q, sigma, steps, RDP of Opacus, PLD of dp-accounting) at delta 1e-5, as measured apart from us
KNOWN = [
    (0.1, 1.0, 100, 7.90, 7.05),
    (0.1, 1.5, 500, 9.09, 8.37),
    (0.03, 1.0, 500, 4.79, 4.29),
    (0.01, 1.0, 2000, 2.87, 2.58),
]


def mechanism(rate: float = 0.1, noise: float = 1.0) -> Mechanism:
    return Mechanism(sample_rate=rate, noise_multiplier=noise)


@pytest.mark.parametrize(("rate", "noise", "steps", "rdp", "pld"), KNOWN)
def test_known_figures(rate: float, noise: float, steps: int, rdp: float, pld: float) -> None:
    """Both accountants give what they are known to give, and the larger one is charged."""
    found = epsilon({mechanism(rate, noise): steps}, 1e-5)
    assert found.rdp == pytest.approx(rdp, abs=0.01)
    assert found.pld == pytest.approx(pld, abs=0.01)
    assert found.charged == max(found.rdp, found.pld)


def gaussian_delta(epsilon: float, noise: float) -> float:
    """Return delta of one unsampled Gaussian, exactly (Balle and Wang 2018, theorem 8)."""

    def below(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    return below(0.5 / noise - epsilon * noise) - math.exp(epsilon) * below(
        -0.5 / noise - epsilon * noise
    )


@pytest.mark.parametrize("noise", [0.7, 1.0, 3.0])
def test_one_gaussian_against_its_formula(noise: float) -> None:
    """PLD of an unsampled step is the analytic Gaussian mechanism; RDP lies above it."""
    found = epsilon({mechanism(1.0, noise): 1}, 1e-5)
    assert gaussian_delta(found.pld, noise) == pytest.approx(1e-5, rel=0.01)
    assert found.rdp >= found.pld


def test_rounds_of_unequal_plans_compose() -> None:
    """Steps of several mechanisms together cost more than the largest and less than the sum."""
    parts = {mechanism(0.1, 1.0): 50, mechanism(0.05, 0.8): 30, mechanism(1.0, 10.0): 2}
    together = epsilon(parts, 1e-5)
    alone = [epsilon({m: n}, 1e-5) for m, n in parts.items()]
    assert max(a.pld for a in alone) < together.pld < sum(a.pld for a in alone)
    reference = PLDAccountant()
    for m, count in parts.items():
        step = dp_event.PoissonSampledDpEvent(
            m.sample_rate, dp_event.GaussianDpEvent(m.noise_multiplier)
        )
        reference.compose(dp_event.SelfComposedDpEvent(step, count))
    assert together.pld == pytest.approx(reference.get_epsilon(1e-5), rel=1e-3)


def test_fifty_rounds_are_not_one() -> None:
    """The mistake of one round's epsilon: 125 steps give 0.62, fifty times as many 3.7."""
    step = mechanism(32 / 4000, 1.0)
    assert epsilon({step: 125}, 1e-5).pld == pytest.approx(0.61, abs=0.01)
    assert epsilon({step: 50 * 125}, 1e-5).pld == pytest.approx(3.69, abs=0.01)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 0.9), st.floats(0.6, 5), st.integers(1, 200), st.integers(1, 200))
def test_more_steps_never_cost_less(rate: float, noise: float, some: int, more: int) -> None:
    """Epsilon never falls as steps are added."""
    step = mechanism(rate, noise)
    assert epsilon({step: some + more}, 1e-5).charged >= epsilon({step: some}, 1e-5).charged


def test_the_longest_plan_fits_and_one_step_more_does_not() -> None:
    """`largest_steps` is exact on top of what is spent."""
    spent, step = {mechanism(0.05, 0.9): 20}, mechanism()
    most = largest_steps(spent, step, 1e-5, 8.0)
    assert epsilon(spent | {step: most}, 1e-5).charged <= 8.0
    assert epsilon(spent | {step: most + 1}, 1e-5).charged > 8.0
    assert largest_steps({step: 10_000}, step, 1e-5, 8.0) == 0


def test_noise_is_calibrated_to_the_grid() -> None:
    """The noise found fits, a thousandth less does not."""
    noise = calibrate_noise(0.1, 200, 1e-5, 8.0)
    assert epsilon({mechanism(0.1, noise): 200}, 1e-5).charged <= 8.0
    assert epsilon({mechanism(0.1, noise - 0.001): 200}, 1e-5).charged > 8.0


def test_a_plan_that_no_noise_saves_is_refused() -> None:
    """An epsilon out of reach is an error, not a huge noise."""
    with pytest.raises(BudgetError, match="fits epsilon 1e-09"):
        calibrate_noise(1.0, 10, 1e-5, 1e-9)


def test_an_event_survives_being_written() -> None:
    """What is read is what was written."""
    event = Event(unit="image", mechanism=mechanism(0.3, 2.0), steps=7)
    assert from_body(to_body(event)) == event
    assert total_steps([event, event]) == {event.mechanism: 14}


@pytest.mark.parametrize(
    "change",
    [
        {"mechanism": "laplace"},
        {"unit": "household"},
        {"sample_rate": 0.0},
        {"sample_rate": 1.5},
        {"sample_rate": 1},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": float("nan")},
        {"noise_multiplier": -1.0},
        {"steps": 0},
        {"steps": 2.0},
        {"steps": True},
        {"discount": 0.5},
    ],
)
def test_an_event_that_is_not_understood_is_refused(change: dict[str, object]) -> None:
    """Unknown mechanisms, keys and odd numbers are errors: guessing would under-count."""
    body = to_body(Event(unit="identity", mechanism=mechanism(), steps=3)) | change
    with pytest.raises(BudgetError):
        from_body(body)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, float("nan")])
def test_delta_is_a_probability(delta: float) -> None:
    """Delta 0 and 1 say nothing."""
    with pytest.raises(BudgetError):
        epsilon({mechanism(): 1}, delta)


@pytest.mark.parametrize(
    ("noise", "steps", "best"), [(400.0, 1, ORDERS[-1]), (0.3, 2000, ORDERS[0]), (1.0, 100, 1.7)]
)
def test_the_first_accountant_is_opacus_without_its_warning(
    noise: float, steps: int, best: float
) -> None:
    """Its figure and its best order; where it would warn of them nothing is said aloud."""
    rdp = steps * compute_rdp(q=0.5, noise_multiplier=noise, steps=1, orders=ORDERS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = accountant._rdp({mechanism(0.5, noise): steps}, 1e-5)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert found == get_privacy_spent(orders=ORDERS, rdp=rdp, delta=1e-5)
    assert found[1] == best
    assert bool(said) == (best in (ORDERS[0], ORDERS[-1]))


def test_a_bound_that_more_orders_would_improve_says_so() -> None:
    """So much noise that the largest order is the best one that was tried."""
    assert epsilon({mechanism(0.5, 400.0): 1}, 1e-5).is_loose
    assert not epsilon({mechanism(): 100}, 1e-5).is_loose


def test_noise_that_hides_nothing_costs_infinity() -> None:
    """No order gives a bound: never a small epsilon, and no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert accountant._rdp({mechanism(1.0, 1e-160): 1}, 1e-5)[0] == math.inf
