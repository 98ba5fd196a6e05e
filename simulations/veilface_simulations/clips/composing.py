"""People who move before surroundings, seen by a camera that moves: frames and who is where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilface_client.detectors.opencv import load_opencv
from veilface_client.images import Pixels
from veilface_simulations.clips.clip import (
    LEAST_PIXELS,
    LEAST_SEEN,
    Boxes,
    Flags,
    Numbers,
    within,
)
from veilface_simulations.clips.heads import Head, lay, turned, with_body
from veilface_simulations.clips.motion import Camera, Way
from veilface_simulations.surface import CANVAS

_GONE = 0.02  # whoever shows less of the face is not in the frame


@dataclass(frozen=True, kw_only=True, eq=False)
class Actor:
    """A person in a clip; `looks[look[t]]` is the head that frame t shows."""

    person: int
    looks: Sequence[Head]
    way: Way
    look: Numbers  # [T]
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)  # where this person stands: RGB factors


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Surroundings larger than the frame by `margin` on every side, and people from far to near."""

    surroundings: Pixels  # [H + 2 margin, W + 2 margin, 3]
    margin: int
    actors: Sequence[Actor]
    camera: Camera


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One frame of a scene, and who is where in it: N people."""

    pixels: Pixels  # [H, W, 3]
    boxes: Boxes
    people: Numbers
    ignored: Flags


def prepared(head: Head, light: tuple[float, float, float], largest_unit: float) -> Pixels:
    """Return a head with its body for `heads.lay`: lit, and no larger than it will be shown."""
    cv2 = load_opencv()
    colours = with_body(head)
    side = head.colours.shape[1]
    scale = min(1.0, 1.3 * largest_unit * 2 * CANVAS / side)
    if scale < 1:
        size = (max(8, round(scale * side)), max(8, round(scale * colours.shape[0])))
        colours = cv2.resize(colours, size, interpolation=cv2.INTER_AREA)
    cover = colours[:, :, 3:].astype(np.float32) / 255
    lit = np.minimum(colours[:, :, :3] * np.array(light, np.float32), 255) * cover
    return np.concatenate((lit.astype(np.uint8), colours[:, :, 3:]), axis=2)


def sprites_of(actor: Actor, camera: Camera) -> list[Pixels]:
    """Return what is laid for each look of a person who comes no nearer than during this scene."""
    largest = float((actor.way.unit * camera.zoom).max())
    return [prepared(head, actor.light, largest) for head in actor.looks]


def view(
    scene: Scene, sprites: Sequence[Sequence[Pixels]], frame: int, height: int, width: int
) -> View:
    """Return one frame; `sprites` are those of each actor."""
    cv2 = load_opencv()
    warp = scene.camera.warp(frame, (width / 2, height / 2))
    ground = warp.copy()
    ground[:, 2] -= warp[:, :2] @ np.full(2, scene.margin)
    ground[:, 2] += warp[:, :2] @ np.full(2, 0.5) - 0.5  # pixel centres
    pixels: Pixels = cv2.warpAffine(
        scene.surroundings, ground, (width, height), borderMode=cv2.BORDER_REFLECT_101
    )
    owner = np.full((height, width), -1, np.int16)
    boxes = []
    for number, actor in enumerate(scene.actors):
        place = warp[:, :2] @ actor.way.place[frame] + warp[:, 2]
        unit = float(actor.way.unit[frame] * scene.camera.zoom[frame])
        roll = float(actor.way.roll[frame] + scene.camera.roll[frame])
        look = int(actor.look[frame])
        painted = lay(
            pixels,
            sprites[number][look],
            x=float(place[0]),
            y=float(place[1]),
            unit=unit,
            roll=roll,
        )
        if painted is not None:
            rows, columns, cover = painted
            owner[rows, columns][cover > 127] = number
        left, top, right, bottom = turned(actor.looks[look], roll)
        corner = place + unit * np.array((left, top))
        boxes.append((*corner, unit * (right - left), unit * (bottom - top)))
    return _seen(pixels, np.reshape(boxes, (-1, 4)), owner, scene.actors)


def _seen(pixels: Pixels, boxes: Boxes, owner: NDArray[np.int16], actors: Sequence[Actor]) -> View:
    """Return the frame with those boxes of which something is seen."""
    height, width, _ = pixels.shape
    inside, left = within(boxes, height, width)
    shown = np.zeros(len(boxes))
    for number, (x, y, wide, high) in enumerate(inside):
        part = owner[math.floor(y) : math.ceil(y + high), math.floor(x) : math.ceil(x + wide)]
        shown[number] = left[number] * (part == number).mean() if part.size else 0.0
    kept = shown > _GONE
    small = np.maximum(inside[:, 2], inside[:, 3]) < LEAST_PIXELS
    return View(
        pixels=pixels,
        boxes=inside[kept],
        people=np.array([actor.person for actor in actors], np.int64)[kept],
        ignored=(small | (shown < LEAST_SEEN))[kept],
    )
