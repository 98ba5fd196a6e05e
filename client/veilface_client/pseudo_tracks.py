"""Tracks made of photographs, so that what weighs frames can be trained on any source of faces.

From each of a person's photographs come a few frames as a camera gives them, and a few that went
wrong (`perturbations`). A pseudo-track takes some of them: frames of one photograph, as a video of
a still moment, or of several, as one of a head that turns. How many of them are bad is drawn.

All of it follows from one generator and one person's photographs, and each person's frames are
embedded alone: who else is there changes no bit of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from veilface_client.alignment import PIXELS
from veilface_client.augmentation import DRAWS, variation, vary
from veilface_client.perturbations.levels import LEVELS, perturb
from veilface_client.track_template import view_qualities
from veilface_client.training import Canvases, embed_views
from veilface_common.config import AugmentationConfig, RunConfig

# What frames suffer in training. The others of PERTURBATIONS are kept for measuring: see docs.
KINDS = (
    *("brightness", "darkness", "contrast", "side-light", "salt-and-pepper"),
    *("defocus", "low-resolution", "hand", "rotation", "jpeg"),
)
GOOD, BAD = 2, 4  # frames of each photograph
LEAST_FRAMES, MOST_FRAMES = 3, 8  # of a pseudo-track
BAD_SHARES = (0.0, 0.2, 0.4, 0.6)  # of its frames, one of these
OF_ONE_PHOTOGRAPH = 0.8  # of the pseudo-tracks; in a video neighbours are alike
_SEEDS = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Frames of a person: of each photograph the good ones first, then the bad ones."""

    embeddings: Tensor  # [P, V, D]
    qualities: Tensor  # [P, V, Q]


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Pseudo-tracks, padded to one length."""

    embeddings: Tensor  # [B, T, D]
    qualities: Tensor  # [B, T, Q]
    present: Tensor  # bool [B, T]


@torch.no_grad()
def make_frames(
    network: nn.Module,
    canvases: Canvases,
    rows: NDArray[np.int64],
    config: RunConfig,
    generator: Generator,
) -> Frames:
    """Return frames of one person's photographs: `rows` [P] of uint8 [N, 3, C, C]."""
    pixels, device = config.model.pixels, next(network.parameters()).device
    shown = np.repeat(canvases[rows], GOOD + BAD, axis=0)  # [P * V, 3, C, C]
    for number, canvas in enumerate(shown):
        if number % (GOOD + BAD) >= GOOD:
            shown[number] = _spoilt(canvas, pixels, generator)
    draws = torch.rand(len(shown), DRAWS, generator=generator)
    how = variation(draws, _steady(config.augmentation), pixels)
    views = vary(torch.from_numpy(shown), how, pixels)  # [P * V, 3, S, S]
    found = embed_views(network, views.to(device).contiguous(memory_format=torch.channels_last))
    return Frames(
        embeddings=found.cpu().view(len(rows), GOOD + BAD, -1),
        qualities=view_qualities(views).view(len(rows), GOOD + BAD, -1),
    )


def draw_tracks(frames: Frames, count: int, generator: Generator) -> Tracks:
    """Return so many pseudo-tracks of one person."""
    photographs = len(frames.embeddings)

    def drawn(below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=generator)

    def chance(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    lengths = LEAST_FRAMES + drawn(MOST_FRAMES - LEAST_FRAMES + 1, count, 1)
    present = torch.arange(MOST_FRAMES) < lengths  # [B, T]
    photograph = drawn(photographs, count, MOST_FRAMES)
    alone = chance(count, 1) < OF_ONE_PHOTOGRAPH
    photograph = torch.where(alone, photograph[:, :1], photograph)
    shares = torch.tensor(BAD_SHARES)[drawn(len(BAD_SHARES), count, 1)]
    is_bad = chance(count, MOST_FRAMES) < shares
    good, bad = drawn(GOOD, count, MOST_FRAMES), GOOD + drawn(BAD, count, MOST_FRAMES)
    version = torch.where(is_bad, bad, good)
    return Tracks(
        embeddings=frames.embeddings[photograph, version] * present[:, :, None],
        qualities=frames.qualities[photograph, version] * present[:, :, None],
        present=present,
    )


def _spoilt(canvas: NDArray[np.uint8], pixels: int, generator: Generator) -> NDArray[np.uint8]:
    """Return a canvas [3, C, C] on which one thing went wrong."""
    kind, level, seed = (
        int(torch.randint(below, (), generator=generator)) for below in (len(KINDS), LEVELS, _SEEDS)
    )
    scale = PIXELS / pixels
    margin = scale * (canvas.shape[-1] - pixels) / 2
    face = np.array(((scale, 0.0, -margin), (0.0, scale, -margin)))
    picture = np.ascontiguousarray(canvas.transpose(1, 2, 0))
    changed = perturb(picture, KINDS[kind], level + 1, seed=seed, face=face)
    return changed.transpose(2, 0, 1)


def _steady(config: AugmentationConfig) -> AugmentationConfig:
    """Return what moves from one good frame to the next: the head a little, not its looks."""
    return replace(
        config,
        shift=config.shift / 2,
        scale=config.scale / 2,
        rotation_degrees=config.rotation_degrees / 2,
        brightness=0.1,
        contrast=0.1,
        saturation=0.1,
        grey=0.0,
        blur=0.1,
        erase=0.0,
    )
