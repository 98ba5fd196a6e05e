"""Aggregation against what the papers' formulas give when they are written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilface_common.config import FederationConfig
from veilface_common.errors import FederationError, UpdateRejected
from veilface_common.updates import decode_update, encode_update
from veilface_server.aggregation import ADAM_TAU, strategy, verify_update, weighted_mean


def arrays(*values: float) -> dict[str, np.ndarray]:
    return {"w": np.asarray(values, np.float32)}


def test_fedavg_adds_the_mean_update() -> None:
    """With rate 1 the model moves by the mean of the updates."""
    algorithm = strategy(FederationConfig(strategy="fedavg"))
    state = algorithm.apply(algorithm.init(arrays(1, 2)), arrays(0.5, -0.5))
    assert state.model["w"].tolist() == [1.5, 1.5]
    assert state.round == 1


def test_fedavgm_keeps_a_velocity() -> None:
    """Round n moves the model by rate times the sum over m <= n of b^(n-m) u_m."""
    config = FederationConfig(strategy="fedavgm", server_momentum=0.5, server_learning_rate=2.0)
    algorithm = strategy(config)
    state, updates = algorithm.init(arrays(0)), (1.0, 0.7, 0.2, 0.1)
    for update in updates:
        state = algorithm.apply(state, arrays(update))
    moves = [2.0 * sum(0.5 ** (n - m) * updates[m] for m in range(n + 1)) for n in range(4)]
    np.testing.assert_allclose(state.model["w"], [sum(moves)], rtol=1e-5)


def test_fedadam_first_step_is_the_formula() -> None:
    """Reddi et al. 2021, Algorithm 2, after one round: rate * 0.1 u / (sqrt(0.01 u^2) + tau)."""
    algorithm = strategy(FederationConfig(strategy="fedadam", server_learning_rate=0.1))
    state = algorithm.apply(algorithm.init(arrays(0)), arrays(2))
    expected = 0.1 * 0.2 / (np.sqrt(0.01 * 4) + ADAM_TAU)
    np.testing.assert_allclose(state.model["w"], [expected], rtol=1e-6)


@given(st.permutations(["a", "b", "c", "d"]))
def test_the_order_of_replies_does_not_change_a_bit(order: list[str]) -> None:
    """Updates are summed in the order of names, so floating-point sums agree."""
    values = {"a": 1e8, "b": 1.0, "c": -1e8, "d": 1e-3}
    mean = weighted_mean({name: arrays(values[name]) for name in order}, {})
    assert (
        mean["w"].tobytes()
        == weighted_mean({n: arrays(values[n]) for n in "abcd"}, {})["w"].tobytes()
    )


def test_declared_weights_count() -> None:
    """An organisation declared at 3 counts three times one that is not declared."""
    mean = weighted_mean({"a": arrays(0), "b": arrays(4)}, {"b": 3.0})
    assert mean["w"].tolist() == [3.0]


def test_nothing_to_average_is_an_error() -> None:
    """No update is no mean of zero."""
    with pytest.raises(FederationError):
        weighted_mean({}, {})


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"v": np.zeros(2, np.float32)}, "differs in"),
        ({"w": np.zeros(3, np.float32)}, "shape"),
        (arrays(float("nan"), 0), "finite"),
        (arrays(float("inf"), 0), "finite"),
        (arrays(30, 40), "norm at most 10, got 50"),
    ],
)
def test_a_bad_update_is_rejected(update: dict[str, np.ndarray], reason: str) -> None:
    """Foreign names, shapes, NaN, infinity and long updates never reach the sum."""
    with pytest.raises(UpdateRejected, match=reason):
        verify_update(update, arrays(0, 0), 10.0)


def test_a_huge_scale_of_8_bits_is_too_long() -> None:
    """A finite number to scale by, within what can be decoded, is held to the norm all the same."""
    model = arrays(0, 0)
    huge = decode_update(encode_update(arrays(1e36, 0), "int8"), model, "int8")
    with pytest.raises(UpdateRejected, match="norm at most"):
        verify_update(huge, model, 1e3)
