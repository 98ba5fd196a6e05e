"""One run in which half of the canaries are trained on, and what its releases tell of which half.

The auditor knows everything but the coins: the weights before and after each round, what each
canary gives, the head's secret, how photographs were augmented. The update u of a round should be
sum_i b_i t_i g_i + sigma C z, with b_i whether canary i is trained on, t_i whether the round took
it (with probability q) and g_i its clipped gradient or scatter; the auditor trusts neither sigma,
C nor q, but reads them off u:

    level    of the noise: what of u nobody's gradient explains
    size     of a contribution: 1 by right; how far u goes along the sum of all q g_i
    score    the best linear guess of b_i - 1/2 from all rounds (Gauss and Markov; ridge), where
             whom a round takes is noise as well, of variance q (1 - q) / 2 for each canary
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from veilface_client.units import Units, units_of
from veilface_common.budget.ledger import Ledger, create_ledger
from veilface_common.budget.policy import Policy
from veilface_common.config import PrivacyConfig
from veilface_common.crypto.signing import SigningKey
from veilface_simulations.auditing.methods import Gradients, Method, Scatters
from veilface_simulations.auditing.people import pattern_people
from veilface_simulations.auditing.subject import Subject, registration

Progress = Callable[[int, int], None]  # (canaries looked at, in all)
T = TypeVar("T")
LEDGER = "ledger.db"
_LEAST_LEVEL = 1e-6  # of noise, relative to C: where there is none
_RANK = 1e-6  # smaller eigenvalues, relative to the largest, are rounding
_LEAST_SIZE = 0.5  # of contributions: few canaries say little of it


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How canaries are run."""

    canaries: int  # about half of them are trained on
    learning_rates: tuple[float, ...]  # of each step, which is a round of its own
    epsilon: float  # of the policy
    delta: float
    seed: int  # of patterns, coins and noise

    @property
    def steps(self) -> int:
        """How many steps are taken: released and charged one by one."""
        return len(self.learning_rates)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What an audited run left behind."""

    included: NDArray[np.bool_]  # [canaries]: the coins
    scores: NDArray[np.float64]  # [canaries], from all updates; above 0: was trained on
    loss_drops: NDArray[np.float64]  # [canaries], from the first and the last weights alone
    levels: tuple[float, ...]  # of each round: the noise that was found / sigma C
    unexplained: int  # numbers of an update that a level is found from
    contribution: float  # median length of what a canary gives to a round / C
    sample_rate: float
    offered: int  # canaries that a round could take, over all rounds
    taken: int  # those that it took
    sent: int  # updates
    charged: int  # steps, as the ledger says
    claimed: float  # epsilon of the ledger


def method_of(subject: Subject, learning_rates: tuple[float, ...]) -> Method:
    """Return the method that the subject's configuration names."""
    if subject.config.privacy.method == "whitening":
        return Scatters(subject=subject)
    return Gradients(subject=subject, learning_rates=learning_rates)


