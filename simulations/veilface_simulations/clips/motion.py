"""Where people and the camera go during a clip: smooth ways with a little unrest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ways = NDArray[np.floating[Any]]  # [T, ...]
_UNREST = 0.012  # of a step, as a share of the size of what moves


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """How the picture of a scene moves."""

    shift: Ways  # [T, 2], pixels
    zoom: Ways  # [T]
    roll: Ways  # [T], radians

    def warp(self, frame: int, middle: tuple[float, float]) -> NDArray[np.float64]:
        """Return the matrix [2, 3] from the scene to the frame; it turns about `middle`."""
        cosine, sine = math.cos(self.roll[frame]), math.sin(self.roll[frame])
        turn = self.zoom[frame] * np.array(((cosine, -sine), (sine, cosine)))
        centre = np.array(middle)
        return np.column_stack((turn, centre - turn @ centre + self.shift[frame]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """Where a person goes in a scene."""

    place: Ways  # [T, 2], the middle of the head in pixels
    unit: Ways  # [T], pixels that a head unit takes
    roll: Ways  # [T], radians


def camera_of(frames: int, side: float, draw: np.random.Generator) -> Camera:
    """Return a camera: still on a stand, or panned, zoomed and held by hand."""
    times = np.arange(frames) - (frames - 1) / 2
    if draw.random() < 0.25:
        return Camera(shift=np.zeros((frames, 2)), zoom=np.ones(frames), roll=np.zeros(frames))
    pan = draw.normal(0, (0.012 * side, 0.005 * side))
    shaking = draw.uniform(0, 0.004) * side
    shift = times[:, None] * pan + draw.normal(0, 1, (frames, 2)) * shaking
    return Camera(
        shift=np.clip(shift, -0.3 * side, 0.3 * side),
        zoom=np.clip(np.exp(times * draw.normal(0, 0.015)), 0.75, 1.4),
        roll=np.clip(times * draw.normal(0, 0.006), -0.15, 0.15) + draw.normal(0, 0.03),
    )


def way_of(frames: int, face: float, size: tuple[int, int], draw: np.random.Generator) -> Way:
    """Return the way of a person whose face is `face` pixels high, in a scene [height, width]."""
    height, width = size
    times = np.arange(frames) - (frames - 1) / 2
    unit = face / 1.67  # head units from the hair line to the chin, on average
    speed = draw.normal(0, (0.07 * face, 0.03 * face)) * (draw.random() > 0.2)
    middle = draw.uniform((0.03 * width, 0.05 * height), (0.97 * width, 0.95 * height))
    kind = draw.random()
    if kind < 0.3 and frames > 2:  # comes in, or by mirrored time goes out
        from_left = draw.random() < 0.5
        across = draw.uniform(0.2, 0.9) * face  # how far inside the frame it gets, and on
        edge = -0.5 * face if from_left else width + 0.5 * face
        inwards = 1 if from_left else -1
        crossing = draw.uniform(0.1, 0.7) * (frames - 1)  # when its middle is at the border
        pace = inwards * (across + face) / frames
        moving = edge + inwards * 0.5 * face + pace * (np.arange(frames) - crossing)
        place = np.column_stack((moving, middle[1] + times * speed[1]))
        if kind < 0.15:
            place = place[::-1]
    else:
        place = middle + times[:, None] * speed
    place = place + draw.normal(0, _UNREST * face, (frames, 2))
    growth = np.clip(np.exp(times * draw.normal(0, 0.015)), 0.6, 1.6)
    swing = draw.normal(0, 0.05)
    phase = draw.uniform(0, 2 * math.pi)
    roll = draw.normal(0, 0.14) + swing * np.sin(0.5 * times + phase)
    return Way(place=place, unit=unit * growth, roll=np.clip(roll, -0.6, 0.6))
