"""Private whitening: what one person can move, what is noised, and that it whitens."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.client.private_parts import (
    CONFIG,
    PEOPLE,
    REGISTRATION,
    SECRET,
    NoNoise,
    reserved,
    some_faces,
    without,
)
from torch import Tensor, nn

from veilface_client.noise import Noise, SeededNoise
from veilface_client.private_plan import PrivateSummary, Secrets, plan_of
from veilface_client.training import embed
from veilface_client.units import Coins, Units, Views, units_of
from veilface_client.whitening import (
    clipped_scatter,
    noised_scatter,
    whiten_private,
    whitening,
)
from veilface_common.config import AugmentationConfig, PrivacyConfig, RunConfig
from veilface_common.errors import BudgetError, ConfigError
from veilface_common.models import build

LIMIT = 0.05
SETTINGS = replace(
    CONFIG,
    privacy=PrivacyConfig(
        unit="identity",
        method="whitening",
        sample_rate=1.0,
        steps=1,
        max_gradient_norm=LIMIT,
        images_per_unit=3,
    ),
)


def whitened(
    units: Units, config: RunConfig = SETTINGS, noise: Noise | None = None
) -> tuple[nn.Module, PrivateSummary]:
    network = build(config.model, seed=1)
    plan = plan_of(config.privacy, REGISTRATION)
    secrets = Secrets(coins=Coins(SECRET), noise=noise or NoNoise())
    summary = whiten_private(network, units, config, plan, reserved(plan), secrets=secrets)
    return network, summary


def last_layer(network: nn.Module) -> Tensor:
    layer = network.project
    assert isinstance(layer, nn.Linear)
    return torch.cat([layer.weight, layer.bias[:, None]], 1).detach()


@given(st.integers(1, 6), st.floats(1e-3, 10), st.integers(0, 2**16))
def test_a_unit_gives_its_scatter_or_as_much_of_it_as_the_limit_allows(
    photographs: int, limit: float, seed: int
) -> None:
    """The numbers' length is the Frobenius norm of the covariance, cut at the limit."""
    embeddings = np.random.default_rng(seed).normal(size=(photographs, 5)).astype(np.float32)
    numbers = clipped_scatter(embeddings, limit)
    assert numbers is not None
    assert np.linalg.norm(numbers) <= limit * (1 + 1e-12)
    slow = np.zeros((5, 5))
    if photographs > 1:
        slow = np.cov(embeddings.astype(np.float64).T)
    length = np.linalg.norm(slow)
    expected = slow * min(1.0, limit / length) if length else slow
    upper = np.triu_indices(5)
    weights = np.where(upper[0] == upper[1], 1.0, np.sqrt(2.0))
    np.testing.assert_allclose(numbers, expected[upper] * weights, atol=1e-6 * max(1.0, length))


def test_without_one_person_the_sum_moves_by_the_limit_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is noised is the sum of the units' numbers; one unit is one of them, whoever comes."""
    sums: list[np.ndarray] = []

    def record(numbers: np.ndarray, strength: float) -> np.ndarray:
        sums.append(numbers.copy())
        return whitening(numbers, strength)

    monkeypatch.setattr("veilface_client.whitening.whitening", record)
    units = units_of("identity", some_faces())
    whitened(units)
    for gone in range(PEOPLE):
        whitened(without(units, gone))
    moved = [float(np.linalg.norm(sums[0] - fewer)) for fewer in sums[1:]]
    assert max(moved) <= LIMIT * (1 + 1e-9)
    assert max(moved) > LIMIT / 100


def test_hard_views_are_a_persons_own_and_cost_nothing() -> None:
    """The plan and its charge stay, people of one photograph give too, and the limit holds."""
    hard = AugmentationConfig(light=1.0, cover=1.0)
    config = replace(SETTINGS, augmentation=hard, privacy=replace(SETTINGS.privacy, views=3))
    plan, usual = (plan_of(wanted.privacy, REGISTRATION) for wanted in (config, SETTINGS))
    assert plan == usual
    assert plan.event == usual.event
    network = build(config.model, seed=1)
    everybody = units_of("identity", some_faces())
    alone = replace(everybody, names=everybody.names[:1], rows=everybody.rows[:1])
    assert len(alone.rows[0]) == 1
    secrets = Secrets(coins=Coins(SECRET), noise=NoNoise())
    for wanted, least, most in ((SETTINGS, 0.0, 0.0), (config, 1e-6, LIMIT * (1 + 1e-6))):
        given = noised_scatter(network, alone, wanted, plan, secrets, PrivateSummary())
        assert least <= np.linalg.norm(given) <= most


