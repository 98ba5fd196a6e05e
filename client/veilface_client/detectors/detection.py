"""What a detector is and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from veilface_client.images import Pixels

Points = NDArray[np.float64]  # [N, 2], x and y in pixels of the photograph
Basis = Literal["five", "eyes", "box", "whole"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    """One face in a photograph; all places in its pixels, x to the right, y down."""

    box: tuple[float, float, float, float]  # left, top, width, height; may reach beyond the edge
    score: float  # comparable within one detector only
    landmarks: Points  # [5, 2] eyes, nose, mouth corners, or [2, 2] eyes; left in the picture first
    basis: Basis  # what the landmarks are: seen, or where they should be in the box or the picture

    @property
    def area(self) -> float:
        """Pixels under the box."""
        return self.box[2] * self.box[3]


class Detector(Protocol):
    """Finds faces. Safe to share between threads."""

    @property
    def name(self) -> str:
        """The first part of the alignment path that is stored with each template."""

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        """Return every face in uint8 [H, W, 3], RGB, the largest first."""


class Stream(Protocol):
    """One video that is looked at; what was seen before is kept inside. For one thread."""

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        """Return every face in the next frame, uint8 [H, W, 3], RGB, the largest first."""


class StreamingDetector(Detector, Protocol):
    """A detector that sees more in a video than in its frames one by one."""

    def stream(self) -> Stream:
        """Return a new stream that has seen nothing yet."""


def stream_of(detector: Detector) -> Stream:
    """Return the detector's own stream, or the detector itself where each frame is for itself."""
    stream = getattr(detector, "stream", None)
    return detector if stream is None else stream()
