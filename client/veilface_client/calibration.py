"""Where the line is drawn: a threshold for a stated rate of false answers, and how sure that is.

**verify** (one to one). Rate: of strangers who claim to be somebody, how many are believed (false
match rate). Every person's probe is compared with every other person of the gallery; the interval
is a bootstrap over people, as pairs that share a person are not independent.

**identify** (one to many). Rate: of strangers who look into the camera, how many are given a name
(false positive identification rate). Each stranger gives one number, the best score in the whole
gallery. Of n such numbers the k-th largest is taken: a new stranger exceeds it with a probability
that is Beta(k, n + 1 - k) distributed, whatever the scores' distribution (Wilks 1941; Vovk 2012,
section 3). Its mean is k / (n + 1), and its 2.5% and 97.5% quantiles are the interval.

A rate below 1 / (n + 1) cannot be had from n people: the strictest threshold is then taken, and the
result says that it is not enough. The rate of `identify` grows with the gallery, at most in
proportion: in a gallery that has grown by a factor f, the threshold for rate / f is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from veilface_common.errors import ConfigError, DataError

Floats = NDArray[np.float32]
Question = Literal["verify", "identify"]
CONFIDENCE = 0.95
MIN_PEOPLE = 20  # below, an interval says nothing
MAX_PEOPLE = 2000  # whose every pair is looked at; more are drawn from
STRICTER = 0.1
ENOUGH = 10  # expected false answers among those that the threshold was chosen on
_BOOTSTRAP = 1000


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A threshold, and the false answers that it is expected to give."""

    question: Question
    asked: float  # rate of false answers
    threshold: float  # cosine; a score above it counts. It never leaves the organisation.
    strong: float  # the threshold of a rate that is ten times smaller, as far as that is known
    rate: float  # of false answers, as estimated
    low: float  # 95% interval of the rate
    high: float
    strangers: int  # how many people it was chosen on
    gallery: int  # people in the gallery at that time
    tail: tuple[float, ...] = ()  # of identify: the largest scores of strangers, falling

    @property
    def is_enough(self) -> bool:
        """Whether there were people enough for the rate that was asked for."""
        expected = self.asked * self.strangers
        if self.question == "verify":
            expected *= max(1, self.gallery - 1)
        return expected >= ENOUGH

    @property
    def warning(self) -> str:
        """What to say of a gallery that is too small; empty where it is not."""
        if self.is_enough:
            return ""
        return (
            f"{self.strangers} people are too few for a rate of {self.asked:g}: "
            f"the rate lies between {self.low:.2g} and {self.high:.2g}"
        )

    def threshold_for(self, gallery: int) -> float:
        """Return the threshold for a gallery of this many people, which may have grown since."""
        if self.question == "verify" or gallery <= self.gallery:
            return self.threshold
        place = _place(self.asked * self.gallery / gallery, self.strangers)
        return self.tail[place - 1]


def calibrate_verify(
    templates: Floats, owners: NDArray[np.int64], rate: float, *, seed: int = 0
) -> Calibration:
    """Return the threshold at which strangers who claim to be somebody are believed at `rate`.

    Args:
        templates: [N, D], unit length; the gallery's, and those of others where there are some.
        owners: [N], a number for each person.
        rate: false match rate asked for, in (0, 0.5).
        seed: of the choice among more than `MAX_PEOPLE` people, and of the bootstrap.

    Raises:
        ConfigError: the rate is out of range.
        DataError: there are fewer than `MIN_PEOPLE` people.
    """
    _verify_rate(rate)
    random = np.random.default_rng(seed)
    people = _chosen(np.unique(owners), random)
    _verify_enough(len(people))
    best = _best_scores(templates, owners, people)  # [P probes, P people]
    scores = best[~np.eye(len(people), dtype=bool)]
    place = _place(rate, len(scores))
    strict = _place(STRICTER * rate, len(scores))
    largest = np.sort(np.partition(scores, -place)[-place:])[::-1]
    threshold = float(largest[-1])
    false = (best > threshold).astype(np.float64)
    np.fill_diagonal(false, 0)
    low, high = _bootstrap(false, random)
    return Calibration(
        question="verify",
        asked=rate,
        threshold=threshold,
        strong=float(largest[strict - 1]),
        rate=float(false.sum() / len(scores)),
        low=low,
        high=high,
        strangers=len(people),
        gallery=len(people),
    )


