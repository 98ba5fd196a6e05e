"""A photograph that is about to be perturbed, and where the face is in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veilface_client.alignment import PIXELS, Transform, scale_of
from veilface_client.images import Pixels

Map = NDArray[np.float32]  # [H, W]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """A picture, its face, and the chance that decides on sides, colours and grains."""

    pixels: Pixels  # [H, W, 3], RGB
    face: Transform  # a place in the picture -> its place in the 112 px template
    draw: np.random.Generator

    @property
    def scale(self) -> float:
        """Pixels of the picture that a pixel of the template takes."""
        return 1 / scale_of(self.face)

    def places(self) -> tuple[Map, Map]:
        """Return where in the template each pixel's centre is: u to the right, v down, [H, W]."""
        height, width, _ = self.pixels.shape
        x = np.arange(width, dtype=np.float32) + 0.5
        y = np.arange(height, dtype=np.float32)[:, None] + 0.5
        u, v = (row[0] * x + row[1] * y + row[2] for row in self.face.astype(np.float32))
        return u, v

    def place_of(self, u: float, v: float) -> tuple[float, float]:
        """Return where in the picture (x, y) a place of the template is."""
        x, y = np.linalg.solve(self.face[:, :2], np.array((u, v)) - self.face[:, 2])
        return float(x), float(y)


def middle_face(height: int, width: int) -> Transform:
    """Return the transform for a picture whose middle square is the aligned face."""
    side = min(height, width)
    shrink = PIXELS / side
    left, top = (width - side) / 2, (height - side) / 2
    return np.array(((shrink, 0, -shrink * left), (0, shrink, -shrink * top)))


def rounded(values: ArrayLike) -> Pixels:
    """Return values as pixels: rounded to the nearest, cut to [0, 255]."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
