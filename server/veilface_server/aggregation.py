"""How updates become the next model: each algorithm an `(init, apply)` pair over a plain state.

FedAvg     McMahan et al. 2017, Algorithm 1
FedAvgM    Hsu, Qi and Brown 2019, section 4.3
FedAdam    Reddi et al. 2021, Algorithm 2
FedProx    Li et al. 2020: FedAvg here; its proximal term is added by the organisations
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from veilface_common.config import FederationConfig
from veilface_common.errors import FederationError, UpdateRejected
from veilface_common.tensors import FloatArray, Tensors, norm, verify_like

ADAM_BETA_1 = 0.9
ADAM_BETA_2 = 0.99
ADAM_TAU = 1e-3


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """All that a federation carries from one round to the next."""

    round: int
    model: Tensors
    first_moment: Tensors = field(default_factory=dict)
    second_moment: Tensors = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """`init(model)` gives the state before the first round, `apply(state, mean)` the next one."""

    init: Callable[[Tensors], ServerState]
    apply: Callable[[ServerState, Tensors], ServerState]


def strategy(config: FederationConfig) -> Strategy:
    """Return the configured algorithm."""
    rate = config.server_learning_rate
    match config.strategy:
        case "fedavg" | "fedprox":
            return Strategy(init=_plain, apply=lambda s, mean: _step(s, _scaled(mean, rate)))
        case "fedavgm":
            return Strategy(init=_first, apply=lambda s, mean: _momentum(s, mean, config))
        case "fedadam":
            return Strategy(init=_both, apply=lambda s, mean: _adam(s, mean, rate))


def verify_update(update: Tensors, model: Tensors, max_norm: float) -> None:
    """Check an update before it is summed.

    Raises:
        UpdateRejected: a name, a shape or a value is wrong, or it is longer than `max_norm`.
    """
    verify_like(update, model)
    length = norm(update)
    if length > max_norm:
        raise UpdateRejected(f"expected an update of norm at most {max_norm:g}, got {length:.4g}")


def weighted_mean(updates: Mapping[str, Tensors], weights: Mapping[str, float]) -> Tensors:
    """Return the mean update, summed in the order of organisation names.

    `weights` are the declared ones; an organisation without one counts 1.

    Raises:
        FederationError: there is nothing to average.
    """
    names = sorted(updates)
    if not names:
        raise FederationError("expected at least one update to average, got none")
    share = {name: weights.get(name, 1.0) for name in names}
    total = sum(share[name] for name in names)
    mean: Tensors = {}
    for key in sorted(updates[names[0]]):
        summed = np.zeros(updates[names[0]][key].shape, np.float64)
        for name in names:
            summed += updates[name][key] * (share[name] / total)
        mean[key] = summed.astype(np.float32)
    return mean


def _plain(model: Tensors) -> ServerState:
    return ServerState(round=0, model=model)


def _first(model: Tensors) -> ServerState:
    return replace(_plain(model), first_moment=_zeros(model))


def _both(model: Tensors) -> ServerState:
    return replace(_first(model), second_moment=_zeros(model))


def _zeros(model: Tensors) -> Tensors:
    return {name: np.zeros_like(value) for name, value in model.items()}


def _scaled(mean: Tensors, rate: float) -> Tensors:
    return {name: (rate * value).astype(np.float32) for name, value in mean.items()}


def _step(state: ServerState, change: Mapping[str, FloatArray]) -> ServerState:
    model = {name: value + change[name] for name, value in state.model.items()}
    return replace(state, round=state.round + 1, model=model)


def _momentum(state: ServerState, mean: Tensors, config: FederationConfig) -> ServerState:
    """Step by rate v, v = beta v + mean."""
    beta = config.server_momentum
    first = {
        name: (beta * value + mean[name]).astype(np.float32)
        for name, value in state.first_moment.items()
    }
    step = _scaled(first, config.server_learning_rate)
    return replace(_step(state, step), first_moment=first)


def _adam(state: ServerState, mean: Tensors, rate: float) -> ServerState:
    first = _blend(state.first_moment, mean, ADAM_BETA_1)
    squares = {name: np.square(value) for name, value in mean.items()}
    second = _blend(state.second_moment, squares, ADAM_BETA_2)
    change = {
        name: (rate * value / (np.sqrt(second[name]) + ADAM_TAU)).astype(np.float32)
        for name, value in first.items()
    }
    return replace(_step(state, change), first_moment=first, second_moment=second)


def _blend(old: Tensors, new: Tensors, beta: float) -> Tensors:
    return {
        name: (beta * value + (1.0 - beta) * new[name]).astype(np.float32)
        for name, value in old.items()
    }