def test_hard_views_of_a_person_do_not_tell_who_came_along() -> None:
    """To the bit: without another person, a person gives what it gave."""
    config = replace(
        SETTINGS,
        augmentation=AugmentationConfig(light=0.5, cover=0.5, lens=0.5, grain=0.5),
        privacy=replace(SETTINGS.privacy, views=2),
    )
    units = units_of("identity", some_faces())
    views = Views(units, config, Coins(SECRET), torch.device("cpu"))
    fewer = Views(without(units, 0), config, Coins(SECRET), torch.device("cpu"))
    for unit in range(1, PEOPLE):
        assert torch.equal(views.of([unit], 0).faces, fewer.of([unit - 1], 0).faces)


def test_the_noise_is_of_the_declared_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without noise, the same coins: the difference is sigma C."""
    sums: list[np.ndarray] = []

    def record(numbers: np.ndarray, strength: float) -> np.ndarray:
        sums.append(numbers.copy())
        return whitening(numbers, strength)

    monkeypatch.setattr("veilface_client.whitening.whitening", record)
    config = replace(
        SETTINGS,
        model=replace(SETTINGS.model, dimension=128),
        privacy=replace(SETTINGS.privacy, noise_multiplier=1.5),
    )
    units = units_of("identity", some_faces())
    whitened(units, config)
    whitened(units, config, SeededNoise(3))
    noise = (sums[1] - sums[0]) / (1.5 * LIMIT)
    assert len(noise) == 128 * 129 // 2
    assert float(noise.std()) == pytest.approx(1.0, abs=5 / np.sqrt(len(noise)))
    assert abs(float(noise.mean())) < 5 / np.sqrt(len(noise))


def test_whitening_evens_out_the_directions_in_which_a_person_varies() -> None:
    """W S W is nearer to a multiple of the identity than S is; strength 0 leaves all as it was."""
    random = np.random.default_rng(5)
    mix = random.normal(size=(6, 6))
    scatter = mix @ mix.T
    upper = np.triu_indices(6)
    numbers = scatter[upper] * np.where(upper[0] == upper[1], 1.0, np.sqrt(2.0))
    matrix = whitening(numbers, 1.0)
    np.testing.assert_allclose(matrix, matrix.T)
    before, after = np.linalg.cond(scatter), np.linalg.cond(matrix @ scatter @ matrix)
    assert after < before / 2
    np.testing.assert_allclose(whitening(numbers, 0.0), np.eye(6), atol=1e-12)
    np.testing.assert_allclose(whitening(-numbers, 1.0), np.eye(6))


def test_the_last_layer_is_multiplied_and_nothing_else_moves() -> None:
    """The whitened network embeds a face at W times what it did, and the rest is untouched."""
    units = units_of("identity", some_faces())
    network, summary = whitened(units)
    before = build(SETTINGS.model, seed=1)
    changed = [
        name
        for (name, old), new in zip(before.named_parameters(), network.parameters(), strict=True)
        if not torch.equal(old, new)
    ]
    assert set(changed) <= {"project.weight", "project.bias"}
    assert (summary.steps, summary.taken) == (1, PEOPLE)
    turn = torch.linalg.lstsq(last_layer(before).T, last_layer(network).T).solution.T
    faces = some_faces()
    old, new = (embed(n, faces, pixels=64, precision="fp32") for n in (before, network))
    turned = torch.from_numpy(old) @ turn.T
    # Mirrored views are added after each was made unit length, so this holds nearly, not exactly.
    near = nn.functional.cosine_similarity(turned, torch.from_numpy(new))
    assert float(near.min()) > 0.999


def test_a_person_who_is_not_finite_is_dropped() -> None:
    """One broken photograph gives nothing, and no weight is NaN."""
    assert clipped_scatter(np.array([[np.nan, 1.0], [0.0, 1.0]], np.float32), 1.0) is None


def test_nobody_taken_is_a_release_of_noise() -> None:
    """An empty draw is noised and charged like any other."""
    units = units_of("identity", some_faces())
    nobody = replace(units, names=[], rows=[])
    network, summary = whitened(nobody, noise=SeededNoise(3))
    assert summary.taken == 0
    assert all(bool(value.isfinite().all()) for value in network.state_dict().values())


def test_what_cannot_be_whitened_is_refused() -> None:
    """A single photograph has no scatter; several steps would be several releases."""
    with pytest.raises(ConfigError, match="identity"):
        replace(SETTINGS.privacy, unit="image")
    with pytest.raises(ConfigError, match="steps"):
        replace(SETTINGS.privacy, steps=2)
    plan = replace(plan_of(SETTINGS.privacy, REGISTRATION), steps=2)
    secrets = Secrets(coins=Coins(SECRET), noise=NoNoise())
    network, units = build(SETTINGS.model, seed=1), units_of("identity", some_faces())
    with pytest.raises(BudgetError, match="one step"):
        whiten_private(
            copy.deepcopy(network), units, SETTINGS, plan, reserved(plan), secrets=secrets
        )
