"""One run in which half of the canaries are trained on, and what its releases tell of which half.

The auditor knows everything but the coins: the weights before and after each round, everybody's
gradient, the head's secret, how photographs were augmented. The update u of a round should be
sum_i b_i g_i + sigma C z, with b_i whether canary i is trained on and g_i its clipped gradient; the
auditor trusts neither sigma nor C, but reads both off u:

    level    of the noise: what of u no canary's gradient explains
    size     of a contribution: 1 by right; how far u goes along the sum of all gradients
    score    the best linear guess of b_i - 1/2 from all rounds (Gauss and Markov; ridge)

With every step taken by everybody (q = 1) the claim rests on noise and clipping alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from veilface_client.noise import SeededNoise
from veilface_client.private import ROUNDING, unit_gradient
from veilface_client.units import Units, Views, units_of
from veilface_common.budget.ledger import Ledger, create_ledger
from veilface_common.budget.policy import Policy
from veilface_common.crypto.signing import SigningKey
from veilface_simulations.auditing.people import pattern_people
from veilface_simulations.auditing.subject import (
    Subject,
    coins,
    parameters,
    registration,
    release,
)

Progress = Callable[[int, int], None]  # (canaries looked at, in all)
LEDGER = "ledger.db"
LEARNING_RATE = 0.5  # a round then moves the weights by about a fiftieth of themselves
_LEAST_LEVEL = 1e-6  # of noise, relative to C: where there is none
_RANK = 1e-6  # smaller eigenvalues, relative to the largest, are rounding
_LEAST_SIZE = 0.5  # of contributions: few canaries say little of it


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How canaries are run."""

    canaries: int  # about half of them are trained on
    steps: int  # each a round of its own, released and charged
    epsilon: float  # of the policy
    delta: float
    seed: int  # of patterns, coins and noise


@dataclass(frozen=True, kw_only=True)
class Run:
    """What an audited run left behind."""

    included: NDArray[np.bool_]  # [canaries]: the coins
    scores: NDArray[np.float64]  # [canaries], from all updates; above 0: was trained on
    loss_drops: NDArray[np.float64]  # [canaries], from the first and the last weights alone
    levels: tuple[float, ...]  # of each round: the noise that was found / sigma C
    unexplained: int  # numbers of an update that a level is found from
    sent: int  # updates
    charged: int  # steps, as the ledger says
    claimed: float  # epsilon of the ledger


def run_canaries(subject: Subject, plan: Plan, folder: Path, progress: Progress) -> Run:
    """Train on the canaries whose coins say so, one step a round, and score all of them.

    Args:
        subject: what is audited; its plan is of one step.
        plan: how.
        folder: empty; the ledger is kept there.
        progress: told how many of all gradients and losses are done.
    """
    everybody = _units(subject, plan)
    included = np.random.default_rng([plan.seed, 1]).random(plan.canaries) < 0.5
    trained_on = _chosen(everybody, included)
    key = SigningKey.from_seed(plan.seed.to_bytes(32, "big"))
    ledger = _start_ledger(folder / LEDGER, key, subject, plan)
    watch = _Watch(progress, plan.canaries * (plan.steps + 2))
    network = subject.start()
    first = _losses(subject, network, everybody, plan.steps, watch)
    evidence = Evidence(plan.canaries)
    levels = []
    for step in range(plan.steps):
        gradients = _gradients(subject, network, everybody, step, watch)
        reservation = ledger.reserve(subject.plan.event, {"round": step + 1, "run": "audit"})
        update = release(
            subject,
            network,
            trained_on,
            reservation,
            noise=SeededNoise(plan.steps * plan.seed + step),
            step=step,
            learning_rate=LEARNING_RATE,
        )
        ledger.settle(reservation, {"outcome": "sent"})
        levels.append(evidence.add(gradients, update, subject.plan.max_gradient_norm))
    last = _losses(subject, network, everybody, plan.steps, watch)
    read_back = Ledger(folder / LEDGER, key)
    deviation = subject.plan.noise_multiplier * subject.plan.max_gradient_norm
    return Run(
        included=included,
        scores=evidence.scores(),
        loss_drops=first - last,
        levels=tuple(level / deviation for level in levels),
        unexplained=max(1, gradients.shape[1] - plan.canaries),
        sent=len(levels),
        charged=sum(read_back.steps.values()),
        claimed=read_back.spent().charged,
    )


