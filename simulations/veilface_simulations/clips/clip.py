"""What a clip is, and what may be asked of one.

A clip is reproducible from (source, seed, number) alone, whatever was made before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from veilface_client.images import Pixels
from veilface_common.errors import ConfigError

Boxes = NDArray[np.float64]  # [N, 4] left, top, width, height in pixels of the frame
Numbers = NDArray[np.int64]  # [N]
Flags = NDArray[np.bool_]  # [N]
Split = Literal["train", "validation"]

LEAST_SEEN = 0.5  # of a box: whoever shows less neither has to be found nor counts against
LEAST_PIXELS = 8.0  # longer side of a box; smaller ones are ignored likewise


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Which clips are wanted. Sizes are in pixels."""

    frames: int = 8
    height: int = 256
    width: int = 256
    most_faces: int = 6  # that are drawn; photographs have those that they have
    smallest_face: float = 12.0  # height of a drawn face; of photographs the window decides
    largest_face: float = 200.0
    corrupted: int | None = None  # exactly so many frames, anywhere; None: each one by chance
    corrupted_share: float = 0.25  # that chance

    def __post_init__(self) -> None:
        if not (1 <= self.frames <= 4096 and min(self.height, self.width) >= 32):
            shape = (self.frames, self.height, self.width)
            raise ConfigError(f"expected 1 to 4096 frames of at least 32 x 32 pixels, got {shape}")
        if self.corrupted is not None and not 0 <= self.corrupted <= self.frames:
            raise ConfigError(
                f"expected corrupted frames in [0, {self.frames}], got {self.corrupted}"
            )
        if not 0 <= self.corrupted_share <= 1:
            raise ConfigError(f"expected a share in [0, 1], got {self.corrupted_share:g}")
        if self.most_faces < 0 or not 4 <= self.smallest_face <= self.largest_face:
            got = (self.most_faces, self.smallest_face, self.largest_face)
            raise ConfigError(f"expected a number of faces and their sizes in order, got {got}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """Frames one after the other, and who is where in each; N differs from frame to frame.

    Boxes reach from the hair line to the chin and from cheek to cheek, as WIDER FACE's do, and end
    where the frame ends. A corrupted frame keeps its boxes: the people are still there.
    """

    frames: Pixels  # [T, H, W, 3], RGB
    boxes: tuple[Boxes, ...]  # T of [N, 4]
    people: tuple[Numbers, ...]  # T of [N]; the same number is the same person within the clip
    ignored: tuple[Flags, ...]  # T of [N]: too small, or too little of it is seen
    corrupted: Flags  # [T]


class ClipSource(Protocol):
    """Endless clips by number."""

    @property
    def name(self) -> str:
        """What `open_clips` was asked for."""

    def clip(self, config: ClipConfig, seed: int, number: int) -> Clip:
        """Return the clip of that number in the world of `seed`."""


def chance(*words: int) -> np.random.Generator:
    """Return a generator of its own for the given numbers. Raises ConfigError below 0."""
    if min(words) < 0:
        raise ConfigError(f"expected a seed and a number of at least 0, got {words[1:]}")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def no_boxes() -> Boxes:
    """Return no box at all, [0, 4]."""
    return np.zeros((0, 4))


def within(boxes: Boxes, height: int, width: int) -> tuple[Boxes, NDArray[np.float64]]:
    """Return boxes cut at the border of a frame, [N, 4], and the share of each that is left [N].

    A box that lies outside altogether has no area.
    """
    corner = np.array((width, height))
    first = np.clip(boxes[:, :2], 0, corner)
    last = np.clip(boxes[:, :2] + boxes[:, 2:], 0, corner)
    inside = np.concatenate((first, last - first), axis=1)
    area = np.maximum(boxes[:, 2:].prod(axis=1), 1e-9)
    return inside, inside[:, 2:].prod(axis=1) / area
