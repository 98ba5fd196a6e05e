"""Figures that may leave: what one unit can move, what hides it, and who is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.private_parts import CONFIG, SECRET, NoNoise, some_faces
from torch import nn

from veilface_client import noised_scores as module
from veilface_client.data import Faces
from veilface_client.noise import Noise, SeededNoise
from veilface_client.noised_scores import (
    held_out,
    histograms,
    matches,
    noised_scores,
    sitters,
    slots_for,
)
from veilface_common.budget.calibration import evaluation_event
from veilface_common.budget.entries import Head as LedgerHead
from veilface_common.budget.events import Event, Unit
from veilface_common.budget.ledger import Reservation
from veilface_common.config import PrivacyConfig, RunConfig
from veilface_common.errors import BudgetError
from veilface_common.models import build
from veilface_common.score_histograms import (
    BINS,
    MATCHINGS,
    SENSITIVITY,
    ScoreHistograms,
    bins_of,
    deviation_of,
)

SLOTS = 4
FIGURES = replace(CONFIG, privacy=PrivacyConfig(unit="identity", evaluation_noise=2.0))


def vector(text: str) -> np.ndarray:
    """Return a direction that belongs to a photograph, of few, so that scores are extreme."""
    digest = hashlib.sha256(text.encode()).digest()
    found = np.zeros(4)
    found[digest[0] % 4] = 1.0 if digest[1] % 2 else -1.0
    return found


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give each photograph a direction without a network, but where a test asks for one."""
    if "network" in request.node.name:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:

        def embedded(_: nn.Module, faces: Faces, row: int, __: RunConfig) -> np.ndarray:
            return vector(f"{faces.rows[row]}")

        patch.setattr(module, "_embedded", embedded)
        yield


def exact(faces: Faces, secret: bytes = SECRET, network: nn.Module | None = None) -> np.ndarray:
    return histograms(sitters(network or nn.Identity(), faces, FIGURES, secret), SLOTS, secret)


def fewer(faces: Faces, unit: Unit) -> Iterator[Faces]:
    """Yield the faces without each of the units in turn."""
    if unit == "identity":
        everybody = range(len(faces.person_names))
        yield from (faces.of_people([p for p in everybody if p != gone]) for gone in everybody)
        return
    for gone in range(len(faces)):
        kept = np.arange(len(faces)) != gone
        left = replace(
            faces,
            rows=faces.rows[kept],
            people=faces.people[kept],
            photo_names=tuple(np.array(faces.photo_names)[kept].tolist()),
        )
        yield left.of_people(sorted(set(left.people.tolist())))


def moves(faces: Faces, unit: Unit, secret: bytes) -> list[float]:
    whole = exact(faces, secret)
    return [float(np.linalg.norm(whole - exact(left, secret))) for left in fewer(faces, unit)]


@pytest.mark.parametrize("unit", ["identity", "image"])
@settings(deadline=None, max_examples=25)
@given(secret=st.binary(min_size=32, max_size=32), people=st.integers(1, 14))
def test_without_one_unit_the_histograms_move_by_the_sensitivity_at_most(
    unit: Unit, secret: bytes, people: int
) -> None:
    """Each person, and each photograph, is taken out in turn."""
    assert max(moves(some_faces(people), unit, secret)) <= SENSITIVITY[unit] + 1e-9


@pytest.mark.parametrize("unit", ["identity", "image"])
def test_the_sensitivity_is_not_larger_than_it_must_be(unit: Unit) -> None:
    """Somebody moves them by most of it where scores are as far apart as they can be."""
    found = max(
        value for number in range(20) for value in moves(some_faces(8), unit, bytes([number]) * 32)
    )
    assert found > 0.6 * SENSITIVITY[unit]


