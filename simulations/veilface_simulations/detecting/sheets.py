"""Contact sheets: the frames of a clip, a row for each detector, with what it found."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from veilface_client.detectors.opencv import load_opencv
from veilface_client.images import Pixels
from veilface_simulations.clips.clip import Boxes
from veilface_simulations.detecting.evaluating import SIZES, Sheet
from veilface_simulations.detecting.matching import judge

_ZOOM = 0.75
_GAP = 4
_HEADING = 18
_TRUE, _HIT, _FALSE = (255, 255, 255), (40, 220, 90), (255, 130, 0)
_PAPER, _INK = 246, (30, 36, 48)


def contact_sheet(rows: Sequence[tuple[str, float, Sheet]]) -> Pixels:
    """Return a picture, uint8 [H, W, 3], of rows (name, threshold, what was found).

    White: a face; green: found; orange: found where none is. Corrupted frames have a dark edge.
    """
    return np.concatenate([_row(name, threshold, sheet) for name, threshold, sheet in rows])


def to_jpeg(picture: Pixels) -> bytes:
    """Return the picture as a file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=82)
    return file.getvalue()


def _row(name: str, threshold: float, sheet: Sheet) -> Pixels:
    cv2 = load_opencv()
    frames = [_frame(sheet, number, threshold) for number in range(len(sheet.clip.frames))]
    row = np.concatenate(frames, axis=1)
    heading = np.full((_HEADING, row.shape[1], 3), _PAPER, np.uint8)
    cv2.putText(heading, name, (_GAP, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
    return np.concatenate((heading, row))


def _frame(sheet: Sheet, number: int, threshold: float) -> Pixels:
    cv2 = load_opencv()
    clip = sheet.clip
    pixels: Pixels = cv2.resize(clip.frames[number], None, fx=_ZOOM, fy=_ZOOM)
    truth, ignored = clip.boxes[number], clip.ignored[number]
    boxes, scores = sheet.found[number]
    boxes, scores = boxes[scores >= threshold], scores[scores >= threshold]
    _, outcome = judge(boxes, scores, truth, ignored, SIZES[0])
    counted = SIZES[0].of(truth) & ~ignored
    _outline(pixels, truth[counted], _TRUE)
    _outline(pixels, boxes[outcome >= 0], _HIT)
    _outline(pixels, boxes[outcome == -1], _FALSE)
    edge = 40 if clip.corrupted[number] else _PAPER
    return np.pad(
        pixels, ((_GAP, _GAP), (_GAP, _GAP), (0, 0)), mode="constant", constant_values=edge
    )


def _outline(pixels: Pixels, boxes: Boxes, colour: tuple[int, int, int]) -> None:
    cv2 = load_opencv()
    for left, top, width, height in np.rint(boxes * _ZOOM).astype(int).tolist():
        cv2.rectangle(pixels, (left, top), (left + width - 1, top + height - 1), colour, 1)
