"""Photographs of drawn people, as a detector of faces wants them: from the front, in good light."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from veilface_client.detectors.detection import Detection, Points
from veilface_client.images import Pixels
from veilface_simulations import drawn

PERSON = 3  # whom the cascades find at every size


def portrait(person: int = PERSON, pixels: int = 240) -> Pixels:
    """Return a face from the front, uint8 [pixels, pixels, 3], RGB."""
    taken = replace(
        drawn.conditions(0, person, 0),
        yaw=0.0,
        pitch=0.0,
        roll=0.0,
        shift_x=0.0,
        shift_y=0.0,
        zoom=1.0,
        occlusion="none",
        exposure=0.0,
        blur=-1.0,
        noise=0.0,
        clutter=0.0,
    )
    return np.ascontiguousarray(
        drawn.draw(drawn.identity(0, person), taken, pixels).transpose(1, 2, 0)
    )


def eyes_of(person: int = PERSON, pixels: int = 240) -> Points:
    """Return where the eyes of `portrait` are drawn, [2, 2]: the tight face region is [-1, 1]."""
    who = drawn.identity(0, person)
    places = np.array([(-who.eye_spacing, who.eye_height), (who.eye_spacing, who.eye_height)])
    return (1 + places / 1.25) * pixels / 2


def beside(*faces: Pixels, height: int = 400) -> Pixels:
    """Return one grey photograph with these faces side by side."""
    width = sum(face.shape[1] + 40 for face in faces) + 40
    wall = np.full((height, width, 3), 128, np.uint8)
    x = 40
    for face in faces:
        wall[40 : 40 + len(face), x : x + face.shape[1]] = face
        x += face.shape[1] + 40
    return wall


def encoded(pixels: Pixels | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return a photograph as a file of this kind."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


class Seeing:
    """A detector that sees what it is told."""

    name = "told"

    def __init__(self, *found: Detection) -> None:
        self.found = found

    def detect(self, image: Pixels) -> tuple[Detection, ...]:  # noqa: ARG002 -- it was told
        """Return what it was told, whatever the image."""
        return self.found


def seen(landmarks: Points, side: float = 100.0) -> Detection:
    """Return a detection with these landmarks."""
    basis = "five" if len(landmarks) == 5 else "eyes"
    return Detection(
        box=(0.0, 0.0, side, side), score=1.0, landmarks=np.array(landmarks), basis=basis
    )
