"""Faces and eyes by the Haar cascades that OpenCV 4 carries (Viola & Jones 2001).

The embedded default: nothing to download, one core, frontal faces. OpenCV 5 no longer carries them.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from veilface_client.detectors.detection import Detection, Points
from veilface_client.detectors.opencv import load_opencv, shrunk
from veilface_client.images import Pixels
from veilface_common.errors import ConfigError

FACES = "haarcascade_frontalface_alt2.xml"
EYES = ("haarcascade_eye_tree_eyeglasses.xml", "haarcascade_eye.xml")  # the exacter one first


# Measured on training photographs of WIDER FACE and on people of CelebA: docs/faces.md.
STEP = 1.1  # between the sizes that are looked for
NEIGHBOURS = 3  # overlapping windows that make a face
SMALLEST = 24  # pixels; the cascade was trained at 20
EYE_STEP = 1.05
EYE_NEIGHBOURS = 2

# Where eyes are in the cascade's box, as shares of its side.
LEFT_EYE = np.array((0.308, 0.390))
RIGHT_EYE = np.array((0.692, 0.386))
BORDER = 0.1  # of the shorter side, put around: a face may fill a passport photograph
EYE_REACH = 0.13  # an eye is at most so far from there
_FACE_PIXELS = 200  # side to which a face is brought before its eyes are looked for
_EYE_BAND = (0.12, 0.62)  # rows of the box, as shares of its height, where eyes are looked for


class Haar:
    """The default: frontal faces, aligned by their eyes or, where it sees none, by the box."""

    name = "haar"

    def __init__(self) -> None:
        self._faces = _load(FACES)
        self._eyes = tuple(map(_load, EYES))
        # A cascade keeps the image that it looks at; OpenCV releases Python's lock meanwhile.
        self._busy = threading.Lock()

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        """Return every face in uint8 [H, W, 3], RGB, the largest first, with its eyes."""
        cv2 = load_opencv()
        small, scale = shrunk(image)
        border = round(BORDER * min(small.shape[:2]))
        grey = cv2.copyMakeBorder(
            cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), *(border,) * 4, cv2.BORDER_REPLICATE
        )
        with self._busy:
            boxes, _, scores = self._faces.detectMultiScale3(
                grey,
                scaleFactor=STEP,
                minNeighbors=NEIGHBOURS,
                minSize=(SMALLEST, SMALLEST),
                outputRejectLevels=True,
            )
            boxes = np.asarray(boxes, np.float64).reshape(-1, 4)  # [n, 4]
            largest_first = np.argsort(-boxes[:, 2], kind="stable")
            # Of the largest alone: a picture made to hold a thousand faces must not take a minute.
            eyes = self._find_eyes(grey, boxes[largest_first[0]]) if len(boxes) else None
        boxes[:, :2] -= border
        eyes = None if eyes is None else eyes - border
        return tuple(
            _detection(boxes[face], float(np.ravel(scores)[face]), None if rank else eyes, scale)
            for rank, face in enumerate(largest_first)
        )

    def _find_eyes(self, grey: Pixels, box: Points) -> Points | None:
        """Return the centres of both eyes [2, 2], or None unless both are where eyes can be."""
        cv2 = load_opencv()
        x, y, side, _ = box.astype(int).tolist()
        first, last = (int(y + share * side) for share in _EYE_BAND)
        zoom = _FACE_PIXELS / side
        band = cv2.resize(
            grey[first:last, x : x + side], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR
        )
        band = cv2.equalizeHist(band)
        left = right = None
        for cascade in self._eyes:
            boxes = cascade.detectMultiScale(
                band,
                scaleFactor=EYE_STEP,
                minNeighbors=EYE_NEIGHBOURS,
                minSize=(_FACE_PIXELS // 8,) * 2,
                maxSize=(_FACE_PIXELS // 2,) * 2,
            )
            found = np.asarray(boxes, np.float64).reshape(-1, 4)
            centres = found[:, :2] + found[:, 2:] / 2  # [n, 2]
            places = (centres / zoom + (0, first - y)) / side  # shares of the box
            left = _nearest(places, LEFT_EYE) if left is None else left
            right = _nearest(places, RIGHT_EYE) if right is None else right
        if left is None or right is None:
            return None
        # The cascade's eyes and the box's are about equally far off, and off independently: their
        # mean is nearer than either.
        seen, expected = np.stack((left, right)), np.stack((LEFT_EYE, RIGHT_EYE))
        eyes: Points = np.array((x, y)) + side * (seen + expected) / 2
        return eyes


def _detection(box: Points, score: float, eyes: Points | None, scale: float) -> Detection:
    """Return a face in pixels of the photograph from one in pixels of its smaller copy."""
    left, top, width, height = (box / scale).tolist()
    expected = box[:2] + box[2] * np.stack((LEFT_EYE, RIGHT_EYE))
    return Detection(
        box=(left, top, width, height),
        score=score,
        landmarks=(expected if eyes is None else eyes) / scale,
        basis="box" if eyes is None else "eyes",
    )


def _nearest(places: Points, expected: Points) -> Points | None:
    """Return the place nearest to where an eye is expected; None if none is near enough."""
    distances = np.linalg.norm(places - expected, axis=1)
    if not (distances <= EYE_REACH).any():
        return None
    nearest: Points = places[distances.argmin()]
    return nearest


def _load(file: str) -> Any:
    """Return a cascade of OpenCV, which ships no types."""
    cv2 = load_opencv()
    path = Path(cv2.data.haarcascades) / file
    cascade = cv2.CascadeClassifier(str(path)) if path.is_file() else None
    if cascade is None or cascade.empty():
        raise ConfigError(
            f"expected the cascade {file} in OpenCV {cv2.__version__}, got none",
            hint="pip install 'opencv-python-headless>=4.11,<5'; version 5 has no cascades",
        )
    return cascade
