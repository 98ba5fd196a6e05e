"""Every face of a photograph: a face that is not found is not hidden.

A detector that looks once misses faces that are small, lean to a side or look away. So it looks
again at the picture mirrored, turned to both sides, and in parts at a larger scale; what is found
more than once counts once. Mistakes among that cost a patch of background: docs/hiding.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from veilface_client.detectors.detection import Detection, Detector
from veilface_client.detectors.opencv import LONGEST_SIDE, load_opencv
from veilface_client.hiding.regions import common_share
from veilface_client.images import Pixels

TURNS = (-30.0, 30.0)  # degrees
_SAME = 0.4  # what two boxes of one face have in common at least, over what both cover
_PART = 320  # pixels of the photograph, seen twice as large as the detector would
_PART_STEP = 240  # so that a face at the edge of a part is whole in the next
_MOST_PARTS = 80  # 2400 x 1800 pixels; of a larger photograph, a smaller copy is taken in parts


def find_all(picture: Pixels, detectors: Sequence[Detector]) -> tuple[Detection, ...]:
    """Return the faces of uint8 [H, W, 3] that any detector finds, the largest first."""
    found: list[Detection] = []
    for detector in detectors:
        for face in _looked_at(picture, detector):
            if all(common_share(face.box, other.box) < _SAME for other in found):
                found.append(face)
    return tuple(sorted(found, key=lambda face: -face.area))


def _looked_at(picture: Pixels, detector: Detector) -> Iterator[Detection]:
    # The picture as it is comes first: its landmarks are those that enrolment would see.
    yield from detector.detect(picture)
    yield from _mirrored(picture, detector)
    for degrees in TURNS:
        yield from _turned(picture, detector, degrees)
    yield from _in_parts(picture, detector)


def _mirrored(picture: Pixels, detector: Detector) -> Iterator[Detection]:
    width = picture.shape[1]
    for face in detector.detect(np.ascontiguousarray(picture[:, ::-1])):
        left, top, across, down = face.box
        marks = face.landmarks * (-1, 1) + (width, 0)
        # Left and right change places: eyes and corners of the mouth come in pairs.
        order = [1, 0, *([2, 4, 3] if len(marks) == 5 else [])]
        yield replace(face, box=(width - left - across, top, across, down), landmarks=marks[order])


def _turned(picture: Pixels, detector: Detector, degrees: float) -> Iterator[Detection]:
    cv2 = load_opencv()
    height, width, _ = picture.shape
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    cosine, sine = np.abs(turn[0, :2])
    size = np.ceil((width * cosine + height * sine, width * sine + height * cosine)).astype(int)
    turn[:, 2] += size / 2 - (width / 2, height / 2)
    seen = cv2.warpAffine(
        picture, turn, size.tolist(), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    back = cv2.invertAffineTransform(turn)
    for face in detector.detect(seen):
        left, top, across, down = face.box
        # The turned box becomes an upright one of the same size around the same middle.
        x, y = back @ (left + across / 2, top + down / 2, 1)
        across, down = across / scale, down / scale
        marks = np.column_stack((face.landmarks, np.ones(len(face.landmarks)))) @ back.T
        box = (float(x) - across / 2, float(y) - down / 2, across, down)
        yield replace(face, box=box, landmarks=marks)


def _in_parts(picture: Pixels, detector: Detector) -> Iterator[Detection]:
    """Look at squares of the picture, each as large as the detector sees a whole photograph."""
    cv2 = load_opencv()
    height, width, _ = picture.shape
    if max(height, width) <= _PART:
        return
    scale = min(1.0, (_MOST_PARTS * _PART_STEP**2 / (height * width)) ** 0.5)
    if scale < 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    for top in _starts(picture.shape[0]):
        for left in _starts(picture.shape[1]):
            part = picture[top : top + _PART, left : left + _PART]
            larger = cv2.resize(part, None, fx=2.0, fy=2.0, interpolation=cv2.INTER_LINEAR)
            for face in detector.detect(larger):
                x, y, across, down = face.box
                box = ((x / 2 + left) / scale, (y / 2 + top) / scale)
                marks = (face.landmarks / 2 + (left, top)) / scale
                yield replace(
                    face, box=(*box, across / 2 / scale, down / 2 / scale), landmarks=marks
                )


def _starts(length: int) -> list[int]:
    """Return where parts begin, so that all is covered and the last ends at the edge."""
    last = max(length - _PART, 0)
    return sorted({*range(0, last, _PART_STEP), last})
