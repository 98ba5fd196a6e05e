"""What people wear or hold before the face, drawn in the place where the template has it.

A shape is a signed distance in pixels of the template, positive inside. Each level covers all that
the level below it covers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from veilface_client.alignment import PIXELS
from veilface_client.images import Pixels
from veilface_client.perturbations.shot import Map, Shot, rounded
from veilface_common.preprocessing import LANDMARKS

_MIDDLE = PIXELS / 2
_MASKS = ((150, 195, 215), (236, 236, 232), (38, 38, 42), (96, 122, 96))
_FRAMES = ((20, 20, 22), (96, 58, 34), (128, 128, 134))
_LENS = (18, 18, 22)
_FINGERS = ((-18.0, -8.0), (-6.0, 0.0), (6.0, -2.0), (18.0, -12.0))  # (aside, tip) of each
_FINGER_RADIUS, _FINGER_LENGTH, _PALM = 6.0, 44.0, 25.0
_PALE, _DARK = np.array((236.0, 196.0, 170.0)), np.array((84.0, 54.0, 40.0))


def wear_mask(shot: Shot, top: float) -> Pixels:
    """Cover nose, mouth and chin with cloth from the row `top` of the template down."""
    u, v = shot.places()
    colour = np.array(_MASKS[shot.draw.integers(len(_MASKS))], np.float32)
    aside = (u - _MIDDLE) / 44
    below = v - top - 9 * aside**2  # the upper edge falls towards the ears
    face = 44 * (1 - np.hypot(aside, (v - 70) / 52))
    pleats = 1 - 0.1 * np.sin(v * 0.55) ** 8 - 0.18 * aside**2
    return _painted(shot, np.minimum(below, face), colour * pleats[:, :, None])


def wear_glasses(shot: Shot, opacity: float) -> Pixels:
    """Put glasses on, with lenses that let less and less through; the frame is always there."""
    u, v = shot.places()
    frame = np.array(_FRAMES[shot.draw.integers(len(_FRAMES))], np.float32)
    (left, row), (right, _) = LANDMARKS[:2]
    down = v - row - 1
    lens = np.full(u.shape, -np.inf, np.float32)
    for centre in (left, right):
        round_off = (np.abs(u - centre) / 14.5) ** 3 + (np.abs(down) / 11) ** 3
        lens = np.maximum(lens, 11 * (1 - np.cbrt(round_off)))
    rim = 1.4 - np.abs(lens)
    bars = np.where((u > left + 14) & (u < right - 14), 1.3 - np.abs(down + 4), -np.inf)
    temples = np.where((u < left - 14) | (u > right + 14), 1.3 - np.abs(down + 5), -np.inf)
    # The ears are about where the square of the template ends; nothing is drawn behind the head.
    temples = np.where((u < 4) | (u > PIXELS - 4), -np.inf, temples)
    tinted = _blended(shot.pixels, opacity * _cover(shot, lens), np.array(_LENS, np.float32))
    frames = np.maximum(rim, np.maximum(bars, temples))
    return rounded(_blended(tinted, _cover(shot, frames), frame))


def hold_hand(shot: Shot, reach: float) -> Pixels:
    """Hold a hand before the face, from a side that is drawn, over a share of its width."""
    u, v = shot.places()
    if shot.draw.random() < 0.5:
        u = PIXELS - u
    height = shot.draw.uniform(56, 84)
    skin = _DARK + (_PALE - _DARK) * shot.draw.random()
    inwards = reach * PIXELS - u  # how far behind the longest finger's tip
    hand = np.full(u.shape, -np.inf, np.float32)
    lines = np.zeros(u.shape, np.float32)
    for aside, tip in _FINGERS:
        along = np.maximum(-(inwards + tip - _FINGER_RADIUS), 0)
        finger = _FINGER_RADIUS - np.hypot(along, v - height - aside)
        on_finger = inwards < _FINGER_LENGTH
        lines = np.maximum(lines, np.where(on_finger, np.exp(-((finger / 1.2) ** 2)), 0))
        hand = np.maximum(hand, finger)
    palm = np.minimum(_PALM - np.abs(v - height), inwards - _FINGER_LENGTH)
    hand = np.maximum(hand, palm)
    return _painted(shot, hand, skin * (1 - 0.35 * lines)[:, :, None])


def _painted(shot: Shot, shape: Map, colour: NDArray[np.floating[Any]]) -> Pixels:
    return rounded(_blended(shot.pixels, _cover(shot, shape), colour))


def _cover(shot: Shot, shape: Map) -> Map:
    """Return how much of each pixel a shape covers, [H, W]: its edge is one pixel wide."""
    return np.asarray(np.clip(0.5 + shape * shot.scale, 0, 1), np.float32)


def _blended(
    below: NDArray[np.floating[Any]] | Pixels, cover: Map, colour: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    return below + cover[:, :, None] * (colour - below)
