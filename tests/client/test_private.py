"""The private step: what it must never do, and that it equals a slow loop over units."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.client.private_parts import (
    CLIP,
    CONFIG,
    FAR,
    PEOPLE,
    REGISTRATION,
    SECRET,
    NoNoise,
    configurations,
    declared,
    head_of,
    length,
    one_at_a_time,
    reserved,
    sized,
    some_faces,
    stepped,
    without,
)
from torch import Tensor

from veilface_client.noise import SeededNoise
from veilface_client.private import train_private
from veilface_client.private_heads import BankHead
from veilface_client.private_plan import ROUNDING, Secrets, freeze_but, plan_of, sample
from veilface_client.units import IMAGES_AT_ONCE, UNITS_AT_ONCE, Coins, Units, Views, units_of
from veilface_common.budget.accountant import epsilon
from veilface_common.budget.calibration import calibrated
from veilface_common.budget.events import Event, Mechanism
from veilface_common.config import (
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from veilface_common.errors import BudgetError, ConfigError, DataError
from veilface_common.models import build


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    "config",
    [*configurations(), replace(CONFIG, privacy=replace(CONFIG.privacy, max_gradient_norm=1e3))],
    ids=lambda c: f"{c.privacy.unit}-{c.privacy.head}-{c.model.name}-{c.privacy.max_gradient_norm}",
)
def test_a_step_equals_a_loop_over_units(config: RunConfig) -> None:
    """Autograd for one unit at a time, clipped by hand: the sum is the same.

    To 1e-5: Opacus's norms of a million numbers are fp32.
    """
    units = units_of("identity", sized(config, some_faces()))
    if config.privacy.unit == "image":
        units = units_of("image", sized(config, some_faces()))
    config = replace(config, privacy=replace(config.privacy, public_weight=0.0))
    network = build(config.model, seed=1)
    got, summary = stepped(config, units, network)
    assert (summary.clipped > 0) == (config.privacy.max_gradient_norm == CLIP)

    slow = copy.deepcopy(network).to(memory_format=torch.channels_last)  # sums in the same order
    head, _ = head_of(config, slow)
    weights = [*slow.parameters(), *(p for p in head.parameters() if p.requires_grad)]
    plan = plan_of(config.privacy, REGISTRATION)
    views = Views(units, config, Coins(SECRET), torch.device("cpu"))
    total = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights]
    for unit in sample(units, plan, Coins(SECRET), 0):
        _, found = one_at_a_time(slow, head, views.of([unit], 0), weights)
        gradients = [gradient[0] for gradient in found]
        bound = plan.max_gradient_norm * (1 - ROUNDING)
        factor = min(1.0, bound / (length(gradients) + 1e-6))
        for summed, gradient in zip(total, gradients, strict=True):
            summed.add_(gradient.double(), alpha=factor)
    frozen = [got[len(list(slow.parameters())) :]] if len(weights) < len(got) else []
    assert all(not moved.any() for part in frozen for moved in part)
    error = length([a - b for a, b in zip(got[: len(total)], total, strict=True)])
    assert error <= 1e-5 * length(total)


@pytest.mark.parametrize(
    "config",
    list(configurations()),
    ids=lambda c: f"{c.privacy.unit}-{c.privacy.head}-{c.model.name}",
)
def test_one_unit_moves_the_clipped_sum_by_its_clipping_norm_at_most(config: RunConfig) -> None:
    """Without one unit, the same weights and coins: the sum differs by C or less, at any step."""
    unit = "image" if config.privacy.unit == "image" else "identity"
    units = units_of(unit, sized(config, some_faces()))
    config = replace(config, privacy=replace(config.privacy, sample_rate=1.0))
    network = build(config.model, seed=1)
    largest = 0.0
    for _ in range(2):
        everybody, _ = stepped(config, units, network)
        for gone in (0, len(units.names) - 1):
            fewer, _ = stepped(config, without(units, gone), network)
            moved = length([a - b for a, b in zip(everybody, fewer, strict=True)])
            assert moved <= CLIP
            largest = max(largest, moved)
        with torch.no_grad():  # on to other weights
            for weight, change in zip(network.parameters(), everybody, strict=False):
                weight.sub_(change.to(weight), alpha=0.5)
    assert largest > CLIP / 4  # or the check could not fail


def test_the_check_of_sensitivity_catches_a_head_that_remembers() -> None:
    """A head whose state one unit moves and the next one sees breaks the bound."""

    class Remembering(BankHead):
        def loss(self, embeddings: Tensor, unit: bytes) -> Tensor:
            found = super().loss(embeddings, unit)
            with torch.no_grad():
                self.weight.add_(torch.sign(embeddings.flatten(0, 1).sum(0)), alpha=1e6)
            return found

    units = units_of("identity", some_faces())
    config = replace(CONFIG, privacy=replace(CONFIG.privacy, sample_rate=1.0, head="fixed"))
    network = build(config.model, seed=1)

    def summed(units: Units) -> list[Tensor]:
        mine = copy.deepcopy(network)
        head = Remembering(config.head, 8, 16, SECRET, trained=False)
        plan = plan_of(config.privacy, REGISTRATION)
        before = [weight.detach().clone() for weight in mine.parameters()]
        secrets = Secrets(coins=Coins(SECRET), noise=NoNoise())
        train_private(
            mine, head, units, config, plan, reserved(plan), secrets=secrets, learning_rate=FAR
        )
        pairs = zip(before, mine.parameters(), strict=True)
        return [(old - new.detach()) * plan.expected_units / FAR for old, new in pairs]

    everybody, fewer = summed(units), summed(without(units, 0))
    assert length([a - b for a, b in zip(everybody, fewer, strict=True)]) > 1.2 * CLIP


def test_a_unit_that_is_not_finite_is_dropped_and_counted() -> None:
    """One broken photograph makes no weight NaN, and the others count as before."""
    config = replace(CONFIG, privacy=replace(CONFIG.privacy, sample_rate=1.0, head="fixed"))
    units = units_of("identity", some_faces())
    network = build(config.model, seed=1)

    class Broken(BankHead):
        def loss(self, embeddings: Tensor, unit: bytes) -> Tensor:
            found = super().loss(embeddings, unit)
            return found * float("nan") if unit == b"person 2" else found

    plan = plan_of(config.privacy, REGISTRATION)
    mine = copy.deepcopy(network)
    secrets = Secrets(coins=Coins(SECRET), noise=NoNoise())
    head = Broken(config.head, 8, 16, SECRET, trained=False)
    summary = train_private(
        mine, head, units, config, plan, reserved(plan), secrets=secrets, learning_rate=FAR
    )
    assert (summary.dropped, summary.taken) == (1, PEOPLE)
    others, _ = stepped(config, without(units, 2), network)
    for old, new, expected in zip(network.parameters(), mine.parameters(), others, strict=False):
        moved = (old - new).detach().double() * plan.expected_units / FAR
        torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-9)


def test_an_empty_draw_is_a_step_of_noise() -> None:
    """Nobody taken: the weights move by noise alone, and the step is counted."""
    privacy = replace(CONFIG.privacy, sample_rate=1e-6, noise_multiplier=2.0, steps=3, head="fixed")
    config = replace(CONFIG, privacy=privacy)
    plan = plan_of(privacy, declared(1_000_000))
    network = build(config.model, seed=1)
    before = [weight.detach().clone() for weight in network.parameters()]
    summary = train_private(
        network,
        BankHead(config.head, 8, 16, SECRET, trained=False),
        units_of("identity", some_faces()),
        config,
        plan,
        reserved(plan),
        secrets=Secrets(coins=Coins(SECRET), noise=SeededNoise(5)),
        learning_rate=1.0,
    )
    assert (summary.steps, summary.taken) == (3, 0)
    pairs = zip(before, network.parameters(), strict=True)
    moved = torch.cat([(old - new.detach()).flatten() for old, new in pairs])
    expected = np.sqrt(3) * 2.0 * CLIP / plan.expected_units
    assert float(moved.std()) == pytest.approx(expected, rel=0.01)


def test_the_noise_is_white_and_of_the_declared_size() -> None:
    """With and without noise, the same coins: the difference is sigma C / (q N), uncorrelated."""
    privacy = replace(CONFIG.privacy, noise_multiplier=1.5, head="trained")
    config = replace(CONFIG, privacy=privacy)
    plan = plan_of(privacy, REGISTRATION)
    units, network = units_of("identity", some_faces()), build(config.model, seed=1)
    summed, _ = stepped(config, units, network)
    noises = []
    for seed in (5, 6):
        mine = copy.deepcopy(network)
        head = BankHead(config.head, config.privacy.rows, 16, SECRET, trained=True)
        weights = [*mine.parameters(), *head.parameters()]
        before = [weight.detach().clone() for weight in weights]
        secrets = Secrets(coins=Coins(SECRET), noise=SeededNoise(seed))
        train_private(
            mine, head, units, config, plan, reserved(plan), secrets=secrets, learning_rate=FAR
        )
        parts = [
            (old - new.detach()).double() * plan.expected_units / FAR - clean
            for old, new, clean in zip(before, weights, summed, strict=True)
        ]
        noises.append(torch.cat([part.flatten() for part in parts]) / (1.5 * CLIP))
    first, second = noises
    bound = 5 / np.sqrt(len(first))
    assert float(first.std()) == pytest.approx(1.0, abs=bound)
    assert abs(float(first.mean())) < bound
    assert abs(float((first * second).mean())) < bound  # of two rounds
    assert abs(float((first[1:] * first[:-1]).mean())) < bound  # of neighbours


def test_training_without_a_charge_of_its_own_is_refused() -> None:
    """A reservation buys one event, once."""
    plan = plan_of(CONFIG.privacy, REGISTRATION)
    bought = reserved(plan)
    with pytest.raises(BudgetError, match="expected to spend"):
        bought.spend(replace(plan, steps=2).event)
    bought.spend(plan.event)
    with pytest.raises(BudgetError, match="spent before"):
        bought.spend(plan.event)


@pytest.mark.parametrize("part", ["all", "scales", "projection"])
def test_what_is_frozen_stays(part: str) -> None:
    """Only the part that is trained moves."""
    privacy = replace(CONFIG.privacy, trained=part, head="fixed")  # type: ignore[arg-type]
    config = replace(CONFIG, privacy=privacy)
    network = build(config.model, seed=1)
    moved, _ = stepped(config, units_of("identity", some_faces()), network)
    names = [name for name, _ in network.named_parameters()]
    touched = {name for name, change in zip(names, moved, strict=False) if change.any()}
    expected = {
        "all": set(names),
        "scales": {name for name in names if ".norm." in name},
        "projection": {"project.weight", "project.bias"},
    }[part]
    assert touched == expected


def test_a_network_without_the_part_is_refused() -> None:
    """The article's network has no normalisation whose scales could be trained."""
    with pytest.raises(ConfigError, match="scales"):
        freeze_but(build(ModelConfig(name="classic"), seed=0), "scales")


