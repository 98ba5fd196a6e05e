"""A face in one frame of a video, what was taken of it, and one person's way through many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from veilface_client.detectors.detection import Detection
from veilface_client.images import Pixels

Boxes = NDArray[np.float64]  # [N, 4]: left, top, width, height
Embedding = NDArray[np.float32]  # [D], unit length


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What was taken of a face that was looked at closely."""

    embedding: Embedding | None  # None: it was not good enough to know anybody by
    qualities: NDArray[np.float32]  # [Q], as `track_template.frame_qualities` gives them
    worth: float = 1.0  # as a photograph; of many, those with the largest are kept
    pixels: Pixels | None = None  # aligned [112, 112, 3]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sighting:
    """A face in one frame."""

    frame: int  # number
    seconds: float
    detection: Detection  # in pixels of the frame
    seen: bool = True  # False: filled in where the detector missed it
    look: Look | None = None

    @property
    def middle(self) -> NDArray[np.float64]:
        """The middle of the box, [2]."""
        left, top, width, height = self.detection.box
        return np.array((left + width / 2, top + height / 2))

    @property
    def worth(self) -> tuple[int, float]:
        """What keeping it is worth: most where its look is good, least where none was taken."""
        if self.look is None:
            return 0, self.detection.area
        return 1 + (self.look.embedding is not None), self.look.worth


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """One person's way through the video."""

    number: int  # from 0, in the order in which they began
    first: Sighting
    last: Sighting  # seen, as the first is
    sightings: tuple[Sighting, ...]  # the best ones and the newest, in order of time; all seen
    seen_frames: int
    good_looks: int  # that were taken; not all are kept

    @property
    def looks(self) -> tuple[Look, ...]:
        """The looks that were kept, in order of time."""
        return tuple(one.look for one in self.sightings if one.look is not None)


def boxes_of(sightings: Sequence[Sighting]) -> Boxes:
    """Return their boxes: [N, 4]."""
    return np.array([one.detection.box for one in sightings], np.float64).reshape(-1, 4)


def moved(last: Sighting, shift: NDArray[np.float64], frame: int, seconds: float) -> Sighting:
    """Return where a face should be in a later frame, `shift` [2] away."""
    left, top, width, height = last.detection.box
    across, down = shift.tolist()
    detection = replace(
        last.detection,
        box=(left + across, top + down, width, height),
        landmarks=last.detection.landmarks + shift,
    )
    return Sighting(frame=frame, seconds=seconds, detection=detection, seen=False)


def between(last: Sighting, now: Sighting, frame: int, seconds: float) -> Sighting:
    """Return where a face was in a frame between two sightings of it."""
    span = now.seconds - last.seconds
    share = min(max((seconds - last.seconds) / span, 0.0), 1.0) if span > 0 else 1.0
    before, after = np.array(last.detection.box), np.array(now.detection.box)
    left, top, width, height = (before + share * (after - before)).tolist()
    places = (last.detection.landmarks - before[:2]) / before[2:]  # shares of the box
    detection = replace(
        last.detection,
        box=(left, top, width, height),
        landmarks=places * (width, height) + (left, top),
    )
    return Sighting(frame=frame, seconds=seconds, detection=detection, seen=False)
