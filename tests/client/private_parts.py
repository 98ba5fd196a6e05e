"""What tests of private training share: people of noise, a step read off the weights."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from veilface_client.data import Faces
from veilface_client.noise import Origin
from veilface_client.private import train_private
from veilface_client.private_heads import UnitHead, make_head
from veilface_client.private_plan import PrivacyPlan, PrivateSummary, Secrets, plan_of
from veilface_client.public_side import PublicClasses
from veilface_client.units import Coins, Seen, Units
from veilface_common.budget.entries import Head as LedgerHead
from veilface_common.budget.events import Unit
from veilface_common.budget.ledger import Registration, Reservation
from veilface_common.config import (
    AugmentationConfig,
    ModelConfig,
    ModelName,
    PrivacyConfig,
    PrivateHeadName,
    RunConfig,
    TrainingConfig,
)

PEOPLE = 6
SECRET = bytes(range(32))
CLIP = 2e-4  # below every unit's gradient: all are clipped
FAR = 1e6  # a step so long that what it moves is read without rounding
MODELS: tuple[ModelName, ...] = ("tiny", "base", "classic")
HEADS: tuple[PrivateHeadName, ...] = ("leave-one-out", "fixed", "trained")
CONFIG = RunConfig(
    device="cpu",
    precision="fp32",
    model=ModelConfig(dimension=16),
    training=TrainingConfig(optimizer="sgd", momentum=0.0, weight_decay=0.0, batch_size=8),
    privacy=PrivacyConfig(
        unit="identity",
        sample_rate=0.7,
        steps=1,
        max_gradient_norm=CLIP,
        images_per_unit=3,
        rows=8,
        public_weight=1e-5,  # or what is read off the weights would be rounded to its size
    ),
)


def declared(units: int) -> Registration:
    return Registration(
        organisation="org", commitment="00", people_declared=units, images_declared=units
    )


REGISTRATION = declared(PEOPLE)


class NoNoise:
    """What a test adds in the place of noise, to see the sum."""

    origin: Origin = "seeded"

    def standard(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)


def some_faces(people: int = PEOPLE, seed: int = 3) -> Faces:
    """Return faces of noise: person i has 1 + i % 4 of them."""
    owners = np.repeat(np.arange(people), [1 + i % 4 for i in range(people)])
    random = np.random.default_rng(seed)
    return Faces(
        path=Path("nowhere"),
        images=random.integers(0, 256, (len(owners), 3, 80, 80), dtype=np.uint8),
        rows=np.arange(len(owners)),
        people=owners,
        person_names=tuple(f"person {i}" for i in range(people)),
        photo_names=tuple(f"photograph {i}" for i in range(len(owners))),
        warnings=(),
    )


def sized(config: RunConfig, faces: Faces) -> Faces:
    """Return the faces cut to what the model of `config` looks at."""
    side = 80 if config.model.pixels == 64 else 140
    grown = np.resize(faces.images, (len(faces.images), 3, side, side))
    return replace(faces, images=np.ascontiguousarray(grown))


def head_of(config: RunConfig, network: nn.Module) -> tuple[UnitHead, PublicClasses | None]:
    """Return the head that `config` names, and the public side where it needs one."""
    if config.privacy.head != "leave-one-out":
        return make_head(config, SECRET, None), None
    faces = sized(config, some_faces(5, seed=9))
    generator = torch.Generator().manual_seed(1)
    public = PublicClasses(network, faces, config, learning_rate=1e-3, generator=generator)
    return make_head(config, SECRET, public), public


def reserved(plan: PrivacyPlan) -> Reservation:
    return Reservation(1, plan.event, LedgerHead(sequence=1, hash="00"))


def stepped(
    config: RunConfig, units: Units, network: nn.Module, *, learning_rate: float = FAR
) -> tuple[list[Tensor], PrivateSummary]:
    """Train a copy without noise; return minus the sum of what the units gave."""
    network = copy.deepcopy(network)
    head, public = head_of(config, network)
    plan = plan_of(config.privacy, REGISTRATION)
    weights = [*network.parameters(), *head.parameters()]
    before = [weight.detach().clone() for weight in weights]
    summary = train_private(
        network,
        head,
        units,
        config,
        plan,
        reserved(plan),
        secrets=Secrets(coins=Coins(SECRET), noise=NoNoise()),
        learning_rate=learning_rate,
        public=public,
    )
    moved = [
        (old - new.detach()).double() * plan.expected_units / learning_rate
        for old, new in zip(before, weights, strict=True)
    ]
    return moved, summary


def one_at_a_time(
    network: nn.Module, head: UnitHead, seen: Seen, weights: Sequence[nn.Parameter]
) -> tuple[Tensor, list[Tensor]]:
    """Return what `unit_gradients` does, by a pass of its own for each unit."""
    losses, rows = [], []
    for name, faces in zip(seen.names, seen.faces, strict=True):
        flat = faces.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        loss = head.loss(network(flat).view(*faces.shape[:2], -1), name)
        losses.append(loss.detach())
        rows.append(torch.autograd.grad(loss, weights))
    return torch.stack(losses), [torch.stack(column) for column in zip(*rows, strict=True)]


def length(tensors: list[Tensor]) -> float:
    return float(torch.stack([tensor.double().norm() for tensor in tensors]).norm())


def without(units: Units, gone: int) -> Units:
    """Return the units but one."""
    keep = [unit for unit in range(len(units.names)) if unit != gone]
    return replace(
        units,
        names=[units.names[unit] for unit in keep],
        rows=[units.rows[unit] for unit in keep],
    )


def configurations() -> Iterator[RunConfig]:
    """Yield every unit, head and model that the configuration can express, and hard views."""
    kinds: tuple[Unit, ...] = ("identity", "image")
    for unit, head, model in itertools.product(kinds, HEADS, MODELS):
        privacy = replace(CONFIG.privacy, unit=unit, head=head)
        yield replace(CONFIG, model=ModelConfig(name=model, dimension=16), privacy=privacy)
    yield replace(
        CONFIG,
        model=ModelConfig(dimension=16, light="evened"),
        augmentation=AugmentationConfig(light=0.5, cover=0.5, lens=0.5, grain=0.5),
        privacy=replace(CONFIG.privacy, views=2),
    )
