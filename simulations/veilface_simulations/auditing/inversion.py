"""A face read back out of one update, and out of the same update as the mechanism releases it.

Gradient inversion (Geiping et al. 2020): look for an image whose gradient has the direction of the
one that was seen, among images that are smooth. The attacker is given more than a server has: the
update of a single photograph at the first weights, without augmentation, and the head's secret.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from veilface_client.augmentation import centre_view
from veilface_client.images import canvas_pixels
from veilface_client.noise import Noise, SeededNoise
from veilface_client.private_heads import UnitHead
from veilface_client.units import Units
from veilface_common.budget.entries import Head
from veilface_common.budget.ledger import Reservation
from veilface_common.config import (
    UNVARIED,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from veilface_simulations import drawn
from veilface_simulations.auditing.faults import SHIPPED, Fault, Silent
from veilface_simulations.auditing.subject import Subject, parameters, release, subject_of

STEPS = 400  # of the search for an image
_LEARNING_RATE = 0.05
_SMOOTHNESS = 0.1  # weight of the total variation
_NAME = b"drawn person"
_FAR = 1e6  # a step so long that what it moves is read without rounding
_UNCLIPPED = 1e6


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A drawn face, and what an attacker made of its update: each [3, S, S] in [0, 1]."""

    face: Tensor
    bare: Tensor  # from the gradient as it is
    private: Tensor  # from the gradient clipped and noised


def attack_a_face(
    fault: Fault, noise_multiplier: float, seed: int, progress: Callable[[int, int], None]
) -> Pictures:
    """Return what inversion gives without and with the mechanism.

    Args:
        fault: planted in the mechanism.
        noise_multiplier: of the mechanism.
        seed: of the person, the weights, the noise and the attack's start.
        progress: told how many steps of the search are done.
    """
    bare = _subject(SHIPPED, seed, norm=_UNCLIPPED, noise_multiplier=1.0)
    private = _subject(fault, seed, norm=1.0, noise_multiplier=noise_multiplier)
    canvas = drawn.photograph(seed, 0, 0, canvas_pixels(bare.config.model.pixels))[None]
    of_bare = _seen(bare, canvas, Silent())
    of_private = _seen(private, canvas, SeededNoise(seed))
    total = 2 * STEPS
    return Pictures(
        face=centre_view(torch.from_numpy(canvas), bare.config.model.pixels)[0],
        bare=_invert(bare, of_bare, lambda done: progress(done, total)),
        private=_invert(private, of_private, lambda done: progress(STEPS + done, total)),
    )


def likeness(image: Tensor, face: Tensor) -> float:
    """Return the correlation of two images' pixels: 1 for the same, about 0 for unrelated ones."""
    return float(np.corrcoef(image.flatten().numpy(), face.flatten().numpy())[0, 1])


def _subject(fault: Fault, seed: int, *, norm: float, noise_multiplier: float) -> Subject:
    """Return a step over one person with one photograph, seen as it is."""
    privacy = PrivacyConfig(
        unit="identity",
        sample_rate=1.0,
        noise_multiplier=noise_multiplier,
        max_gradient_norm=norm,
        steps=1,
        head="fixed",
        rows=64,
    )
    config = RunConfig(
        seed=seed,
        device="cpu",
        precision="fp32",
        model=ModelConfig(name="classic", dimension=32),
        augmentation=UNVARIED,
        privacy=privacy,
    )
    return subject_of(config, fault, 1)


def _seen(subject: Subject, canvas: NDArray[np.uint8], noise: Noise) -> Tensor:
    """Return what the update of a round tells: [trained numbers]."""
    person = Units(canvases=canvas, names=[_NAME], rows=[np.array([0])])
    free = Reservation(1, subject.plan.event, Head(sequence=1, hash="00"))
    told = release(subject, subject.start(), person, free, noise=noise, step=0, learning_rate=_FAR)
    return torch.from_numpy(told.update).float()


def _invert(subject: Subject, seen: Tensor, progress: Callable[[int], None]) -> Tensor:
    """Return the image that explains what was seen best: [3, S, S] in [0, 1]."""
    network = subject.start()
    head, _ = subject.judge(network)
    weights = parameters(subject, network, head)
    side = subject.config.model.pixels
    generator = Generator().manual_seed(subject.config.seed)
    image = torch.rand(1, 3, side, side, generator=generator).mul_(0.1).add_(0.45)
    image.requires_grad_()
    optimizer = torch.optim.Adam([image], lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        mismatch = _mismatch(image, seen, network, head, weights)
        image.grad = torch.autograd.grad(mismatch, [image])[0].sign()  # as in the paper, section 4
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            image.clamp_(0, 1)
        progress(step + 1)
    return image.detach()[0]


def _mismatch(
    image: Tensor, seen: Tensor, network: nn.Module, head: UnitHead, weights: Sequence[Tensor]
) -> Tensor:
    """Return 1 - cosine of the image's gradient and the one seen, and the image's roughness."""
    embedding = network(image)  # [1, 3, S, S] -> [1, D]
    loss = head.loss(embedding[:, None], _NAME)
    found = torch.autograd.grad(loss, weights, create_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in found])
    rough = image.diff(dim=2).abs().mean() + image.diff(dim=3).abs().mean()
    return 1 - functional.cosine_similarity(flat, seen, dim=0) + _SMOOTHNESS * rough