class Evidence:
    """What updates say of each canary, added up over rounds in units of their noise."""

    def __init__(self, canaries: int) -> None:
        self._gram = np.zeros((canaries, canaries))
        self._told = np.zeros(canaries)

    def add(
        self, gradients: NDArray[np.float32], update: NDArray[np.float64], norm: float
    ) -> float:
        """Take note of a round: clipped gradients [canaries, d], update [d]; return its noise."""
        gram = (gradients @ gradients.T).astype(np.float64)
        told = (gradients @ update.astype(np.float32)).astype(np.float64)
        level = max(_LEAST_LEVEL * norm, _level(gram, told, update))
        self._gram += gram / level**2
        self._told += told / level**2
        return level

    def scores(self) -> NDArray[np.float64]:
        """Return the best guess of b - 1/2 for each canary: [canaries]."""
        size = max(_LEAST_SIZE, float(2 * self._told.sum() / self._gram.sum()))
        centred = self._told - size / 2 * self._gram.sum(1)
        prior = 4 / size**2 * np.eye(len(centred))  # a coin has variance 1/4
        found: NDArray[np.float64] = np.linalg.solve(self._gram + prior, centred)
        return found


def _level(
    gram: NDArray[np.float64], told: NDArray[np.float64], update: NDArray[np.float64]
) -> float:
    """Return the deviation of what is left of `update` off the span of all gradients."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > _RANK * values[-1]
    explained = float(((vectors.T @ told)[kept] ** 2 / values[kept]).sum())
    left = max(0.0, float(update @ update) - explained)
    return float(np.sqrt(left / max(1, len(update) - int(kept.sum()))))


class _Watch:
    """Counts what is done, over all passes."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def one_more(self) -> None:
        self._done += 1
        self._progress(self._done, self._total)


def _units(subject: Subject, plan: Plan) -> Units:
    photographs = 2 if subject.plan.unit == "identity" else 1
    faces = pattern_people(
        (photographs,) * plan.canaries, subject.config.model, seed=[plan.seed, 2]
    )
    return units_of(subject.plan.unit, faces)


def _chosen(units: Units, included: NDArray[np.bool_]) -> Units:
    chosen = np.flatnonzero(included).tolist()
    return Units(
        canvases=units.canvases,
        names=[units.names[unit] for unit in chosen],
        rows=[units.rows[unit] for unit in chosen],
    )


def _start_ledger(path: Path, key: SigningKey, subject: Subject, plan: Plan) -> Ledger:
    policy = Policy(
        unit=subject.plan.unit,
        epsilon=plan.epsilon,
        delta=plan.delta,
        min_noise_multiplier=0.1,
        max_sample_rate=1.0,
        max_steps_per_round=subject.plan.steps,
    )
    return create_ledger(path, key, registration(plan.canaries), policy)


def _gradients(
    subject: Subject, network: nn.Module, units: Units, step: int, watch: _Watch
) -> NDArray[np.float32]:
    """Return the gradient of each unit as a round clips it: [units, trained numbers]."""
    head, _ = subject.judge(network)
    inside = parameters(subject, network, head)
    views = Views(units, subject.config, coins(step), torch.device("cpu"))
    found = np.empty((len(units.names), sum(p.numel() for p in inside)), np.float32)
    limit = subject.plan.max_gradient_norm * (1 - ROUNDING)
    for unit, row in enumerate(found):
        _, gradients = unit_gradient(network, head, views.of(unit, 0), inside, subject.config)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        row[:] = (flat * min(1.0, limit / (float(flat.norm()) + 1e-6))).numpy()
        watch.one_more()
    return found


def _losses(
    subject: Subject, network: nn.Module, units: Units, step: int, watch: _Watch
) -> NDArray[np.float64]:
    """Return the loss of each unit, augmented as in no round: [units]."""
    head, _ = subject.judge(network)
    inside = parameters(subject, network, head)
    views = Views(units, subject.config, coins(step), torch.device("cpu"))
    losses = []
    for unit in range(len(units.names)):
        loss, _ = unit_gradient(network, head, views.of(unit, 0), inside, subject.config)
        losses.append(float(loss))
        watch.one_more()
    return np.array(losses)