def test_units_are_taken_at_their_rate_and_on_their_own() -> None:
    """The share over many steps is q; a unit's coins do not depend on who else is there."""
    plan = plan_of(replace(CONFIG.privacy, sample_rate=0.3), REGISTRATION)
    units, coins = units_of("identity", some_faces(200)), Coins(SECRET)
    taken = [sample(units, plan, coins, step) for step in range(200)]
    share = sum(map(len, taken)) / (200 * 200)
    assert share == pytest.approx(0.3, abs=0.01)
    fewer = without(units, 17)
    for step, everybody in enumerate(taken):
        names = {units.names[unit] for unit in everybody} - {units.names[17]}
        assert {fewer.names[unit] for unit in sample(fewer, plan, coins, step)} == names


def test_a_person_shows_at_most_k_photographs_chosen_anew() -> None:
    """At most k of a person's photographs in a step, others in another step; one is seen twice."""
    config = replace(CONFIG, privacy=replace(CONFIG.privacy, images_per_unit=2))
    views = Views(units_of("identity", some_faces()), config, Coins(SECRET), torch.device("cpu"))
    assert views.of([3], 0).faces.shape == (1, 2, 1, 3, 64, 64)
    assert views.of([0, 4], 0).faces.shape == (2, 1, 2, 3, 64, 64)
    several = {views.of([3], step).faces.sum().item() for step in range(8)}
    assert len(several) > 1
    assert torch.equal(views.of([2, 3], 1).faces[1:], views.of([3], 1).faces)  # alone or not


