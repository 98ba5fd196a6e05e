"""The camera and the file: held askew, noisy, out of focus, moved, compressed, far away.

Lengths are in pixels of the 112 px template, so that a level means the same in a picture of any
size; noise falls on single pixels of the picture. Beyond its border a picture repeats its edge.
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veilface_client.alignment import PIXELS
from veilface_client.detectors.opencv import load_opencv
from veilface_client.images import Pixels
from veilface_client.perturbations.shot import Map, Shot, rounded


def rotate(shot: Shot, degrees: float) -> Pixels:
    """Turn the picture about the middle of the face; whether to the left or right is drawn."""
    cv2 = load_opencv()
    x, y = shot.place_of(PIXELS / 2, PIXELS / 2)
    turn = degrees if shot.draw.random() < 0.5 else -degrees
    warp = cv2.getRotationMatrix2D(
        (x - 0.5, y - 0.5), turn, 1.0
    )  # OpenCV's (0, 0) is our (0.5, 0.5)
    height, width, _ = shot.pixels.shape
    turned: Pixels = cv2.warpAffine(
        shot.pixels, warp, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return turned


def salt(shot: Shot, share: float) -> Pixels:
    """Make a share of the pixels white and black, by turns; more of them include the fewer."""
    height, width, _ = shot.pixels.shape
    struck = shot.draw.permutation(height * width)[: round(share * height * width)]
    pixels = shot.pixels.reshape(-1, 3).copy()
    pixels[struck[::2]], pixels[struck[1::2]] = 255, 0
    return pixels.reshape(shot.pixels.shape)


def add_noise(shot: Shot, deviation: float) -> Pixels:
    """Add normal noise to each value by itself; its deviation is a share of 255."""
    noise = shot.draw.standard_normal(shot.pixels.shape, dtype=np.float32)
    return rounded(shot.pixels + 255 * deviation * noise)


def defocus(shot: Shot, radius: float) -> Pixels:
    """Spread each point over a disc."""
    return _filtered(shot.pixels, disc(radius * shot.scale))


def move(shot: Shot, length: float) -> Pixels:
    """Spread each point along a line whose direction is drawn."""
    return _filtered(shot.pixels, line(length * shot.scale, math.pi * shot.draw.random()))


def compress(shot: Shot, quality: float) -> Pixels:
    """Write as JPEG, at libjpeg's quality with colour at half the resolution, and read again."""
    file = io.BytesIO()
    Image.fromarray(shot.pixels).save(file, "JPEG", quality=int(quality), subsampling="4:2:0")
    return np.array(Image.open(file), dtype=np.uint8)


def shrink(shot: Shot, side: float) -> Pixels:
    """Average down until the aligned face is `side` pixels wide, and bring it to size again."""
    cv2 = load_opencv()
    height, width, _ = shot.pixels.shape
    ratio = min(1.0, side / (PIXELS * shot.scale))
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    small = cv2.resize(shot.pixels, size, interpolation=cv2.INTER_AREA)
    back: Pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return back


def disc(radius: float) -> Map:
    """Return weights [K, K], summing to 1, of a disc around the middle pixel."""
    reach = np.arange(-math.ceil(radius), math.ceil(radius) + 1)
    away = np.hypot(reach, reach[:, None])
    return _normed(np.clip(radius + 0.5 - away, 0, 1))


def line(length: float, angle: float) -> Map:
    """Return weights [K, K], summing to 1, of a line through the middle pixel."""
    half = max(0.0, (length - 1) / 2)  # a line of one pixel has no extent
    reach = np.arange(-math.ceil(half), math.ceil(half) + 1)
    x, y = reach[None, :], reach[:, None]
    along = np.clip(x * math.cos(angle) + y * math.sin(angle), -half, half)
    away = np.hypot(x - along * math.cos(angle), y - along * math.sin(angle))
    return _normed(np.clip(1 - away, 0, 1))


def _normed(weights: NDArray[np.float64]) -> Map:
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def _filtered(pixels: Pixels, kernel: Map) -> Pixels:
    cv2 = load_opencv()
    spread = cv2.filter2D(pixels.astype(np.float32), -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return rounded(spread.reshape(pixels.shape))
