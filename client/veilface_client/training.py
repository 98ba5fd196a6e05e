"""The local loop: an organisation's photographs against its head, for some epochs of a round.

Everything random comes from generators made here from the caller's seed. The global one is not
touched: organisations train in threads of one process, and each must get the bits that it would get
alone. The same seed, device, precision and number of threads give the same weights.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from veilface_client.augmentation import centre_view
from veilface_client.head import Head
from veilface_common.config import Device, Precision, RunConfig, TrainingConfig
from veilface_common.errors import ConfigError, TrainingDiverged
from veilface_common.models import track_of

EMBEDDING_BATCH = 128


class Canvases(Protocol):
    """Faces by number: an array or memory map of uint8 [N, 3, C, C], or what reads like one."""

    def __len__(self) -> int:
        """Return N."""
        ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Return the rows, [B, 3, C, C]."""
        ...


@dataclass(frozen=True)
class Chosen:
    """Some of the canvases, numbered anew: row i is `canvases[rows[i]]`."""

    canvases: Canvases
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.canvases[self.rows[rows]]


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """What a round's training did. It stays at the organisation: the loss speaks of its faces."""

    mean_loss: float
    steps: int
    images: int  # looked at, repeats counted


def choose_device(wanted: Device) -> torch.device:
    """Return the device asked for; `auto`: CUDA, else MPS, else the CPU.

    Raises:
        ConfigError: it is not there.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return torch.device(next(name for name, there in present.items() if there))
    if not present[wanted]:
        raise ConfigError(
            f"expected a device that is present, got {wanted!r}", hint="--device auto finds one"
        )
    return torch.device(wanted)


def choose_precision(wanted: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Return the precision of the convolutions; `auto`: bf16 where the hardware multiplies it.

    Measured on a core with AVX512-BF16, `tiny`: 1.4 times the images a second of fp32. Without
    such instructions bf16 is emulated and slower.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu" and platform.machine() in ("x86_64", "AMD64"):
        capabilities = torch.cpu.get_capabilities()
        if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
            return "bf16"
    return "fp32"


def trainable_people(labels: NDArray[np.int64], min_photos: int) -> NDArray[np.int64]:
    """Return the people worth training on: those with `min_photos` faces, else everybody.

    A single photograph cannot say what of it is the person and what the moment. Measured on LFW,
    where two people of three have one: at equal compute EER 0.23 without them, 0.26 with them. They
    are still people to tell others from, see `train`.
    """
    photos = np.bincount(labels)
    chosen = np.flatnonzero(photos >= min_photos)
    return chosen if len(chosen) > 1 else np.flatnonzero(photos)


def train(
    network: nn.Module,
    head: Head,
    canvases: Canvases,
    labels: NDArray[np.int64],
    config: RunConfig,
    *,
    learning_rate: float,
    seed: int,
    rows: NDArray[np.int64] | None = None,
) -> TrainingSummary:
    """Start the head, then train network and head in place for `config.training.local_epochs`.

    Args:
        network: [B, 3, S, S] in [0, 1] -> [B, D]; moved to the device and left there. What weighs
            the frames of a track is not trained: see `track_training`.
        head: what judges the embeddings; moved along.
        canvases: the organisation's faces, uint8 [N, 3, C, C].
        labels: the person of each face, [N], numbered from 0 as the head counts.
        config: what the federation agreed on.
        learning_rate: of this round; see `TrainingConfig.learning_rate_at`.
        seed: of this round at this organisation.
        rows: the faces that batches are made of; None: all. The others start the rows of the head
            that are their person's, whom those in the batches are then told from.

    Raises:
        TrainingDiverged: loss or gradient are not finite.
    """
    from veilface_client.transform import Augmentation  # noqa: PLC0415 -- brings torchvision

    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    head.to(device)
    track = track_of(network)
    if track is not None:
        track.requires_grad_(requires_grad=False)
    generator = Generator().manual_seed(seed)
    shown = [config.augmentation]
    if config.training.consistency:
        shown.insert(0, config.augmentation.calm)
    views = [Augmentation(how, config.model.pixels, generator) for how in shown]
    groups = _groups(network, head, config, learning_rate)
    optimizer = make_optimizer(groups, config.training, learning_rate)
    pull = _Pull(network, config.training.proximal)
    people = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(device)
    start = _embed(network, canvases, config.model.pixels, device, precision, mirrored=False)
    head.start(start, people)
    total = torch.zeros(2, device=device)  # losses, gradient norms
    steps = images = 0
    chosen = torch.arange(len(labels)) if rows is None else torch.from_numpy(rows)
    for batch in batches(len(chosen), config.training, generator):
        taken = chosen[batch]
        canvas = load_canvases(canvases, taken.numpy(), device)
        faces = torch.cat([augment(canvas) for augment in views])  # [views * B, 3, S, S]
        with autocast(device, precision):
            embeddings = network(faces.contiguous(memory_format=torch.channels_last))
        parts = embeddings.view(len(views), len(taken), -1)
        loss = _loss(head, parts, people[taken.to(device)], config.training.consistency)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(network.parameters(), config.training.max_gradient_norm)
        pull.add_gradient()
        optimizer.step()
        total += torch.stack([loss.detach(), norm])
        steps, images = steps + 1, images + len(faces)
    if not bool(total.isfinite().all()):
        raise TrainingDiverged(
            f"training at learning rate {learning_rate:g} left the finite numbers",
            hint="lower training.learning-rate or training.max-gradient-norm",
        )
    return TrainingSummary(mean_loss=float(total[0]) / steps, steps=steps, images=images)


def _loss(head: Head, views: Tensor, labels: Tensor, consistency: float) -> Tensor:
    """Return the head's mean loss over the views [V, B, D], and what two of them disagree on."""
    loss: Tensor = torch.stack([head.loss(view, labels) for view in views]).mean()
    if len(views) == 1:
        return loss
    calm, hard = views.float()
    apart: Tensor = 1 - (calm * hard).sum(1)  # [B]
    return loss + consistency * apart.mean()


