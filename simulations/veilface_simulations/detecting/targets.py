"""What the heads are to say of each cell, and how wrong they were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from veilface_common.models.heatmap import CLASSIC_PIXELS, STRIDE, Maps, cell_middles
from veilface_simulations.clips.clip import Boxes, Flags

# A hill's top is flat, so that a face of which it is known but roughly where it is, for it moved
# while nothing could be seen, still has cells that surely belong to it (Tian et al. 2019, FCOS).
TOP = 0.2  # of a face's side: from its middle as far as this every cell is a centre
WIDEST_TOP = 1.0  # cells
SPREAD = 0.09  # of a face's side: deviation of the slope beyond (Liu et al. 2020, TTFNet)
HILL = 0.3  # height from which cells learn the box as well
BOX_WEIGHT = 2.0


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Of F frames of h x w cells."""

    centres: Tensor  # [F, h, w] in [0, 1]; 1: the centre of a face lies in this cell, or very near
    boxes: Tensor  # [F, 4, h, w]: middle x, y and sides in cells, of the face whose hill is highest
    weights: Tensor  # [F, h, w]: how much the box counts here
    counted: Tensor  # [F, h, w]: 0 where nothing said is wrong, for a face is there to be ignored

    def to(self, device: torch.device) -> Targets:
        """Return the same on a device."""
        moved = {name: getattr(self, name).to(device) for name in Targets.__annotations__}
        return Targets(**moved)


def targets_of(boxes: list[Boxes], ignored: list[Flags], height: int, width: int) -> Targets:
    """Return what is right for frames of height x width pixels; lists have an entry a frame."""
    cells = (height // STRIDE, width // STRIDE)
    centres = np.zeros((len(boxes), *cells), np.float32)
    inside = np.zeros((len(boxes), 4, *cells), np.float32)
    inside[:, 2:] = 1
    counted = np.ones_like(centres)
    for frame, (places, ignore) in enumerate(zip(boxes, ignored, strict=True)):
        for box, left_out in zip(places / STRIDE, ignore, strict=True):
            if left_out:
                _mask(counted[frame], box)
            else:
                _raise_hill(centres[frame], inside[frame], box)
    counted[centres > HILL] = 1  # a face that is to be found stands before one that is not
    weights = np.where(centres > HILL, centres, 0)
    found = (centres, inside, weights, counted)
    return Targets(**dict(zip(Targets.__annotations__, map(torch.from_numpy, found), strict=True)))


def _mask(counted: NDArray[np.float32], box: NDArray[np.float64]) -> None:
    left, top, right, bottom = *np.floor(box[:2]), *np.ceil(box[:2] + box[2:])
    counted[int(top) : int(bottom), int(left) : int(right)] = 0


def _raise_hill(
    centres: NDArray[np.float32], inside: NDArray[np.float32], box: NDArray[np.float64]
) -> None:
    height, width = centres.shape
    middle, sides = box[:2] + box[2:] / 2, np.maximum(box[2:], 0.1)
    column, row = np.clip(middle.astype(int), 0, (width - 1, height - 1))
    across = _slope(width, middle[0], sides[0])
    down = _slope(height, middle[1], sides[1])
    across[column] = down[row] = 1  # the cell that the centre lies in, however small the face is
    hill = np.outer(down, across).astype(np.float32)
    higher = hill > centres
    higher[row, column] = True
    centres[higher] = hill[higher]
    inside[:, higher] = np.concatenate((middle, sides)).astype(np.float32)[:, None]


def _slope(cells: int, middle: float, side: float) -> NDArray[np.float64]:
    """Return the height of the hill along one axis, at the middle of each cell."""
    away = np.abs(np.arange(cells) + 0.5 - middle) - min(TOP * side, WIDEST_TOP)
    return np.asarray(np.exp(-((np.maximum(away, 0) / (SPREAD * side)) ** 2) / 2))


def loss_of(maps: Maps, targets: Targets) -> tuple[Tensor, Tensor]:
    """Return the loss of centres and that of boxes; maps are of the same frames, [B, T, ...]."""
    logits = maps.centres.flatten(0, 1).float()  # [F, h, w]
    centres = (focal(logits, targets.centres) * targets.counted).sum()
    tops = (targets.centres == 1).sum().clamp(min=1)
    offsets, logs = maps.boxes.flatten(0, 1).float().chunk(2, dim=1)  # 2 x [F, 2, h, w]
    middles, sides = targets.boxes.chunk(2, dim=1)  # 2 x [F, 2, h, w]
    # As shares of the face's side: half a cell is much of a small face and little of a large one.
    off = (cell_middles(logits) + offsets - middles).abs() / sides + (logs - sides.log()).abs()
    weights = targets.weights.unsqueeze(1)
    boxes = (off * weights).sum() / weights.sum().clamp(min=1)
    return centres / tops, BOX_WEIGHT * boxes


def focal(logits: Tensor, centres: Tensor) -> Tensor:
    """Return the loss of each cell (Law & Deng 2018, CornerNet, eq. 1; alpha 2, beta 4)."""
    probability = logits.sigmoid()
    found = -functional.logsigmoid(logits) * (1 - probability) ** 2
    invented = -functional.logsigmoid(-logits) * probability**2 * (1 - centres) ** 4
    return torch.where(centres == 1, found, invented)


def classic_frames(frames: Tensor) -> Tensor:
    """Return frames as the classic network looks at them: [B, T, 3, S, S] -> [B, T, 3, 96, 96]."""
    flat = functional.adaptive_avg_pool2d(frames.flatten(0, 1), CLASSIC_PIXELS)
    return flat.view(*frames.shape[:2], *flat.shape[1:])


def classic_loss(
    answers: Tensor, boxes: list[Boxes], ignored: list[Flags], pixels: int
) -> tuple[Tensor, Tensor]:
    """Return the loss of the score and that of the box of the largest face, of [B, T, 5]."""
    wanted = np.zeros((len(boxes), 5), np.float32)  # is there one, middle x, y, sides
    wanted[:, 3:] = 1
    for frame, (places, ignore) in enumerate(zip(boxes, ignored, strict=True)):
        seen = places[~ignore]
        if len(seen):
            box = seen[seen[:, 2:].prod(axis=1).argmax()] / pixels
            wanted[frame] = 1, *(box[:2] + box[2:] / 2), *np.maximum(box[2:], 1e-3)
    right = torch.from_numpy(wanted)
    flat = answers.flatten(0, 1).float()  # [F, 5]
    score = functional.binary_cross_entropy_with_logits(flat[:, 0], right[:, 0])
    sides = right[:, 3:]
    off = (flat[:, 1:3] - right[:, 1:3]).abs() / sides + (flat[:, 3:] - sides.log()).abs()
    there = right[:, :1]
    return score, BOX_WEIGHT * (off * there).sum() / there.sum().clamp(min=1)
