"""What is audited: rounds of one private step, as they ship or with a fault planted in them.

A round's update is all that leaves an organisation, so an auditor reads it off the weights before
and after. Plain gradient descent applies what the mechanism gives without memory or weights of its
own: the update times q N / rate is the noised sum again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, nn

from veilface_client.noise import Noise
from veilface_client.private import PublicSide, train_private
from veilface_client.private_heads import UnitHead, make_head
from veilface_client.private_plan import PrivacyPlan, Secrets, freeze_but, plan_of
from veilface_client.public_side import PublicClasses
from veilface_client.units import Coins, Units
from veilface_common.budget.ledger import Registration, Reservation
from veilface_common.config import RunConfig
from veilface_common.models import build
from veilface_common.models.weights import load_weights
from veilface_common.tensors import Tensors
from veilface_simulations.auditing.faults import Fault
from veilface_simulations.auditing.people import pattern_people

SECRET = hashlib.sha256(b"an auditor knows the head's secret and the coins").digest()
_PUBLIC_PEOPLE = 5


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A private step: what is trained how, and which fault is planted in it."""

    config: RunConfig
    plan: PrivacyPlan  # of a round, which is one step
    fault: Fault
    initial: Tensors | None = None  # weights to start from; None: drawn from the seed

    def start(self) -> nn.Module:
        """Return the network before the first round: the same each time."""
        network = build(self.config.model, self.config.seed)
        if self.initial is not None:
            load_weights(network, self.initial)
        return network

    def judge(self, network: nn.Module) -> tuple[UnitHead, PublicSide | None]:
        """Return the head of a round, without the fault, and the public people it may need."""
        if self.config.privacy.head != "leave-one-out":
            return make_head(self.config, SECRET, None), None
        faces = pattern_people((3,) * _PUBLIC_PEOPLE, self.config.model, seed=[self.config.seed, 3])
        generator = Generator().manual_seed(self.config.seed)
        public = PublicClasses(network, faces, self.config, learning_rate=0.0, generator=generator)
        return make_head(self.config, SECRET, public), public


@dataclass(frozen=True, kw_only=True)
class Released:
    """What a round gives away, and how many units it took, which it does not."""

    update: NDArray[np.float64]  # the noised sum
    taken: int


def subject_of(
    config: RunConfig, fault: Fault, units_declared: int, initial: Tensors | None = None
) -> Subject:
    """Return the step that `config` asks for, at an organisation that declares so many units."""
    plan = plan_of(config.privacy, registration(units_declared))
    return Subject(config=config, plan=plan, fault=fault, initial=initial)


def registration(units_declared: int) -> Registration:
    """Return what the ledger of such an organisation says of it."""
    return Registration(
        organisation="audit",
        commitment="00",  # of nobody's faces
        people_declared=units_declared,
        images_declared=units_declared,
    )


def coins(step: int) -> Coins:
    """Return the coins of a round; the auditor knows how they augment, not whom they take."""
    return Coins(hashlib.sha256(SECRET + step.to_bytes(8, "big")).digest())


def release(
    subject: Subject,
    network: nn.Module,
    units: Units,
    reservation: Reservation,
    *,
    noise: Noise,
    step: int,
    learning_rate: float,
) -> Released:
    """Take a private round on `network`, in place; return the noised sum that its update tells.

    Args:
        subject: what is audited.
        network: of now; moved.
        units: whom the organisation has.
        reservation: the charge for `subject.plan`.
        noise: what ships, which the fault may replace.
        step: how many rounds were before.
        learning_rate: large enough that the weights' own rounding does not matter.

    Returns:
        The update is [trained numbers], in the order of the parameters.
    """
    head, public = subject.judge(network)
    trained = parameters(subject, network, head)
    before = [parameter.detach().clone() for parameter in trained]
    summary = train_private(
        network,
        subject.fault.head(head),
        units,
        subject.config,
        subject.plan,
        reservation,
        secrets=Secrets(
            coins=subject.fault.coins(coins(step)), noise=subject.fault.noise(noise, step)
        ),
        learning_rate=learning_rate,
        public=public,
        mechanism=subject.fault.mechanism,
    )
    moved = [
        (old - new.detach()).double().flatten() for old, new in zip(before, trained, strict=True)
    ]
    update = torch.cat(moved).numpy() * (subject.plan.expected_units / learning_rate)
    return Released(update=update, taken=summary.taken)


def parameters(subject: Subject, network: nn.Module, head: UnitHead) -> list[nn.Parameter]:
    """Return what the mechanism trains."""
    inside = freeze_but(network, subject.config.privacy.trained)
    return inside + [parameter for parameter in head.parameters() if parameter.requires_grad]
