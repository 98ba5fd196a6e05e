"""A face brought to the place where recognizers expect it: the 112 px template of ArcFace.

A similarity transform (turn, scale, shift: nothing that changes a face's proportions) takes the
landmarks as near to the template's as it can. All that Veilface trains on has this framing, or
nearly: CASIA-WebFace and MS1M are published in it, CelebA's and the drawn people's eyes are within
2 px of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veilface_client.detectors.detection import Points
from veilface_client.detectors.opencv import load_opencv
from veilface_client.images import Pixels
from veilface_common import preprocessing
from veilface_common.errors import DataError

PIXELS = preprocessing.SIDE
TEMPLATE: Points = np.array(preprocessing.LANDMARKS)

Transform = NDArray[np.float64]  # [2, 3]: (x, y, 1) of the photograph -> (x, y) of the template


def similarity(points: Points, onto: Points) -> Transform:
    """Return the similarity transform that takes points [N, 2] nearest to `onto` [N, 2], N >= 2.

    Least squares over turn, scale and shift, never a mirror image (Umeyama 1991, eqs. 40 to 43).

    Raises:
        DataError: the points lie in one place or are not numbers.
    """
    if not np.isfinite(points).all():
        raise DataError("expected landmarks of a face, got points that are nowhere")
    centre, target = points.mean(axis=0), onto.mean(axis=0)
    spread = points - centre
    variance = float((spread**2).sum(axis=1).mean())
    if not variance > 1e-6:
        raise DataError("expected landmarks of a face, got points without extent")
    covariance = (onto - target).T @ spread / len(points)  # [2, 2]
    left, strengths, right = np.linalg.svd(covariance)
    signs = np.array((1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))))
    scale = float(strengths @ signs) / variance
    if not scale > 1e-9:
        raise DataError("expected landmarks of a face, got points in no such order")
    rotation = scale * (left * signs) @ right  # [2, 2]
    return np.column_stack((rotation, target - rotation @ centre))


def scale_of(transform: Transform) -> float:
    """Return how many template pixels a pixel of the photograph becomes."""
    return float(np.hypot(transform[0, 0], transform[1, 0]))


def cut(photograph: Pixels, transform: Transform) -> Pixels:
    """Return the aligned face: [H, W, 3] -> [112, 112, 3].

    What lies outside the photograph repeats its edge.

    Raises:
        DataError: no part of the face is in the photograph.
    """
    cv2 = load_opencv()
    height, width, _ = photograph.shape
    corners = np.array(((0, 0), (PIXELS, 0), (0, PIXELS), (PIXELS, PIXELS)), np.float64)
    turn = transform[:, :2]
    seen = np.linalg.solve(turn, (corners - transform[:, 2]).T).T  # [4, 2], in the photograph
    x0, y0 = np.clip(np.floor(seen.min(axis=0)).astype(int) - 2, 0, (width, height))
    x1, y1 = np.clip(np.ceil(seen.max(axis=0)).astype(int) + 3, 0, (width, height))
    if x1 <= x0 or y1 <= y0:
        raise DataError("expected a face in the photograph, got landmarks outside of it")
    part = photograph[y0:y1, x0:x1]
    # Averaged down first: bilinear sampling of a large face would pick single pixels out of it.
    shrink = min(1.0, scale_of(transform))
    size = (max(1, round(part.shape[1] * shrink)), max(1, round(part.shape[0] * shrink)))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    ratio = np.array((part.shape[1] / size[0], part.shape[0] / size[1]))
    # In pixel centres, as OpenCV counts: its (0, 0) is our (0.5, 0.5).
    onto_part = turn * ratio  # columns: a pixel of `small` is `ratio` pixels of the photograph
    shift = transform[:, 2] + turn @ (x0, y0) + onto_part @ (0.5, 0.5) - 0.5
    warp = np.column_stack((onto_part, shift))
    aligned: Pixels = cv2.warpAffine(
        small, warp, (PIXELS, PIXELS), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return aligned


def network_input(aligned: Pixels, pixels: int) -> NDArray[np.float32]:
    """Return what a network looks at: [112, 112, 3] -> [3, S, S] in [0, 1]."""
    resized = Image.fromarray(aligned).resize((pixels, pixels), Image.Resampling.BICUBIC)
    return np.asarray(np.asarray(resized).transpose(2, 0, 1) / 255, np.float32, order="C")
