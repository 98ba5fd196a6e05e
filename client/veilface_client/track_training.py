"""Training what weighs the frames of a track, without privacy: the embeddings stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, nn

from veilface_client.head import Head
from veilface_client.pseudo_tracks import Frames, Tracks, draw_tracks, make_frames
from veilface_client.training import (
    Canvases,
    TrainingSummary,
    batches,
    choose_device,
    embed,
    make_optimizer,
)
from veilface_common.config import RunConfig
from veilface_common.errors import ConfigError, TrainingDiverged
from veilface_common.models import track_of

PHOTOGRAPHS = 6  # of a person, from which the frames of a round are made


def train_tracks(
    network: nn.Module,
    head: Head,
    canvases: Canvases,
    labels: NDArray[np.int64],
    config: RunConfig,
    *,
    learning_rate: float,
    seed: int,
    rows: NDArray[np.int64],
) -> TrainingSummary:
    """Train the weights of frames on pseudo-tracks, in place, against the head of other training.

    A pass shows a pseudo-track of each person; `config.training.local_epochs` of them are made.

    Args:
        network: [B, 3, S, S] in [0, 1] -> [B, D], with what weighs frames beside.
        head: what judges the templates of tracks; started at the people's photographs.
        canvases: the organisation's faces, uint8 [N, 3, C, C].
        labels: the person of each face, [N], numbered from 0 as the head counts.
        config: what the federation agreed on.
        learning_rate: of this round.
        seed: of this round at this organisation.
        rows: the faces whose people are trained on; the others' rows of the head are told from.

    Raises:
        ConfigError: the network has nothing that weighs frames.
        TrainingDiverged: loss or gradient are not finite.
    """
    track = track_of(network)
    if track is None:
        raise ConfigError("expected a network that weighs frames, got one without")
    device = choose_device(config.device)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.requires_grad_(requires_grad=False)
    track.requires_grad_(requires_grad=True)
    generator = Generator().manual_seed(seed)
    people = np.unique(labels[rows])
    frames = frames_of_people(network, canvases, labels, people, config, generator)
    start_head(head, network, canvases, labels, config)
    return fit_tracks(
        track, head, frames, people, config, learning_rate=learning_rate, generator=generator
    )


def fit_tracks(
    track: nn.Module,
    head: Head,
    frames: Sequence[Frames],
    people: NDArray[np.int64],
    config: RunConfig,
    *,
    learning_rate: float,
    generator: Generator,
) -> TrainingSummary:
    """Train on pseudo-tracks of `people`, whose frames are given, and return how it went.

    `track`: [B, T, D], [B, T, Q], bool [B, T] -> [B, D], of unit length.

    Raises:
        TrainingDiverged: loss or gradient are not finite.
    """
    plan, inside = config.training, list(track.parameters())
    device = inside[0].device
    rate = learning_rate * config.head.learning_rate_factor
    groups: list[dict[str, Any]] = [{"params": inside}]
    groups.append({"params": list(head.parameters()), "lr": rate})
    optimizer = make_optimizer(groups, plan, learning_rate)
    total = torch.zeros(2, device=device)  # losses, gradient norms
    steps = images = 0
    for batch in batches(len(people), plan, generator):
        chosen = batch.tolist()
        tracks = _stacked([draw_tracks(frames[number], 1, generator) for number in chosen])
        templates = track(
            tracks.embeddings.to(device), tracks.qualities.to(device), tracks.present.to(device)
        )
        loss = head.loss(templates, torch.from_numpy(people[chosen]).to(device)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(inside, plan.max_gradient_norm)
        optimizer.step()
        total += torch.stack([loss.detach(), norm])
        steps, images = steps + 1, images + int(tracks.present.sum())
    if not bool(total.isfinite().all()):
        raise TrainingDiverged(
            f"training at learning rate {learning_rate:g} left the finite numbers",
            hint="lower training.learning-rate or training.max-gradient-norm",
        )
    return TrainingSummary(mean_loss=float(total[0]) / steps, steps=steps, images=images)


def frames_of_people(
    network: nn.Module,
    canvases: Canvases,
    labels: NDArray[np.int64],
    people: NDArray[np.int64],
    config: RunConfig,
    generator: Generator,
) -> list[Frames]:
    """Return frames of each of `people`, made of at most PHOTOGRAPHS of their faces."""
    found = []
    for person in people:
        own = np.flatnonzero(labels == person)
        order: NDArray[np.int64] = torch.randperm(len(own), generator=generator).numpy()
        chosen = own[order[:PHOTOGRAPHS]]
        found.append(make_frames(network, canvases, chosen, config, generator))
    return found


def start_head(
    head: Head,
    network: nn.Module,
    canvases: Canvases,
    labels: NDArray[np.int64],
    config: RunConfig,
) -> None:
    """Start the head where the photographs, as evaluation sees them, are."""
    device = choose_device(config.device)
    whole = embed(
        network,
        canvases,
        pixels=config.model.pixels,
        device=config.device,
        precision=config.precision,
    )
    head.to(device)
    head.start(torch.from_numpy(whole).to(device), torch.from_numpy(labels).to(device))


def _stacked(tracks: Sequence[Tracks]) -> Tracks:
    return Tracks(
        embeddings=torch.cat([one.embeddings for one in tracks]),
        qualities=torch.cat([one.qualities for one in tracks]),
        present=torch.cat([one.present for one in tracks]),
    )
