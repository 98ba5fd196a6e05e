"""Tests of the mechanism that need no statistics of an attack: each is exact, or exact to 5 sigma.

sensitivity     without one unit the clipped sum moves by C at most: same weights, same coins, every
                head that ships, the whole network
whitening       the same of the release that turns a warm start, and the size of its noise
noise           update - clean sum, over sigma C: deviation 1, mean 0, neighbours uncorrelated
rounds          the noise of two rounds is uncorrelated
sampling        a step takes each unit as often as is charged, and each step anew
processes       noise of this process, one forked from it and one started anew is uncorrelated
floating point  see `floating`
ledger          steps that are charged are updates that were sent

These find what an attack finds late or never. An audit of a run tests the step of that run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from veilface_client.data import Faces
from veilface_client.noise import Noise, SecureNoise
from veilface_client.private_plan import PrivateSummary, Secrets, plan_of, sample
from veilface_client.units import Coins, Units, units_of
from veilface_client.whitening import noised_scatter
from veilface_common.budget.entries import Head
from veilface_common.budget.events import Unit
from veilface_common.budget.ledger import Reservation
from veilface_common.config import ModelConfig, PrivacyConfig, PrivateHeadName, RunConfig
from veilface_simulations.auditing.canaries import Run
from veilface_simulations.auditing.faults import Fault, Silent
from veilface_simulations.auditing.floating import check_floating_point
from veilface_simulations.auditing.people import pattern_people
from veilface_simulations.auditing.processes import drawn_in_processes
from veilface_simulations.auditing.record import Check
from veilface_simulations.auditing.subject import (
    SECRET,
    Subject,
    coins,
    registration,
    release,
    subject_of,
)

HEADS: Sequence[PrivateHeadName] = ("leave-one-out", "fixed", "trained")
TESTS = len(HEADS) + 7  # how many `check_mechanism` gives
TESTS_OF = {"gradient": 7, "whitening": 4}  # how many `check_step` gives
_RATE = 0.1  # of sampling, where the step that is audited takes everybody
_NAMES, _DRAWS = 1000, 40
_PHOTOGRAPHS = (1, 2, 3, 4, 1, 2, 3, 4)  # of each person
_LEFT_OUT = (0, 3, 7)  # the first, one in the middle, the last
_PAIRED = (1, 3, 7)  # people of whom there are several photographs
_SCATTER_CLIP = 1e-6  # below every scatter of an untrained network
_ROUNDED = 1e-9  # of a difference of sums
_CLIP = 2e-4  # below every gradient: all are clipped
_NOISE = 1.5
_FAR = 1e6  # a step so long that what it moves is read without rounding
_SIGMAS = 5.0  # beyond them a right mechanism falls once in two million


def check_mechanism(fault: Fault, unit: Unit, seed: int, sample_rate: float) -> Iterator[Check]:
    """Run every test that needs no canaries, on steps at their defaults."""
    for head in HEADS:
        yield check_sensitivity(step_at_defaults(fault, unit, head, seed))
    yield from check_noise(step_at_defaults(fault, unit, "trained", seed))
    yield check_whitening(whitening_at_defaults(fault, seed))
    yield from _check_surroundings(step_at_defaults(fault, unit, "fixed", seed), sample_rate)


def check_step(subject: Subject) -> Iterator[Check]:
    """Run every test that needs no canaries on one step, of its network, method and head.

    Everybody is taken, and clipped harder than the step does it: what is below C tests no clipping.
    """
    private = subject.config.privacy
    least = _SCATTER_CLIP if private.method == "whitening" else _CLIP
    norm = min(private.max_gradient_norm, least)
    harder = replace(private, sample_rate=1.0, max_gradient_norm=norm)
    config = replace(subject.config, privacy=harder)
    everybody = subject_of(config, subject.fault, len(_PHOTOGRAPHS), subject.initial)
    if private.method == "whitening":
        yield check_whitening(everybody)
    else:
        yield check_sensitivity(everybody)
        yield from check_noise(everybody)
    yield from _check_surroundings(subject, private.sample_rate)


def check_run(run: Run) -> Iterator[Check]:
    """Test what the run of the canaries left: its noise, whom it took, its charges."""
    tolerance = _tolerance(2 * run.unexplained)
    off = max(abs(level - 1) for level in run.levels)
    yield Check(
        name="noise of the run",
        passed=off < tolerance,
        detail=f"deviations {_listed(run.levels)} of sigma C; expected 1 to {tolerance:.3f}",
    )
    rate = run.sample_rate
    expected = rate * run.offered
    spread = _SIGMAS * math.sqrt(rate * (1 - rate) * run.offered)
    yield Check(
        name="sampling of the run",
        passed=abs(run.taken - expected) <= spread,
        detail=f"{run.taken:,} of {run.offered:,} taken; expected {expected:,.0f} to {spread:,.0f}",
    )
    yield Check(
        name="ledger",
        passed=run.charged == run.sent,
        detail=f"{run.charged} steps charged, {run.sent} updates sent",
    )


def check_sensitivity(subject: Subject) -> Check:
    """Compare the clipped sum of everybody with that of everybody but one."""
    units = units_of(subject.plan.unit, _people(subject))
    everybody = _clean_sum(subject, units, step=0)
    norm = subject.plan.max_gradient_norm
    moved = [
        float(np.linalg.norm(everybody - _clean_sum(subject, _without(units, gone), step=0))) / norm
        for gone in _LEFT_OUT
    ]
    return Check(
        name=f"sensitivity, {subject.config.privacy.head} head",
        passed=0 < max(moved) <= 1,
        detail=f"one unit moves the sum by {_listed(moved)} C; expected 1 at most",
    )


def check_noise(subject: Subject) -> Iterator[Check]:
    """Take two rounds with and without noise, and look at the difference."""
    units = units_of(subject.plan.unit, _people(subject))
    first, second = (_noise(subject, units, step) for step in range(2))
    tolerance = _tolerance(len(first))
    deviations = [float(noise.std()) for noise in (first, second)]
    yield Check(
        name="variance of the noise",
        passed=all(abs(deviation - 1) < tolerance for deviation in deviations),
        detail=f"deviations {_listed(deviations)} of sigma C; expected 1 to {tolerance:.4f}",
    )
    means = [float(noise.mean()) for noise in (first, second)]
    neighbours = [_correlation(noise[1:], noise[:-1]) for noise in (first, second)]
    yield Check(
        name="whiteness of the noise",
        passed=all(abs(found) < tolerance for found in means + neighbours),
        detail=f"means {_listed(means)}, neighbours {_listed(neighbours)}; "
        f"expected 0 to {tolerance:.4f}",
    )
    shared = _correlation(first, second)
    yield Check(
        name="independence of rounds",
        passed=abs(shared) < tolerance,
        detail=f"correlation {shared:.4f}; expected 0 to {tolerance:.4f}",
    )


def check_whitening(subject: Subject) -> Check:
    """Compare the release of everybody with that of everybody but one, and with the clean one."""
    config, plan, fault = subject.config, subject.plan, subject.fault
    units = units_of("identity", _people(subject))
    network = subject.start()

    def released(units: Units, noise: Noise) -> NDArray[np.float64]:
        secrets = Secrets(coins=Coins(SECRET), noise=noise)
        seen = noised_scatter(network, units, config, plan, secrets, PrivateSummary())
        return seen / plan.max_gradient_norm

    clean = released(units, Silent())
    noise = (released(units, fault.noise(SecureNoise(), 0)) - clean) / plan.noise_multiplier
    moved = [float(np.linalg.norm(clean - released(_without(units, g), Silent()))) for g in _PAIRED]
    deviation, tolerance = float(noise.std()), _tolerance(len(noise))
    return Check(
        name="whitening",
        passed=0 < max(moved) <= 1 + _ROUNDED and abs(deviation - 1) < tolerance,
        detail=f"one person moves the sum by {_listed(moved)} C; expected 1 at most; "
        f"noise {deviation:.4f} of sigma C; expected 1 to {tolerance:.4f}",
    )


def check_sampling(fault: Fault, rate: float) -> Check:
    """Draw whom some steps take, and compare with the rate that is charged."""
    privacy = PrivacyConfig(unit="identity", sample_rate=rate, steps=_DRAWS)
    plan = plan_of(privacy, registration(_NAMES))
    names = [f"person {number}".encode() for number in range(_NAMES)]
    nobody = Units(canvases=np.empty((0, 3, 1, 1), np.uint8), names=names, rows=[])
    drawn = fault.coins(coins(0))
    taken = np.zeros((_DRAWS, _NAMES))
    for step, row in enumerate(taken):
        row[sample(nobody, plan, drawn, step)] = 1.0
    twice = float((taken[1:] * taken[:-1]).mean())
    found, tolerance = float(taken.mean()), _SIGMAS * math.sqrt(rate * (1 - rate) / taken.size)
    both = _SIGMAS * math.sqrt(3 * rate**2 * (1 - rate**2) / taken.size)  # neighbours overlap
    return Check(
        name="sampling",
        passed=abs(found - rate) <= tolerance and abs(twice - rate**2) <= both,
        detail=f"{found:.4f} of units taken, {twice:.4f} in two steps running; "
        f"expected {rate:.4g} to {tolerance:.4f}, {rate**2:.4g} to {both:.4f}",
    )


def check_processes() -> Check:
    """Compare what the shipped source gives in several processes."""
    drawn = drawn_in_processes()
    largest = max(abs(_correlation(one, other)) for one, other in combinations(drawn, 2))
    tolerance = _tolerance(len(drawn[0]))
    return Check(
        name="independence of processes",
        passed=largest < tolerance,
        detail=f"{len(drawn)} processes, largest correlation {largest:.4f}; "
        f"expected 0 to {tolerance:.4f}",
    )


def step_at_defaults(fault: Fault, unit: Unit, head: PrivateHeadName, seed: int) -> Subject:
    """Return the private step at its defaults, with everybody taken and everybody clipped."""
    privacy = PrivacyConfig(
        unit=unit,
        sample_rate=1.0,
        noise_multiplier=_NOISE,
        max_gradient_norm=_CLIP,
        steps=1,
        head=head,
        rows=64,
        public_weight=1e-5,  # or what is read off the weights would be rounded to its size
    )
    config = RunConfig(
        seed=seed, device="cpu", precision="fp32", model=ModelConfig(dimension=32), privacy=privacy
    )
    return subject_of(config, fault, len(_PHOTOGRAPHS))


def whitening_at_defaults(fault: Fault, seed: int) -> Subject:
    """Return the whitening release, with everybody taken and everybody clipped."""
    privacy = PrivacyConfig(
        unit="identity",
        method="whitening",
        sample_rate=1.0,
        noise_multiplier=_NOISE,
        max_gradient_norm=_SCATTER_CLIP,
        steps=1,
    )
    config = RunConfig(seed=seed, device="cpu", precision="fp32", privacy=privacy)
    return subject_of(config, fault, len(_PHOTOGRAPHS))


def _check_surroundings(subject: Subject, sample_rate: float) -> Iterator[Check]:
    """Test what every step rests on: coins, sources of noise, floating point."""
    yield check_sampling(subject.fault, sample_rate if sample_rate < 1 else _RATE)
    yield check_processes()
    yield check_floating_point(subject.fault)


def _people(subject: Subject) -> Faces:
    config = subject.config
    stark = config.privacy.method == "whitening"
    return pattern_people(_PHOTOGRAPHS, config.model, seed=[config.seed, 4], stark=stark)


def _clean_sum(subject: Subject, units: Units, step: int) -> NDArray[np.float64]:
    silenced = replace(subject.fault, noise=lambda _, __: Silent())
    return _released(replace(subject, fault=silenced), units, Silent(), step)


def _noise(subject: Subject, units: Units, step: int) -> NDArray[np.float64]:
    """Return the noise of a round, in units of sigma C."""
    noised = _released(subject, units, SecureNoise(), step)
    clean = _clean_sum(subject, units, step)
    return (noised - clean) / (subject.plan.noise_multiplier * subject.plan.max_gradient_norm)


def _released(subject: Subject, units: Units, noise: Noise, step: int) -> NDArray[np.float64]:
    """Take a round from the start. Nothing of it leaves, so it is charged to no ledger."""
    free = Reservation(1, subject.plan.event, Head(sequence=1, hash="00"))
    network = subject.start()
    told = release(subject, network, units, free, noise=noise, step=step, learning_rate=_FAR)
    return told.update


def _without(units: Units, gone: int) -> Units:
    kept = [unit for unit in range(len(units.names)) if unit != gone]
    return replace(
        units, names=[units.names[unit] for unit in kept], rows=[units.rows[unit] for unit in kept]
    )


def _tolerance(numbers: int) -> float:
    """Return how far a mean of so many numbers of variance 1 may be off."""
    return _SIGMAS / math.sqrt(numbers)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the mean product, relative to the lengths; 0 where one of them is nothing."""
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / lengths) if lengths else 0.0


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
