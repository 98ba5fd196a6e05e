"""Is a photograph of a face good enough? A refusal says what to do about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from veilface_client.alignment import PIXELS, Transform, scale_of
from veilface_client.detectors.detection import Detection
from veilface_client.detectors.opencv import load_opencv
from veilface_client.images import Pixels
from veilface_common.errors import DataError

Reason = Literal["no-face", "several-faces", "small", "blurred", "dark", "bright", "turned"]

HINTS: dict[Reason, str] = {
    "no-face": "look straight into the camera, nothing before the face, the light in front",
    "several-faces": "one person alone in the picture, or cut the others off",
    "small": "come nearer, or send the photograph in its original size",
    "blurred": "hold the camera still and wait until it has focused",
    "dark": "more light on the face, none behind it",
    "bright": "less light on the face, no flash",
    "turned": "look straight into the camera, the head upright",
}


class FaceRefused(DataError):  # noqa: N818 -- named for what happened
    """A photograph that decodes but does not show one face well; `reason` is for programs."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message, hint=HINTS[reason])
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How good a photograph of a face is; judged on the aligned face."""

    side_pixels: float  # of the aligned square in the photograph; the eyes are 0.315 of it apart
    sharpness: float  # variance of the Laplacian of the grey face
    brightness: float  # mean grey, 0 to 255
    clipped: float  # share of the pixels that are black or white
    roll_degrees: float  # how far the line of the eyes is off level
    asymmetry: float  # how far the nose is off the middle, in eye distances; 0 where it is not seen


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a photograph must have, set where misses begin to rise: figures in docs/faces.md."""

    least_side_pixels: float = 40.0
    least_sharpness: float = 15.0
    # Far below every skin in good light: it is the light that is judged, not the person.
    darkest: float = 40.0
    brightest: float = 200.0
    most_clipped: float = 0.25
    most_roll_degrees: float = 35.0
    most_asymmetry: float = 0.35

    def verify(self, quality: Quality) -> None:
        """Do nothing if the face is good enough.

        Raises:
            FaceRefused: it is not; the first of size, pose, light and sharpness that is wrong.
        """
        side = quality.side_pixels
        if not side >= self.least_side_pixels:
            expected = f"a face of at least {self.least_side_pixels:.0f} pixels"
            raise FaceRefused("small", f"expected {expected}, got {side:.0f}")
        if not quality.roll_degrees <= self.most_roll_degrees:
            expected = f"a head within {self.most_roll_degrees:.0f} degrees of upright"
            raise FaceRefused("turned", f"expected {expected}, got {quality.roll_degrees:.0f}")
        if not quality.asymmetry <= self.most_asymmetry:
            raise FaceRefused("turned", "expected a face from the front, got one from the side")
        if not quality.brightness >= self.darkest:
            raise FaceRefused("dark", "expected a face in the light, got one in the dark")
        if quality.brightness > self.brightest or quality.clipped > self.most_clipped:
            raise FaceRefused("bright", "expected light and shade on the face, got glare")
        if not quality.sharpness >= self.least_sharpness:
            raise FaceRefused("blurred", "expected a sharp face, got a blurred one")


GATE = Gate()


def measure(aligned: Pixels, transform: Transform, face: Detection) -> Quality:
    """Return the quality of an aligned face [112, 112, 3] and of its landmarks."""
    cv2 = load_opencv()
    grey = cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY)
    # Without corners, where the background is.
    inner = grey[PIXELS // 8 : -PIXELS // 8, PIXELS // 8 : -PIXELS // 8]
    return Quality(
        side_pixels=PIXELS / scale_of(transform),
        sharpness=float(cv2.Laplacian(inner, cv2.CV_64F).var()),
        brightness=float(inner.mean()),
        clipped=float(np.mean((inner <= 5) | (inner >= 250))),
        roll_degrees=_roll(face),
        asymmetry=_asymmetry(face),
    )


def _roll(face: Detection) -> float:
    across, down = face.landmarks[1] - face.landmarks[0]
    return abs(math.degrees(math.atan2(down, across)))


def _asymmetry(face: Detection) -> float:
    if len(face.landmarks) < 3:
        return 0.0
    left, right, nose = face.landmarks[:3]
    across = right - left
    return abs(float((nose - (left + right) / 2) @ across / (across @ across)))
