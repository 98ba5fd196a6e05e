"""A model shaped so that gradients copy an input: what it gets, with and without the private step.

A coordinator chooses weights of a known network, no layers of its own; `trap_parts` makes the most
of that. `-s` prints the figures that docs/threats.md gives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.client.door_parts import ask, ledger_of, organisation, to_train
from tests.client.private_parts import CONFIG, SECRET
from tests.client.trap_parts import COPIED, likenesses, trap

from veilface_client.augmentation import centre_view
from veilface_client.data import Faces
from veilface_client.keeper import Keeper
from veilface_client.private_heads import make_head
from veilface_common import tensors
from veilface_common.budget.policy import Policy
from veilface_common.config import AugmentationConfig, ModelConfig, RunConfig
from veilface_common.models.weights import read_weights
from veilface_common.protocol import TrainReply
from veilface_common.tensors import Tensors
from veilface_simulations import drawn

CLIP, LEAST_NOISE = 1.0, 0.5
UNRELATED = 0.12  # mean likeness of numbers that are of no image is 0.06: 147 of each
POLICY = Policy(epsilon=1000.0, min_noise_multiplier=LEAST_NOISE, max_sample_rate=1.0)
PLAIN = AugmentationConfig(
    flip=False,
    shift=0.0,
    scale=0.0,
    rotation_degrees=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    grey=0.0,
    blur=0.0,
    erase=0.0,
)
ASKED: RunConfig = replace(
    CONFIG,
    model=ModelConfig(name="tiny", dimension=32),
    augmentation=PLAIN,
    privacy=replace(
        CONFIG.privacy,
        sample_rate=1.0,
        noise_multiplier=LEAST_NOISE,
        max_gradient_norm=CLIP,
        learning_rate=1.0,
        head="fixed",
    ),
)


@dataclass(frozen=True)
class Catch:
    """What the trap caught of one drawn person with one photograph."""

    bare: NDArray[np.float64]  # likeness of each filter's patch: from the gradient
    clipped: NDArray[np.float64]  # from the gradient, clipped
    private: NDArray[np.float64]  # from what the door let out
    released: Tensors  # sum and noise, as the door let it out
    noise: Tensors  # of a seeded organisation, so that a test can take it off


@pytest.fixture(scope="module")
def catch(tmp_path_factory: pytest.TempPathFactory) -> Catch:
    folder = tmp_path_factory.mktemp("victim")
    victim = Faces(
        path=Path("nowhere"),
        images=drawn.photograph(7, 0, 0, 80)[None],
        rows=np.arange(1),
        people=np.zeros(1, np.int64),
        person_names=("victim",),
        photo_names=("photograph",),
        warnings=(),
    )
    door = organisation(folder, faces=victim, policy=POLICY, seeded=True)
    network = trap(ASKED.model)
    request = to_train(1, ASKED, tensors.to_bytes(read_weights(network)))
    reply = ask(door, request)
    assert isinstance(reply, TrainReply)
    assert not reply.refusal
    assert sum(ledger_of(folder).steps.values()) == 1
    moved = tensors.from_bytes(reply.update)
    rate = ASKED.learning_rate_in(1)
    released = {name: -value / rate for name, value in moved.items()}
    source = Keeper.open(folder)._secrets(request).noise
    deviation = LEAST_NOISE * CLIP
    noise = {
        name: (source.standard(weight.numel()) * deviation).reshape(weight.shape)
        for name, weight in network.named_parameters()
    }
    image = centre_view(torch.from_numpy(victim.images), ASKED.model.pixels)
    loss = make_head(ASKED, SECRET, None).loss(network(image)[:, None], b"victim")
    weights = dict(network.named_parameters())
    gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    norm = torch.cat([part.flatten() for part in gradients.values()]).norm()
    bare = gradients[COPIED]

    def caught(seen: torch.Tensor) -> NDArray[np.float64]:
        return likenesses(seen, image, network)

    return Catch(
        bare=caught(bare),
        clipped=caught(bare * min(1.0, CLIP / float(norm))),
        private=caught(torch.from_numpy(released[COPIED])),
        released=released,
        noise=noise,
    )


def test_without_the_private_step_it_copies_the_image(catch: Catch) -> None:
    """The trap is one: an update that is not noised, clipped or not, holds pieces of the face."""
    for name in ("bare", "clipped", "private"):
        found = getattr(catch, name)
        print(f"{name}: mean likeness {found.mean():.3f}, the best of 64 {found.max():.3f}")  # noqa: T201 -- the figures
    for found in (catch.bare, catch.clipped):
        assert found.mean() > 0.4
        assert found.max() > 0.9


def test_with_the_private_step_it_holds_nothing_that_can_be_read(catch: Catch) -> None:
    """At the least noise that the policy allows, patches are like any numbers would be."""
    assert catch.private.mean() < UNRELATED
    assert catch.private.max() < 0.4


def test_what_is_released_keeps_to_clip_and_noise(catch: Catch) -> None:
    """Without its noise, all that is left is no longer than C; with it, it is as long as noise."""
    left = {name: value - catch.noise[name] for name, value in catch.released.items()}
    assert 0.5 * CLIP < tensors.norm(left) <= CLIP * (1 + 1e-3)
    count = sum(value.size for value in catch.released.values())
    expected = LEAST_NOISE * CLIP * np.sqrt(count)
    assert abs(tensors.norm(catch.released) / expected - 1) < 0.01
