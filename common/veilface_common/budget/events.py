"""What was, or will be, released: data, apart from every accountant.

One kind of mechanism leaves an organisation: a number of steps, each of which takes every unit with
probability `sample_rate` (Poisson sampling), sums what they give, each of Euclidean norm at most C,
and adds Gaussian noise of standard deviation `noise_multiplier` * C to every coordinate. A private
training step is one; a noised histogram in which a unit moves the counts by at most C is one with
sample rate 1. Neighbouring data sets differ by one unit added or removed.

An event that is not understood is refused, never guessed: guessing would under-count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from veilface_common.errors import BudgetError

Unit = Literal["identity", "image"]
UNITS: tuple[Unit, ...] = get_args(Unit)
MAX_STEPS = 10_000_000

MECHANISM = "poisson-subsampled-gaussian"


@dataclass(frozen=True, kw_only=True, order=True)
class Mechanism:
    """One step: the two numbers on which its privacy depends."""

    sample_rate: float  # in (0, 1]
    noise_multiplier: float  # standard deviation of the noise / clipping norm; > 0

    def __post_init__(self) -> None:
        _verify("sample_rate", self.sample_rate, "in (0, 1]", 0 < self.sample_rate <= 1)
        noise = self.noise_multiplier
        _verify("noise_multiplier", noise, "positive", 0 < noise < math.inf)


@dataclass(frozen=True, kw_only=True)
class Event:
    """`steps` steps of one mechanism over one kind of unit."""

    unit: Unit
    mechanism: Mechanism
    steps: int

    @property
    def takes_everybody_once(self) -> bool:
        """Whether it is one step that takes every unit: what a release of figures is."""
        return self.mechanism.sample_rate == 1 and self.steps == 1

    def __post_init__(self) -> None:
        _verify("unit", self.unit, "one of " + ", ".join(UNITS), self.unit in UNITS)
        whole = type(self.steps) is int and 1 <= self.steps <= MAX_STEPS
        _verify("steps", self.steps, f"a whole number in [1, {MAX_STEPS}]", whole)


def to_body(event: Event) -> dict[str, object]:
    """Return the event as a ledger holds it."""
    return {
        "mechanism": MECHANISM,
        "unit": event.unit,
        "sample_rate": event.mechanism.sample_rate,
        "noise_multiplier": event.mechanism.noise_multiplier,
        "steps": event.steps,
    }


def from_body(body: Mapping[str, object]) -> Event:
    """Return the event that `to_body` wrote.

    Raises:
        BudgetError: it is of another mechanism, or a value is missing, odd or out of range.
    """
    _verify("mechanism", body.get("mechanism"), MECHANISM, body.get("mechanism") == MECHANISM)
    known = {"mechanism", "unit", "sample_rate", "noise_multiplier", "steps"}
    _verify("the event's keys", sorted(body), str(sorted(known)), set(body) == known)
    rate, noise = body["sample_rate"], body["noise_multiplier"]
    _verify("sample_rate", rate, "a number", type(rate) is float)
    _verify("noise_multiplier", noise, "a number", type(noise) is float)
    mechanism = Mechanism(sample_rate=rate, noise_multiplier=noise)  # type: ignore[arg-type]
    return Event(unit=body["unit"], mechanism=mechanism, steps=body["steps"])  # type: ignore[arg-type]


def total_steps(events: Iterable[Event]) -> dict[Mechanism, int]:
    """Return how many steps of each mechanism there are: all that composition depends on."""
    totals: dict[Mechanism, int] = {}
    for event in events:
        totals[event.mechanism] = totals.get(event.mechanism, 0) + event.steps
    return totals


def _verify(what: str, got: object, expected: str, holds: bool) -> None:  # noqa: FBT001 -- reads as an assertion
    if not holds:
        raise BudgetError(f"expected {what} {expected}, got {got!r}")