def calibrate_identify(best: Floats, gallery: int, rate: float) -> Calibration:
    """Return the threshold at which strangers are given a name at `rate`.

    Args:
        best: [n], of each stranger the best score in the gallery; one number for each person.
        gallery: people in it.
        rate: false positive identification rate asked for, in (0, 0.5).

    Raises:
        ConfigError: the rate is out of range.
        DataError: there are fewer than `MIN_PEOPLE` strangers.
    """
    _verify_rate(rate)
    _verify_enough(len(best))
    count = len(best)
    place = _place(rate, count)
    falling = np.sort(best)[::-1][:place]
    from scipy.special import betaincinv  # noqa: PLC0415 -- seconds that no answer needs

    outside = (1 - CONFIDENCE) / 2
    low, high = betaincinv(place, count + 1 - place, [outside, 1 - outside])
    return Calibration(
        question="identify",
        asked=rate,
        threshold=float(falling[-1]),
        strong=float(falling[_place(STRICTER * rate, count) - 1]),
        rate=place / (count + 1),
        low=float(low),
        high=float(high),
        strangers=count,
        gallery=gallery,
        tail=tuple(map(float, falling)),
    )


def strangers_within(templates: Floats, owners: NDArray[np.int64], *, seed: int = 0) -> Floats:
    """Return, of each person of a gallery, the best score among all others: [n].

    Everybody is a stranger to a gallery without them. The probe is a person's first template.
    """
    random = np.random.default_rng(seed)
    people = _chosen(np.unique(owners), random)
    probes = templates[[int(np.flatnonzero(owners == person)[0]) for person in people]]
    found = np.empty(len(people), dtype=np.float32)
    for number, (person, probe) in enumerate(zip(people, probes, strict=True)):
        scores = templates @ probe
        found[number] = scores[owners != person].max()
    return found


def _best_scores(templates: Floats, owners: NDArray[np.int64], people: NDArray[np.int64]) -> Floats:
    """Return the best score of each person's first template with each person's templates."""
    rows = [np.flatnonzero(owners == person) for person in people]
    probes = templates[[int(row[0]) for row in rows]]
    return np.stack([(probes @ templates[row].T).max(1) for row in rows], axis=1)


def _place(rate: float, count: int) -> int:
    """Return which largest score of `count` keeps the expected rate: at least the largest."""
    return max(1, int(rate * (count + 1) + 1e-9))


def _bootstrap(false: NDArray[np.float64], random: np.random.Generator) -> tuple[float, float]:
    """Return the interval of the mean of a [P, P] table without its diagonal, over people."""
    count = len(false)
    rates = np.empty(_BOOTSTRAP)
    for draw in range(_BOOTSTRAP):
        weights = random.multinomial(count, np.full(count, 1 / count)).astype(np.float64)
        pairs = weights.sum() ** 2 - (weights**2).sum()  # a person against themselves is no pair
        rates[draw] = weights @ false @ weights / pairs
    low, high = np.quantile(rates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _chosen(people: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    if len(people) <= MAX_PEOPLE:
        return people
    return np.sort(random.choice(people, MAX_PEOPLE, replace=False))


def _verify_rate(rate: float) -> None:
    if not 0 < rate < 0.5:
        raise ConfigError(f"expected a rate in (0, 0.5), got {rate:g}", hint="such as 0.01")


def _verify_enough(people: int) -> None:
    if people < MIN_PEOPLE:
        raise DataError(
            f"expected at least {MIN_PEOPLE} people to choose a threshold on, got {people}",
            hint="name others with --impostors, such as folder:PATH of people who agreed to that",
        )
