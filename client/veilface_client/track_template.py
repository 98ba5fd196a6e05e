"""One template for a track: several frames of one face, put together.

    mean       the direction of the sum of the frames' embeddings
    best       the embedding of the frame of the best quality
    recurrent  the direction of a weighted sum, the weights by a recurrent network (`models.track`)

docs/tracks.md says how each does, and why DEFAULT is the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from veilface_client.alignment import network_input
from veilface_client.images import Pixels
from veilface_common.errors import ConfigError, DataError
from veilface_common.models import TrackWeights

Method = Literal["mean", "best", "recurrent"]
DEFAULT: Method = "recurrent"  # where the model has what weighs frames; else "mean"
NAMES = (
    *("sharpness", "grain", "brightness", "contrast"),
    *("clipped", "colour", "one-sided", "coarse"),
    "goodness",
)
# Least squares, of these and their squares: how near a frame of a CelebA photograph is to the
# person's other photographs, against the same photograph clean; in tenths of a cosine.
_LINEAR = (-2.88, 0.64, 0.45, 0.55, -0.31, -0.32, 0.14, 0.43)
_SQUARE = (-0.79, -0.38, -0.71, -0.05, -0.05, 0.09, -0.04, -0.02)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601

Floats = NDArray[np.float32]


def frame_qualities(aligned: Pixels, pixels: int) -> Floats:
    """Return how good a frame is: aligned face uint8 [112, 112, 3] -> [Q].

    It is judged on what the network looks at, `pixels` across.
    """
    view = torch.from_numpy(network_input(aligned, pixels))
    return np.asarray(view_qualities(view[None])[0].numpy())


def view_qualities(views: Tensor) -> Tensor:
    """Return how good frames are: [N, 3, S, S] in [0, 1] -> [N, Q], in the order of NAMES.

    Each is about 0 in mean and 1 in deviation over good and bad photographs of faces. The last one
    follows from the others: how good a frame seems, all in all.
    """
    side = views.shape[-1]
    inner = views[..., side // 8 : -(side // 8), side // 8 : -(side // 8)]  # less background
    red, green, blue = inner.unbind(1)
    grey = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue  # [N, S', S']
    middle = grey[:, 1:-1, 1:-1]
    beside = (grey[:, 1:-1, :-2], grey[:, 1:-1, 2:], grey[:, :-2, 1:-1], grey[:, 2:, 1:-1])
    laplacian = torch.stack(beside).sum(0) - 4 * middle
    grain = (middle - torch.stack((middle, *beside)).median(0).values).abs()
    half = grey.shape[2] // 2
    small = functional.avg_pool2d(grey[:, None], 4)
    coarse = functional.interpolate(small, grey.shape[1:], mode="bilinear")[:, 0]
    spread = grey.flatten(1).std(1)
    found = (
        (laplacian.flatten(1).std(1) + 1e-3).log() + 2.0,
        (grain.flatten(1).mean(1) + 1e-3).log() + 4.0,
        4 * (grey.flatten(1).mean(1) - 0.45),
        8 * (spread - 0.2),
        4 * ((grey < 0.02) | (grey > 0.98)).flatten(1).float().mean(1),
        8 * (inner.amax(1) - inner.amin(1)).flatten(1).mean(1) - 1.0,
        6 * (grey[:, :, :half].flatten(1).mean(1) - grey[:, :, -half:].flatten(1).mean(1)).abs(),
        8 * (grey - coarse).flatten(1).std(1) / (spread + 1e-2) - 1.5,
    )
    measured = torch.stack(found, 1)
    linear, square = measured.new_tensor(_LINEAR), measured.new_tensor(_SQUARE)
    goodness = measured @ linear + measured**2 @ square
    return torch.cat([measured, goodness[:, None]], 1)


def combine(
    embeddings: Floats | Sequence[Floats],
    qualities: Floats | Sequence[Floats],
    how: Method | None = None,
    *,
    track: TrackWeights | None = None,
) -> Floats:
    """Return the template of a track of T frames: [T, D], [T, Q] -> [D], unit length.

    Args:
        embeddings: of the frames in their order, each of unit length.
        qualities: of the same frames, by `frame_qualities`.
        how: see above; None: DEFAULT where there is a network, else "mean".
        track: the network that weighs frames, for "recurrent"; see `models.track_of`.

    Raises:
        DataError: there is no frame.
        ConfigError: "recurrent" is asked for without a network.
    """
    if not len(embeddings):
        raise DataError("expected a frame of a track at least, got none")
    weights = frame_weights(embeddings, qualities, how, track=track)
    summed = weights @ np.asarray(embeddings, np.float32)
    return np.asarray(summed / max(float(np.linalg.norm(summed)), 1e-12), np.float32)


def frame_weights(
    embeddings: Floats | Sequence[Floats],
    qualities: Floats | Sequence[Floats],
    how: Method | None = None,
    *,
    track: TrackWeights | None = None,
) -> Floats:
    """Return how much each frame counts in `combine`: [T], of sum 1."""
    frames, judged = np.asarray(embeddings, np.float32), np.asarray(qualities, np.float32)
    if how is None:
        how = "mean" if track is None else DEFAULT
    if how == "mean":
        return np.full(len(frames), 1 / len(frames), np.float32)
    if how == "best":
        best: Floats = np.zeros(len(frames), np.float32)
        best[int(goodness(judged).argmax())] = 1
        return best
    if track is None:
        raise ConfigError(
            "expected a model with a network for tracks, got one without",
            hint="veilface-sim run --preset tracks --init MODEL trains it; mean and best need none",
        )
    with torch.inference_mode():
        present = torch.ones(1, len(frames), dtype=torch.bool)
        found = track.weights(
            torch.from_numpy(frames)[None], torch.from_numpy(judged)[None], present
        )
    return np.asarray(found[0].numpy(), np.float32)


def goodness(qualities: Floats) -> Floats:
    """Return one number for each frame, higher for better ones: [T, Q] -> [T]."""
    return np.asarray(qualities[:, NAMES.index("goodness")], np.float32)
