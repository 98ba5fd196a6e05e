"""A world in which people are coloured squares, so that a real video file shows who is who."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.client.recognition.desks import WordDesk, vector_of

from veilface_client.detectors.detection import Detection
from veilface_client.faces import Aligned
from veilface_client.images import Pixels
from veilface_client.video.reading import Frame
from veilface_client.video.writing import VideoWriter

COLOURS = {
    "ada": (220, 60, 60),
    "bob": (60, 200, 60),
    "eve": (70, 70, 230),
    "sam": (210, 200, 40),
}
SIDE = 60
Person = tuple[str, float, float]  # who, and where the middle of their face is


def scene(people: Iterable[Person], height: int = 200, width: int = 400) -> Pixels:
    """Return a grey frame with these people; whoever comes later is before the others."""
    frame = np.full((height, width, 3), 128, np.uint8)
    rows, columns = np.indices((SIDE, SIDE)) // 6
    shade = np.where((rows + columns) % 2, 1.0, 0.8)[..., None]
    for name, x, y in people:
        square = (shade * np.array(COLOURS[name])).astype(np.uint8)
        left, top = round(x - SIDE / 2), round(y - SIDE / 2)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + SIDE, width), min(top + SIDE, height)
        if x0 < x1 and y0 < y1:
            frame[y0:y1, x0:x1] = square[y0 - top : y1 - top, x0 - left : x1 - left]
    return frame


def write_film(path: Path, frames: Sequence[Pixels], rate: float = 10.0) -> Path:
    """Write a video of these frames."""
    height, width, _ = frames[0].shape
    with VideoWriter(path, width=width, height=height, rate=rate) as writer:
        for number, pixels in enumerate(frames):
            writer.add(Frame(number=number, seconds=number / rate, pixels=pixels))
    return path


def _who_of_each() -> NDArray[np.int8]:
    """Return the number of the colour nearest to each of 32 x 32 x 32, -1 where it is grey."""
    values = np.moveaxis(np.indices((32, 32, 32)), 0, -1) * 8.0 + 4  # [32, 32, 32, 3]
    colours = np.array(list(COLOURS.values()), np.float64)
    hues = colours / colours.max(1, keepdims=True)
    brightest = values.max(-1, keepdims=True)
    distances = np.abs((values / brightest)[..., None, :] - hues).sum(-1)
    is_grey = values.max(-1) - values.min(-1) < 40
    return np.where(is_grey, -1, distances.argmin(-1)).astype(np.int8)


_WHO = _who_of_each()


def who(pixels: Pixels) -> NDArray[np.int8]:
    """Return the number of the colour that each pixel has, -1 where it is grey: [H, W]."""
    found: NDArray[np.int8] = _WHO[tuple(np.moveaxis(pixels >> 3, -1, 0))]
    return found


class Squares:
    """Finds the squares of which nearly all is seen."""

    name = "squares"

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        """Return one face of each colour at most, the largest first."""
        found = []
        colours = who(image)
        for number in range(len(COLOURS)):
            rows, columns = np.nonzero(colours == number)
            if len(rows) < 0.8 * SIDE * SIDE:
                continue
            left, top = float(columns.min()), float(rows.min())
            width, height = float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1
            eyes = np.array(((0.3, 0.4), (0.7, 0.4))) * (width, height) + (left, top)
            box = (left, top, width, height)
            found.append(Detection(box=box, score=1.0, landmarks=eyes, basis="eyes"))
        return tuple(sorted(found, key=lambda one: -one.area))


class SquareDesk(WordDesk):
    """Enrols people from words, and knows them by their colour in a frame."""

    takes = 0

    def template(self, face: Aligned) -> NDArray[np.float32]:
        """Return somebody's template: 0.9 like those of their words."""
        if face.path == "haar/eyes":  # a word
            return super().template(face)
        colours = who(face.pixels[40:72, 40:72])
        self.takes += 1
        name = list(COLOURS)[np.bincount(colours[colours >= 0]).argmax()]
        return vector_of(f"{name}/frame {self.takes}", self.embedder.dimension)