def run_canaries(subject: Subject, plan: Plan, folder: Path, progress: Progress) -> Run:
    """Train on the canaries whose coins say so, one step a round, and score all of them.

    Args:
        subject: what is audited; its plan is of one step.
        plan: how.
        folder: empty; the ledger is kept there.
        progress: told how many of all gradients and losses are done.
    """
    method = method_of(subject, plan.learning_rates)
    everybody = _units(subject, plan)
    included = np.random.default_rng([plan.seed, 1]).random(plan.canaries) < 0.5
    trained_on = _chosen(everybody, included)
    key = SigningKey.from_seed(plan.seed.to_bytes(32, "big"))
    ledger = _start_ledger(folder / LEDGER, key, subject, plan)
    watch = _Watch(progress, plan.canaries * (plan.steps + 2))
    network = subject.start()
    first = np.array([*watch.each(method.losses(network, everybody, plan.steps))])
    evidence = Evidence(plan.canaries, subject.plan.sample_rate)
    given = np.empty((plan.canaries, method.size()), np.float32)
    levels, lengths, taken = [], [], 0
    for step in range(plan.steps):
        for row, found in enumerate(watch.each(method.contributions(network, everybody, step))):
            given[row] = found
        reservation = ledger.reserve(subject.plan.event, {"round": step + 1, "run": "audit"})
        seed = plan.steps * plan.seed + step
        released = method.release(network, trained_on, reservation, seed=seed, step=step)
        ledger.settle(reservation, {"outcome": "sent"})
        taken += released.taken
        lengths.append(float(np.median(np.linalg.norm(given, axis=1))))
        levels.append(evidence.add(given, released.update, subject.plan.max_gradient_norm))
    last = np.array([*watch.each(method.losses(network, everybody, plan.steps))])
    read_back = Ledger(folder / LEDGER, key)
    deviation = subject.plan.noise_multiplier * subject.plan.max_gradient_norm
    return Run(
        included=included,
        scores=evidence.scores(),
        loss_drops=first - last,
        levels=tuple(level / deviation for level in levels),
        unexplained=max(1, given.shape[1] - plan.canaries),
        contribution=float(np.mean(lengths)) / subject.plan.max_gradient_norm,
        sample_rate=subject.plan.sample_rate,
        offered=len(trained_on.names) * plan.steps,
        taken=taken,
        sent=len(levels),
        charged=sum(read_back.steps.values()),
        claimed=read_back.spent().charged,
    )


class Evidence:
    """What updates say of each canary, added up over rounds in units of their noise."""

    def __init__(self, canaries: int, sample_rate: float) -> None:
        self._rate = sample_rate
        self._gram = np.zeros((canaries, canaries))
        self._told = np.zeros(canaries)

    def add(self, given: NDArray[np.float32], update: NDArray[np.float64], norm: float) -> float:
        """Take note of a round: contributions [canaries, d], update [d]; return its noise.

        With G the contributions, K = G G^T and v = q (1 - q) / 2, the noise of u has the covariance
        s^2 + v G^T G, and G (s^2 + v G^T G)^-1 = (s^2 + v K)^-1 G.
        """
        told = (given @ update.astype(np.float32)).astype(np.float64)
        values, vectors = np.linalg.eigh((given @ given.T).astype(np.float64))
        along = vectors.T @ told
        level = max(_LEAST_LEVEL * norm, _level(values, along, update))
        variance = self._rate * (1 - self._rate) / 2
        values = values.clip(0.0)
        weights = 1 / (level**2 + variance * values)
        self._gram += (vectors * (self._rate**2 * weights * values)) @ vectors.T
        self._told += vectors @ (self._rate * weights * along)
        return level

    def scores(self) -> NDArray[np.float64]:
        """Return the best guess of b - 1/2 for each canary: [canaries]."""
        size = max(_LEAST_SIZE, float(2 * self._told.sum() / self._gram.sum()))
        centred = self._told - size / 2 * self._gram.sum(1)
        prior = 4 / size**2 * np.eye(len(centred))  # a coin has variance 1/4
        found: NDArray[np.float64] = np.linalg.solve(self._gram + prior, centred)
        return found


def _level(
    values: NDArray[np.float64], along: NDArray[np.float64], update: NDArray[np.float64]
) -> float:
    """Return the deviation of what is left of `update` off the span of all contributions."""
    kept = values > _RANK * values[-1]
    explained = float((along[kept] ** 2 / values[kept]).sum())
    left = max(0.0, float(update @ update) - explained)
    return float(np.sqrt(left / max(1, len(update) - int(kept.sum()))))


class _Watch:
    """Counts what is done, over all passes."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def each(self, parts: Iterable[T]) -> Iterator[T]:
        for part in parts:
            yield part
            self._done += 1
            self._progress(self._done, self._total)


def _units(subject: Subject, plan: Plan) -> Units:
    photographs = 2 if subject.plan.unit == "identity" else 1
    faces = pattern_people(
        (photographs,) * plan.canaries,
        subject.config.model,
        seed=[plan.seed, 2],
        stark=_compares(subject.config.privacy),
    )
    return units_of(subject.plan.unit, faces)


def _compares(privacy: PrivacyConfig) -> bool:
    """Return whether what a person gives depends on how far photographs of one lie apart."""
    return privacy.method == "whitening" or privacy.head == "leave-one-out"


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
