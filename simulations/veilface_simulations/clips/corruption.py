"""Frames gone wrong: out of focus or moved, too dark, salted, or dropped altogether.

Blur is measured against the faces of the clip: what hides a small one does not trouble a large one.
"""

from __future__ import annotations

import numpy as np

from veilface_client.images import Pixels
from veilface_client.perturbations import camera, light
from veilface_client.perturbations.shot import Shot, middle_face
from veilface_simulations.clips.clip import ClipConfig, Flags

KINDS = ("blurred", "darkened", "dropped", "salted")
_DEFOCUS = (9.0, 40.0)  # radius of a disc, in 112ths of a face
_MOTION = (45.0, 140.0)  # length of a line, in 112ths of a face
_DARK = (0.02, 0.12)  # factor
_DARK_NOISE = (0.01, 0.03)  # deviation of the noise that a dark picture has, as a share of 255
_SALT = (0.1, 0.5)  # share of the pixels


def choose_frames(config: ClipConfig, draw: np.random.Generator) -> Flags:
    """Return which frames are to be corrupted, [T]."""
    if config.corrupted is None:
        return draw.random(config.frames) < config.corrupted_share
    chosen = np.zeros(config.frames, bool)
    chosen[draw.permutation(config.frames)[: config.corrupted]] = True
    return chosen


def corrupt(frame: Pixels, face_pixels: float, draw: np.random.Generator) -> Pixels:
    """Return uint8 [H, W, 3] gone wrong in one of `KINDS`, each as likely; faces are so large."""
    kind = KINDS[int(draw.integers(len(KINDS)))]
    height, width, _ = frame.shape
    side = max(1, round(min(face_pixels, 0.5 * min(height, width))))
    shot = Shot(pixels=frame, face=middle_face(side, side), draw=draw)
    if kind == "blurred":
        if draw.random() < 0.5:
            return camera.defocus(shot, _between(_DEFOCUS, draw))
        return camera.move(shot, _between(_MOTION, draw))
    if kind == "darkened":
        dark = light.darken(shot, _between(_DARK, draw))
        noisy = Shot(pixels=dark, face=shot.face, draw=draw)
        return camera.add_noise(noisy, _between(_DARK_NOISE, draw))
    if kind == "salted":
        return camera.salt(shot, _between(_SALT, draw))
    return _dropped(frame, draw)


def _dropped(frame: Pixels, draw: np.random.Generator) -> Pixels:
    """Return what a decoder or a cable makes of a lost frame: black, one colour, or static."""
    lost = np.zeros_like(frame)
    kind = int(draw.integers(3))
    if kind == 1:
        lost[:] = draw.integers(0, 256, 3, dtype=np.uint8)
    elif kind == 2:
        lost = draw.integers(0, 256, frame.shape, dtype=np.uint8)
    return lost


def _between(ends: tuple[float, float], draw: np.random.Generator) -> float:
    low, high = ends
    return float(low * (high / low) ** draw.random())


def typical_side(sides: list[float], height: int, width: int) -> float:
    """Return the median of the faces' sides in a clip; a share of the frame where there is none."""
    return float(np.median(sides)) if sides else 0.15 * min(height, width)