def embed(
    network: nn.Module,
    canvases: Canvases,
    *,
    pixels: int,
    device: Device = "auto",
    precision: Precision = "auto",
) -> NDArray[np.float32]:
    """Return the embedding of each face: uint8 [N, 3, C, C] -> float32 [N, D], unit length.

    It is the direction of the sum over the face and its mirror image, which is steadier than one
    alone and costs twice as much.
    """
    place = choose_device(device)
    chosen = choose_precision(precision, place)
    found = _embed(network, canvases, pixels, place, chosen, mirrored=True)
    return found.cpu().numpy()


@torch.no_grad()
def embed_inputs(
    network: nn.Module, faces: Tensor, *, device: torch.device, precision: Precision
) -> NDArray[np.float32]:
    """Return the embeddings of a network's inputs: [B, 3, S, S] in [0, 1] -> float32 [B, D]."""
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    faces = faces.to(device).contiguous(memory_format=torch.channels_last)
    with autocast(device, choose_precision(precision, device)):
        return embed_views(network, faces).cpu().numpy()


@torch.no_grad()
def _embed(
    network: nn.Module,
    canvases: Canvases,
    pixels: int,
    device: torch.device,
    precision: Literal["fp32", "bf16"],
    *,
    mirrored: bool,
) -> Tensor:
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = []
    for first in range(0, len(canvases), EMBEDDING_BATCH):
        rows = np.arange(first, min(first + EMBEDDING_BATCH, len(canvases)))
        faces = centre_view(load_canvases(canvases, rows, device), pixels)
        faces = faces.contiguous(memory_format=torch.channels_last)
        with autocast(device, precision):
            found.append(embed_views(network, faces, mirrored=mirrored))
    return torch.cat(found)


def embed_views(network: nn.Module, faces: Tensor, *, mirrored: bool = True) -> Tensor:
    """[B, 3, S, S] in [0, 1] -> [B, D], unit length; of each face and, summed, its mirror image."""
    seen: Tensor = network(faces).float()
    if mirrored:
        seen = seen + network(faces.flip(3)).float()
    return functional.normalize(seen)


def load_canvases(canvases: Canvases, rows: NDArray[np.int64], device: torch.device) -> Tensor:
    """Return some canvases on a device: uint8 [B, 3, C, C]."""
    return torch.from_numpy(np.ascontiguousarray(canvases[rows])).to(device)


def autocast(
    device: torch.device, precision: Literal["fp32", "bf16"]
) -> AbstractContextManager[None]:
    """Run convolutions in `precision`; weights and gradients stay fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def batches(count: int, config: TrainingConfig, generator: Generator) -> Iterator[Tensor]:
    """Yield the rows of each step: one shuffled pass after another, cut into equal batches."""
    size = min(config.batch_size, count)
    steps = max(1, round(config.local_epochs * count / size))
    passes = -(-steps * size // count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(passes)])
    for first in range(0, steps * size, size):
        yield order[first : first + size]


def make_optimizer(
    groups: list[dict[str, Any]], training: TrainingConfig, learning_rate: float
) -> torch.optim.Optimizer:
    """Return the configured optimiser over groups of parameters."""
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        groups, lr=learning_rate, momentum=training.momentum, weight_decay=training.weight_decay
    )


def _groups(
    network: nn.Module, head: Head, config: RunConfig, learning_rate: float
) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = [{"params": list(network.parameters())}]
    of_head = list(head.parameters())
    if of_head:
        rate = learning_rate * config.head.learning_rate_factor
        groups.append({"params": of_head, "lr": rate})
    return groups


class _Pull:
    """FedProx, mu/2 ||w - w_0||^2 more loss, w_0 the round's model (Li et al. 2020, eq. 2)."""

    def __init__(self, network: nn.Module, strength: float) -> None:
        self.strength = strength
        self.parameters = [p for p in network.parameters() if p.requires_grad and strength]
        self.start = [parameter.detach().clone() for parameter in self.parameters]

    def add_gradient(self) -> None:
        """Add mu (w - w_0) to the gradients."""
        for parameter, start in zip(self.parameters, self.start, strict=True):
            assert parameter.grad is not None
            parameter.grad.add_(parameter.detach() - start, alpha=self.strength)
