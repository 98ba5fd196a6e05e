"""Private training of what weighs frames: one exact gradient for each person, clipped."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from tests.client.private_parts import (
    CLIP,
    CONFIG,
    HEADS,
    PEOPLE,
    REGISTRATION,
    SECRET,
    NoNoise,
    head_of,
    length,
    reserved,
    some_faces,
    without,
)
from torch import Tensor, nn

from veilface_client.private import train_private
from veilface_client.private_plan import Secrets, freeze_but, plan_of, sample
from veilface_client.pseudo_tracks import draw_tracks, make_frames
from veilface_client.track_gradients import TRACKS, TrackGradients
from veilface_client.units import Coins, Units, units_of
from veilface_common.config import ModelConfig, PrivateHeadName, RunConfig
from veilface_common.models import build, track_of

CONFIG = replace(
    CONFIG,
    model=ModelConfig(name="classic", dimension=8, track="gru"),
    privacy=replace(CONFIG.privacy, trained="track", images_per_unit=2),
)
FAR = 1e6  # a step so long that what it moves is read without rounding
LIMIT = CLIP / 100  # below every gradient here


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def with_head(head: PrivateHeadName, limit: float = CLIP) -> RunConfig:
    return replace(CONFIG, privacy=replace(CONFIG.privacy, head=head, max_gradient_norm=limit))


def gradients(config: RunConfig, units: Units, network: nn.Module) -> TrackGradients:
    track = track_of(network)
    assert track is not None
    head, _ = head_of(config, network)
    inside = [*freeze_but(network, "track"), *(p for p in head.parameters() if p.requires_grad)]
    return TrackGradients(network, track, head, units, config, Coins(SECRET), inside)


def moved(config: RunConfig, units: Units) -> list[Tensor]:
    """Take a step without noise; return minus the sum of what the units gave."""
    network = build(config.model, seed=1)
    head, _ = head_of(config, network)
    plan = plan_of(config.privacy, REGISTRATION)
    weights = [*network.parameters(), *head.parameters()]
    before = [weight.detach().clone() for weight in weights]
    train_private(
        network,
        head,
        units,
        config,
        plan,
        reserved(plan),
        secrets=Secrets(coins=Coins(SECRET), noise=NoNoise()),
        learning_rate=FAR,
    )
    return [
        (old - new.detach()).double() * plan.expected_units / FAR
        for old, new in zip(before, weights, strict=True)
    ]


@pytest.mark.parametrize("head", HEADS)
def test_a_units_gradient_is_that_of_its_tracks_alone(head: PrivateHeadName) -> None:
    """Against autograd over one person's tracks, made and drawn by hand, in float64 sums."""
    config, units = with_head(head), units_of("identity", some_faces())
    network = build(config.model, seed=1)
    source = gradients(config, units, network)
    losses, found, frames = source.of([1, 4], 0)
    assert losses.shape == (2,)
    assert frames > 0
    slow = copy.deepcopy(network)
    track, (judge, _) = track_of(slow), head_of(config, slow)
    assert track is not None
    weights = [*freeze_but(slow, "track"), *(p for p in judge.parameters() if p.requires_grad)]
    for row, unit in enumerate((1, 4)):
        name, coins = units.names[unit], Coins(SECRET)
        making = coins.generator(2**31, name)
        rows = units.rows[unit]
        order = torch.randperm(len(rows), generator=making).numpy()
        made = make_frames(slow, units.canvases, rows[order[:2]], config, making)
        tracks = draw_tracks(made, TRACKS, coins.generator(0, name))
        templates = torch.cat(
            [
                track(
                    *(
                        part[n : n + 1]
                        for part in (tracks.embeddings, tracks.qualities, tracks.present)
                    )
                )
                for n in range(TRACKS)
            ]
        )
        loss = judge.loss(templates[:, None], name)
        expected = torch.autograd.grad(loss, weights)
        assert torch.allclose(loss, losses[row], atol=1e-5)
        for mine, other in zip(found, expected, strict=True):
            assert torch.allclose(mine[row], other, atol=1e-5)
        assert length(list(expected)) > 1e-4


def test_a_units_gradient_has_the_same_bits_in_any_company() -> None:
    """Who comes or goes must not move what the others give: it is not clipped away."""
    units = units_of("identity", some_faces())
    network = build(CONFIG.model, seed=1)
    _, together, _ = gradients(CONFIG, units, network).of([0, 1, 3, 5], 2)
    _, alone, _ = gradients(CONFIG, without(units, 0), network).of([2], 2)
    assert all(torch.equal(mine[2], own[0]) for mine, own in zip(together, alone, strict=True))


@pytest.mark.parametrize("head", HEADS)
def test_nobody_moves_the_sum_by_more_than_the_limit(head: PrivateHeadName) -> None:
    """With and without each person in turn: the difference is at most C, and close to it."""
    config, units = with_head(head, LIMIT), units_of("identity", some_faces())
    whole = moved(config, units)
    taken = sample(units, plan_of(config.privacy, REGISTRATION), Coins(SECRET), 0)
    assert 1 < len(taken) < PEOPLE
    for unit in range(PEOPLE):
        gone = moved(config, without(units, unit))
        differences = [one - other for one, other in zip(whole, gone, strict=True)]
        if unit in taken:
            assert length(differences) <= LIMIT
            assert length(differences) > 0.99 * LIMIT  # Opacus adds 1e-6 to each norm
        else:
            assert length(differences) == 0


def test_a_round_moves_the_weights_of_frames_alone() -> None:
    """What embeds a face leaves the organisation as it came."""
    network = build(CONFIG.model, seed=1)
    names = [name for name, _ in network.named_parameters()]
    steps = dict(
        zip(names, moved(with_head("fixed"), units_of("identity", some_faces())), strict=False)
    )
    assert {name.split(".")[0] for name, step in steps.items() if step.any()} == {"track"}


@pytest.mark.parametrize("part", ["all", "projection"])
def test_other_training_leaves_the_weights_of_frames(part: str) -> None:
    """All that embeds a face, or its last layer, is not what weighs frames."""
    network = build(ModelConfig(dimension=8, track="gru"), seed=1)
    plain = build(ModelConfig(dimension=8), seed=1)
    freeze_but(network, part)  # type: ignore[arg-type]
    freeze_but(plain, part)  # type: ignore[arg-type]
    mine = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert mine == {name for name, parameter in plain.named_parameters() if parameter.requires_grad}
