"""Drawn heads cut out of their surroundings, to be laid over anything.

A sitter is drawn over black and over white; where the two pictures agree, the sitter is. The camera
is a neutral one: what a camera does is done to the whole frame later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from veilface_client.detectors.opencv import load_opencv
from veilface_client.images import Pixels
from veilface_simulations import drawn
from veilface_simulations.sitter import Conditions, Identity
from veilface_simulations.surface import CANVAS

PIXELS = 160  # side of the canvas of a head; a face in it is about 105 high
BODY = 2.2  # sides of the canvas that the clothes go on below it
_TURN = 1.7  # to 49 degrees: beyond that, heads no longer look drawn from life
_BLACK, _WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_CHIN = 0.97  # as `portrait` has it
_FOREHEAD = 0.48  # how far the forehead stands before the axis that the head nods about


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A person from head to shoulders, and where the face is."""

    colours: Pixels  # [P, P, 4]: RGB, and how much of each pixel the person covers
    box: tuple[float, float, float, float]  # left, top, right, bottom in head units


def draw_head(identity: Identity, conditions: Conditions, pixels: int = PIXELS) -> Head:
    """Return the sitter upright in the middle of a canvas, without surroundings or camera."""
    plain = replace(
        conditions,
        roll=0.0,
        shift_x=0.0,
        shift_y=0.0,
        zoom=1.0,
        clutter=0.0,
        background=_BLACK,
        backdrop=_BLACK,
        occlusion="none",
        exposure=0.0,
        contrast=1.0,
        saturation=1.0,
        blur=0.0,
        noise=0.0,
    )
    bright = replace(plain, background=_WHITE, backdrop=_WHITE)
    dark = _linear(identity, plain, pixels)
    cover = np.clip(1 - (_linear(identity, bright, pixels) - dark).min(axis=2), 0, 1)
    # What lies before the face would hide the surroundings too: it ends where the person does.
    worn = conditions.occlusion in ("sunglasses", "scarf", "cap")
    if worn:
        dark = _linear(identity, replace(plain, occlusion=conditions.occlusion), pixels)
    own = np.sqrt(np.clip(dark / np.maximum(cover, 0.02)[:, :, None], 0, 1))
    colours = np.concatenate((own, cover[:, :, None]), axis=2)
    return Head(colours=np.rint(255 * colours).astype(np.uint8), box=face_box(identity, conditions))


def face_box(identity: Identity, conditions: Conditions) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of the face of an upright head in head units.

    From the middle of the hair line to the chin, and from cheek to cheek without the ears: what
    WIDER FACE's boxes hold.
    """
    stretch = math.hypot(math.cos(conditions.yaw), 0.9 * math.sin(conditions.yaw))
    half = identity.face_width * stretch
    top = identity.hairline + _FOREHEAD * math.sin(conditions.pitch)
    chin = _CHIN + 0.6 * identity.chin_length + 0.06 * max(conditions.mouth_open, 0.0)
    return -half, top, half, chin


def with_body(head: Head) -> Pixels:
    """Return the colours [P + B, P, 4] with the clothes going on below the canvas."""
    below = round(BODY * head.colours.shape[0])
    return np.pad(head.colours, ((0, below), (0, 0), (0, 0)), mode="edge")


def _linear(identity: Identity, conditions: Conditions, pixels: int) -> np.ndarray:
    """Return the light [P, P, 3], which the camera has taken the root of."""
    picture = drawn.draw(identity, conditions, pixels).transpose(1, 2, 0).astype(np.float32)
    return (picture / 255) ** 2


@lru_cache(maxsize=1024)  # 100 MB; drawing one takes as long as a whole frame
def banked(seed: int, person: int, photo: int) -> Head:
    """Return a head of the person numbered `person` in the world of `seed`.

    It is turned further than for a portrait.
    """
    day = drawn.conditions(seed, person, photo)
    return draw_head(drawn.identity(seed, person), replace(day, yaw=_TURN * day.yaw))


def turned(head: Head, roll: float) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of the face in head units, the head rolled by radians.

    The face is taken for an ellipse: the corners of its upright box are not part of it.
    """
    left, top, right, bottom = head.box
    x, y, wide, high = (
        (left + right) / 2,
        (top + bottom) / 2,
        (right - left) / 2,
        (bottom - top) / 2,
    )
    cosine, sine = math.cos(roll), math.sin(roll)
    across = math.hypot(wide * cosine, high * sine)
    down = math.hypot(wide * sine, high * cosine)
    middle_x, middle_y = x * cosine - y * sine, x * sine + y * cosine
    return middle_x - across, middle_y - down, middle_x + across, middle_y + down


def lay(
    frame: Pixels, colours: Pixels, *, x: float, y: float, unit: float, roll: float
) -> tuple[slice, slice, Pixels] | None:
    """Lay a person over uint8 [H, W, 3] in place.

    Args:
        frame: is painted on.
        colours: of `with_body`, [P + B, P, 4], multiplied by their cover already.
        x: of the middle of the head, pixels of the frame.
        y: likewise.
        unit: pixels of the frame that a head unit takes.
        roll: radians, clockwise.

    Returns:
        the rows and columns that were painted on, and how much of each pixel, uint8 [h, w]; or
        None where the person lies outside.
    """
    cv2 = load_opencv()
    height, width, _ = frame.shape
    rows, columns, _ = colours.shape
    scale = unit * 2 * CANVAS / columns
    cosine, sine = scale * math.cos(roll), scale * math.sin(roll)
    turn = np.array(((cosine, -sine), (sine, cosine)))
    # Pixel centres are at whole numbers for OpenCV.
    shift = np.array((x, y)) - 0.5 - turn @ np.full(2, columns / 2 - 0.5)
    ends = np.array(((0, 0), (columns, 0), (0, rows), (columns, rows))) @ turn.T + shift
    left, top = np.maximum(np.floor(ends.min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(ends.max(axis=0)).astype(int) + 2, (width, height))
    if left >= right or top >= bottom:
        return None
    warp = np.column_stack((turn, shift - (left, top)))
    layer = cv2.warpAffine(colours, warp, (int(right - left), int(bottom - top)))
    cover = layer[:, :, 3]
    part = frame[top:bottom, left:right]
    behind = part.astype(np.uint16) * (255 - cover)[:, :, None].astype(np.uint16)
    part[:] = np.minimum((behind + 127) // 255 + layer[:, :, :3], 255).astype(np.uint8)
    return slice(top, bottom), slice(left, right), cover