def test_matching_in_order_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours in a sorted list all change when one goes: the test above sees that."""

    def neighbours(names: list[bytes], *_: object) -> list[tuple[int, int]]:
        return list(pairwise(range(len(names))))[::2]

    monkeypatch.setattr(module, "matches", neighbours)
    assert max(moves(some_faces(14), "identity", SECRET)) > SENSITIVITY["identity"]


@settings(deadline=None)
@given(secret=st.binary(min_size=32, max_size=32), matching=st.integers(0, MATCHINGS - 1))
def test_a_matching_compares_nobody_twice(secret: bytes, matching: int) -> None:
    """A person is in one pair of a matching at most, and who is in it is the lowest of its slot."""
    names = [f"person {i}".encode() for i in range(40)]
    found = matches(names, matching, 16, secret)
    people = [person for pair in found for person in pair]
    assert len(people) == len(set(people))
    assert 0 < len(found) <= 16


def test_the_histograms_are_those_of_a_slow_count() -> None:
    """One score of each person with two photographs; 1/16 of each matched pair."""
    faces = some_faces(10)
    people = sitters(nn.Identity(), faces, FIGURES, SECRET)
    slow = np.zeros((2, BINS))
    for one in people:
        if one.second is not None:
            slow[0, bins_of(np.array([one.first @ one.second]))[0]] += 1
    for matching in range(MATCHINGS):
        for i, j in matches([one.name for one in people], matching, SLOTS, SECRET):
            slow[1, bins_of(np.array([people[i].first @ people[j].first]))[0]] += 1 / MATCHINGS
    np.testing.assert_allclose(exact(faces), slow)
    assert slow[0].sum() == sum(faces.photographs_per_person() >= 2)


def charge(event: Event) -> Reservation:
    return Reservation(1, event, LedgerHead(sequence=1, hash="00"))


def released(
    noise: Noise, config: RunConfig = FIGURES, paid: Reservation | None = None
) -> ScoreHistograms:
    return noised_scores(
        nn.Identity(),
        some_faces(8),
        config,
        paid or charge(evaluation_event(config.privacy)),
        slots=SLOTS,
        secret=SECRET,
        noise=noise,
    )


def spread(noises: list[Noise], config: RunConfig = FIGURES) -> float:
    """Return how far what leaves is from the exact counts, in deviations that were paid for."""
    unit = config.privacy.unit
    assert unit != "none"
    parts = [released(noise, config) for noise in noises]
    flat = np.array([[*part.genuine, *part.impostor] for part in parts])
    apart = flat - exact(some_faces(8)).ravel()
    return float(np.sqrt((apart**2).mean())) / deviation_of(unit, config.privacy.evaluation_noise)


@pytest.mark.parametrize("unit", ["identity", "image"])
def test_the_noise_has_the_deviation_that_is_charged(unit: Unit) -> None:
    """sigma times the sensitivity of the unit, in every bin; without noise this test fails."""
    config = replace(FIGURES, privacy=replace(FIGURES.privacy, unit=unit))
    noises: list[Noise] = [SeededNoise(number) for number in range(100)]
    assert spread(noises, config) == pytest.approx(1.0, abs=0.05)
    assert spread([NoNoise()], config) < 1e-3, "the planted fault"


def test_what_leaves_has_no_low_bits() -> None:
    """Six digits after the point: a float's last bits could tell what it was added to."""
    for weights in (released(SeededNoise(1)).genuine, released(SeededNoise(1)).impostor):
        assert all(weight == round(weight, 6) for weight in weights)


def test_figures_need_a_charge_of_their_own() -> None:
    """A charge for less noise, for another unit or for training buys none; one buys one release."""
    event = evaluation_event(FIGURES.privacy)
    for other in (
        replace(event, mechanism=replace(event.mechanism, noise_multiplier=3.0)),
        replace(event, unit="image"),
        replace(event, steps=2),
    ):
        with pytest.raises(BudgetError, match="expected to spend"):
            released(NoNoise(), paid=charge(other))
    paid = charge(event)
    released(NoNoise(), paid=paid)
    with pytest.raises(BudgetError, match="spent before"):
        released(NoNoise(), paid=paid)


@pytest.mark.parametrize("privacy", [PrivacyConfig(evaluation_noise=1.0), CONFIG.privacy])
def test_figures_without_noise_or_unit_are_no_event(privacy: PrivacyConfig) -> None:
    """There is nothing that could be charged, so nothing that could leave."""
    with pytest.raises(BudgetError):
        evaluation_event(privacy)


def test_nobody_moves_another_persons_coin() -> None:
    """Who is held out follows from the person's own name; about the share that was asked for."""
    names = [f"person {i}" for i in range(2000)]
    chosen = {names[i] for i in held_out(names, SECRET, 0.2)}
    some = names[::3]
    assert {some[i] for i in held_out(some, SECRET, 0.2)} == chosen & set(some)
    assert len(chosen) / len(names) == pytest.approx(0.2, abs=0.03)
    assert chosen < {names[i] for i in held_out(names, SECRET, 0.5)}
    assert chosen != {names[i] for i in held_out(names, bytes(32), 0.2)}


def test_slots_follow_from_what_is_declared() -> None:
    """Four tenths of the people held out: then about two tenths of them are pairs."""
    assert (slots_for(1000, 0.2), slots_for(1, 0.01)) == (80, 1)
    names = [f"person {i}".encode() for i in range(200)]
    pairs = [len(matches(names, number, slots_for(1000, 0.2), SECRET)) for number in range(16)]
    assert np.mean(pairs) == pytest.approx(0.2 * 200, rel=0.1)


def test_an_embedding_that_is_not_finite_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that went wrong gives noise, not an error that would tell of a photograph."""
    monkeypatch.setattr(module, "_embedded", lambda *_: np.full(4, np.nan))
    assert exact(some_faces(6)).sum() == 0


def test_with_a_network_nobody_changes_what_others_score() -> None:
    """The shipped embedding: each photograph by itself, so that all other scores stay exactly."""
    network = build(FIGURES.model, seed=1).eval()
    faces = some_faces(5)
    whole = exact(faces, network=network)
    assert whole.sum() > 0
    for unit in ("identity", "image"):
        for left in fewer(faces, unit):  # type: ignore[arg-type]
            moved = float(np.linalg.norm(whole - exact(left, network=network)))
            assert moved <= SENSITIVITY[unit] + 1e-9  # type: ignore[index]
