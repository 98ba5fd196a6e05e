"""Detectors that see what they are told, and tools to hide with."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from veilface_client.detectors.detection import Detection, Detector
from veilface_client.images import Pixels

Box = tuple[float, float, float, float]


def face(left: float, top: float, width: float = 60.0, height: float = 60.0) -> Detection:
    """Return a detection in this place."""
    eyes = np.array(((0.3, 0.4), (0.7, 0.4))) * (width, height) + (left, top)
    return Detection(box=(left, top, width, height), score=1.0, landmarks=eyes, basis="box")


class Told:
    """A detector that is told, for each call, what it sees; the last answer stays."""

    name = "told"

    def __init__(self, *answers: tuple[Detection, ...]) -> None:
        self.answers = list(answers)
        self.calls = 0

    def detect(self, image: Pixels) -> tuple[Detection, ...]:  # noqa: ARG002 -- it was told
        """Return the next answer."""
        answer = self.answers[min(self.calls, len(self.answers) - 1)]
        self.calls += 1
        return answer


class Missing:
    """A detector that misses every face in some pictures of a video, and never looks twice."""

    name = "squares"

    def __init__(self, detector: Detector, misses: Callable[[int], bool]) -> None:
        self.detector, self.misses = detector, misses

    def stream(self) -> Seldom:
        """Return what sees the pictures of a video."""
        return Seldom(self.detector, self.misses)

    def detect(self, image: Pixels) -> tuple[Detection, ...]:  # noqa: ARG002 -- as a detector's
        """Return nothing: what a second look finds is another test's."""
        return ()


class Seldom:
    """A stream that misses every face in some pictures, by their number."""

    def __init__(self, detector: Detector, misses: Callable[[int], bool]) -> None:
        self.detector, self.misses, self.calls = detector, misses, -1

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        """Return what the detector sees, or nothing."""
        self.calls += 1
        return () if self.misses(self.calls) else self.detector.detect(image)


def known_noise() -> random.Random:
    """Return noise that is the same each time."""
    return random.Random(5)  # noqa: S311 -- a test repeats it; commands take the system's