def test_units_are_looked_at_in_parts_that_show_equally_much() -> None:
    """Everybody sampled is in one part; a part fits in a pass; nobody makes one empty part."""
    views = Views(units_of("identity", some_faces(90)), CONFIG, Coins(SECRET), torch.device("cpu"))
    sampled = list(range(0, 90, 2)) + list(range(1, 90, 4))
    parts = views.chunks(sampled)
    assert sorted(unit for part in parts for unit in part) == sorted(sampled)
    for part in parts:
        shape = views.of(part, 0).faces.shape
        assert shape[0] == len(part) <= UNITS_AT_ONCE
        assert shape[:3].numel() <= IMAGES_AT_ONCE
    assert views.chunks([]) == [[]]


def test_every_photograph_has_coins_of_its_own() -> None:
    """Sources that number each person's photographs from 0 do not make one unit of many."""
    faces = some_faces()
    numbers = np.concatenate([np.arange(n) for n in faces.photographs_per_person()])
    numbered = replace(faces, photo_names=tuple(f"photo {number}" for number in numbers))
    names = units_of("image", numbered).names
    assert len(set(names)) == len(numbered)
    with pytest.raises(DataError, match="one name twice"):
        units_of("image", replace(faces, photo_names=("same",) * len(faces)))


def test_calibrated_noise_is_the_least_that_keeps_to_epsilon() -> None:
    """All rounds together fit; a thousandth less does not."""
    config = replace(CONFIG.privacy, sample_rate=0.1, steps=10)
    found = calibrated(config, rounds=5, epsilon=8.0, delta=1e-5)

    def charged(noise: float) -> float:
        mechanism = Mechanism(sample_rate=0.1, noise_multiplier=noise)
        return epsilon({mechanism: 50}, 1e-5).charged

    assert charged(found.noise_multiplier) <= 8.0 < charged(found.noise_multiplier - 0.001)


def test_a_plan_states_its_event() -> None:
    """What is charged is what is done."""
    plan = plan_of(CONFIG.privacy, declared(10))
    mechanism = Mechanism(sample_rate=0.7, noise_multiplier=1.0)
    assert plan.event == Event(unit="identity", mechanism=mechanism, steps=1)
    assert plan.expected_units == pytest.approx(7.0)
    with pytest.raises(BudgetError):
        plan_of(PrivacyConfig(), declared(10))
    with pytest.raises(BudgetError):
        replace(plan, units_declared=0)


def test_bf16_keeps_to_the_bound() -> None:
    """Norms and sums are fp32 under bf16 too, so the clipped sum keeps to its bound."""
    config = replace(CONFIG, precision="bf16")
    network = build(config.model, seed=1)
    one = units_of("identity", some_faces())
    one = replace(one, names=one.names[3:4], rows=one.rows[3:4])
    config = replace(config, privacy=replace(config.privacy, sample_rate=1.0, public_weight=0.0))
    moved, _ = stepped(config, one, network)
    assert length(moved) <= CLIP
