"""A lower bound on epsilon from guesses about who was trained on (Steinke et al. 2023).

Each of m canaries is trained on or not by its own fair coin. The auditor sees what was released and
guesses r of the coins. Whatever the auditor does, an (epsilon, delta) private release gives v right
guesses or more with probability at most

    P[B >= v] + 2 m delta max_i P[v > B >= v - i] / i,

    B ~ Binomial(r, e^epsilon / (1 + e^epsilon))

(theorem 5.2 and the program in appendix D). An epsilon for which that is too improbable is refuted.
How many to guess is to be fixed before looking. Two numbers are: all of them, which alone refutes a
large epsilon, and the eighth that the auditor is surest of, which sees most of a small one. Each
has half of the doubt, so that the larger bound holds with the confidence that is stated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
SHARES = (1, 8)  # one guess for so many canaries
_HALVINGS = 40


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What an auditor's guesses prove."""

    epsilon: float  # at least, with `confidence`
    confidence: float
    canaries: int
    guesses: int  # of the two numbers of guesses, the one that proves more
    correct: int
    resolving_power: float  # the most that so many canaries can show: all of them guessed right


def measure(scores: NDArray[np.float64], included: NDArray[np.bool_], delta: float) -> Measured:
    """Return what scores prove: [canaries], above 0 for "was trained on", surer farther from 0."""
    canaries = len(scores)
    surest = np.argsort(-np.abs(scores), kind="stable")
    right = ((scores > 0) == included)[surest]
    doubt = (1 - CONFIDENCE) / len(SHARES)
    found = []
    for share in SHARES:
        guesses = max(1, canaries // share)
        correct = int(right[:guesses].sum())
        epsilon = lower_bound(canaries, guesses, correct, delta=delta, doubt=doubt)
        found.append((epsilon, guesses, correct))
    epsilon, guesses, correct = max(found)
    return Measured(
        epsilon=epsilon,
        confidence=CONFIDENCE,
        canaries=canaries,
        guesses=guesses,
        correct=correct,
        resolving_power=lower_bound(canaries, canaries, canaries, delta=delta, doubt=doubt),
    )


def lower_bound(
    canaries: int, guesses: int, correct: int, *, delta: float, doubt: float = 1 - CONFIDENCE
) -> float:
    """Return the largest epsilon that `correct` of `guesses` refute, but for a chance of `doubt`.

    0 where they refute nothing.
    """

    def refuted(epsilon: float) -> bool:
        return probability(canaries, guesses, correct, epsilon=epsilon, delta=delta) < doubt

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def probability(
    canaries: int, guesses: int, correct: int, *, epsilon: float, delta: float
) -> float:
    """Return the largest probability of so many right guesses, or more, under (epsilon, delta)."""
    masses = _binomial(guesses, epsilon)
    below = np.cumsum(masses[:correct][::-1])  # [i - 1]: P[correct > B >= correct - i]
    steepest = float((below / np.arange(1, correct + 1)).max()) if correct else 0.0
    return min(1.0, float(masses[correct:].sum()) + 2 * canaries * delta * steepest)


def _binomial(trials: int, epsilon: float) -> NDArray[np.float64]:
    """Return the masses of Binomial(trials, e^epsilon / (1 + e^epsilon)): [trials + 1]."""
    successes = np.arange(trials + 1)
    factorials = np.array([math.lgamma(count + 1) for count in successes])  # logarithms
    ways = factorials[-1] - factorials - factorials[::-1]
    right = -math.log1p(math.exp(-epsilon))
    masses: NDArray[np.float64] = np.exp(ways + trials * right - epsilon * (trials - successes))
    return masses
