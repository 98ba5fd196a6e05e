"""Faces by Veilface's own recurrent network, which remembers where they were in a video.

The weights that come along were trained on drawn faces alone; `rnn:FILE.onnx` is a file that
`veilface-sim detector train` wrote. ONNX Runtime on one thread, nothing of PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veilface_client.detectors.detection import Detection, Points
from veilface_client.detectors.notes import (
    BOXES,
    FRAME,
    METADATA,
    NEXT,
    SCORES,
    STATE,
    DetectorNotes,
)
from veilface_client.detectors.opencv import LONGEST_SIDE, load_opencv
from veilface_client.edge.embedder import open_session, read_model
from veilface_client.images import Pixels
from veilface_common.errors import ArtifactError, ConfigError

SHIPPED = "rnn-drawn.onnx"
SCORE = 0.7  # from which a cell is a face's centre; docs/detector.md
# Pixels of the longer side: small faces are found in the first look, large ones in the second.
STILL_SIDES = (LONGEST_SIDE, 224)
VIDEO_SIDE = 320
ENLARGED = 2.0  # a smaller picture is brought to them by so much at most
MOST_FACES = 500
OVERLAP = 0.5  # boxes that share more than this of their union are one face
WITHIN = 0.7  # so is a box of which more than this lies in a surer one: a part of a large face
_HINT = "a file that `veilface-sim detector train` wrote, or --detector rnn"

# Where eyes are in the network's box, as shares of its width and height: docs/detector.md.
LEFT_EYE = np.array((0.254, 0.425))
RIGHT_EYE = np.array((0.746, 0.425))

State = NDArray[np.float32]
Found = NDArray[np.float64]  # [n, 5]: score, left, top, width, height


class Recurrent:
    """Finds faces in stills, each for itself, and in videos with what was seen before."""

    def __init__(self, model: Path | None = None, *, score: float = SCORE) -> None:
        """Load the network in a file, or the one that comes along.

        Raises:
            ConfigError: there is no such file, it is no detector of Veilface, or ONNX Runtime is
                not installed.
        """
        if not 0 < score < 1:
            raise ConfigError(f"expected a score in (0, 1) after rnn@, got {score!r}")
        self._score = score
        self._session, self.notes = _opened(model)
        # Other weights put their boxes elsewhere: a threshold of one need not hold for another.
        self.name = "rnn" if model is None else f"rnn-{self.notes.weights[:8]}"

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        """Return every face in uint8 [H, W, 3], RGB, the largest first."""
        looks = [self._look(image, side, None) for side in STILL_SIDES]
        return _detections(np.concatenate([found for found, _ in looks]))

    def stream(self) -> _Stream:
        """Return a new video, of which nothing was seen yet."""
        return _Stream(self._look)

    def _look(self, image: Pixels, side: int, state: State | None) -> tuple[Found, State]:
        """Return what the network finds in an image brought to this longer side, and the state."""
        frame, scale = _framed(image, self.notes, side)
        scores, boxes, state = _run(self._session, self.notes, frame, state)
        found = _peaks(scores, boxes, self._score)
        found[:, 1:] /= scale
        # Cells beyond the picture, in the black around it, are none.
        middles = found[:, 1:3] + found[:, 3:] / 2
        return found[(middles < image.shape[1::-1]).all(axis=1)], state


class _Stream:
    """The frames of one video in order; a frame of another size starts anew."""

    def __init__(self, look: Callable[[Pixels, int, State | None], tuple[Found, State]]) -> None:
        self._look = look
        self._size: tuple[int, ...] = ()  # of the frames so far
        self._state: State | None = None

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        """Return every face in the next frame, uint8 [H, W, 3], RGB, the largest first."""
        if self._size != image.shape:
            self._size, self._state = image.shape, None
        found, self._state = self._look(image, VIDEO_SIDE, self._state)
        return _detections(found)


def _opened(model: Path | None) -> tuple[Any, DetectorNotes]:
    where = f"{SHIPPED} of this installation" if model is None else str(model)
    try:
        if model is None:
            content = resources.files(__package__).joinpath(SHIPPED).read_bytes()
        else:
            content = read_model(model)
        session = open_session(content)
        notes = METADATA.read(session.get_modelmeta().custom_metadata_map)
        _verify(session, notes)
    except OSError as error:
        raise ConfigError(f"expected the detector {where}: {error.strerror}") from error
    except ArtifactError as error:
        raise ConfigError(f"expected a detector in {where}: {error}", hint=_HINT) from error
    return session, notes


def _verify(session: Any, notes: DetectorNotes) -> None:
    """Look at one black frame: what is no detector fails here, not at the first photograph.

    Raises:
        ArtifactError: the network does not take or give what the notes promise.
    """
    if not (notes.multiple > 0 or notes.pixels > 0) or notes.stride < 1:
        raise ArtifactError("expected the size of its frames, got none")
    if re.fullmatch("[0-9a-f]{64}", notes.weights) is None:
        raise ArtifactError("expected the SHA-256 of its weights, got none")
    height = width = notes.pixels
    if notes.multiple:
        height, width = 2 * notes.multiple, 3 * notes.multiple
    if max(height, width) > LONGEST_SIDE:
        raise ArtifactError(f"expected frames of at most {LONGEST_SIDE} px, got larger ones")
    try:
        scores, boxes, state = _run(
            session, notes, np.zeros((1, 3, height, width), np.float32), None
        )
    except Exception as error:  # ONNX Runtime's own types do not share a parent
        raise ArtifactError("expected a network that can be run on a frame") from error
    expected = (height // notes.stride, width // notes.stride) if notes.multiple else (1, 1)
    if scores.shape != expected or boxes.shape != (4, *expected) or not np.isfinite(state).all():
        raise ArtifactError(f"expected scores of shape {expected}, got {scores.shape}")


def _framed(image: Pixels, notes: DetectorNotes, longest_side: int) -> tuple[State, float]:
    """Return ([1, 3, H, W] in [0, 1], its scale): at the upper left, black around."""
    cv2 = load_opencv()
    height, width, _ = image.shape
    scale = min(ENLARGED, longest_side / max(height, width))
    if not notes.multiple:
        scale = notes.pixels / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = image
    if size != (width, height):
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(image, size, interpolation=way)
    multiple = notes.multiple or notes.pixels
    frame = np.zeros((1, 3, *(-(-side // multiple) * multiple for side in size[::-1])), np.float32)
    frame[0, :, : size[1], : size[0]] = small.transpose(2, 0, 1) / np.float32(255)
    return frame, scale


def _run(
    session: Any, notes: DetectorNotes, frame: State, state: State | None
) -> tuple[State, State, State]:
    if state is None:
        shape = session.get_inputs()[1].shape  # [1, C, ...]
        cells = () if len(shape) == 2 else tuple(side // notes.stride for side in frame.shape[2:])
        state = np.zeros((1, shape[1], *cells), np.float32)
    scores, boxes, state = session.run([SCORES, BOXES, NEXT], {FRAME: frame, STATE: state})
    assert state is not None
    return scores, boxes, state


def _peaks(scores: State, boxes: State, least: float) -> Found:
    """Return each cell of that score or more that is highest among its neighbours: [n, 5]."""
    cv2 = load_opencv()
    highest = cv2.dilate(scores, np.ones((3, 3), np.uint8))
    rows, columns = np.nonzero((scores >= least) & (scores == highest))
    best = np.argsort(-scores[rows, columns], kind="stable")[:MOST_FACES]
    rows, columns = rows[best], columns[best]
    found = np.column_stack((scores[rows, columns], boxes[:, rows, columns].T)).astype(np.float64)
    return found[np.isfinite(found).all(axis=1)]


def _detections(found: Found) -> tuple[Detection, ...]:
    """Return the faces, the largest first, that share little with a surer one: [n, 5]."""
    sure = found[np.argsort(-found[:, 0], kind="stable")][:MOST_FACES]
    faces = [_detection(score, box) for score, box in zip(sure[:, 0], sure[:, 1:], strict=True)]
    kept = [faces[number] for number in _apart(sure[:, 1:])]
    return tuple(sorted(kept, key=lambda face: face.area, reverse=True))


def _apart(boxes: Points) -> list[int]:
    """Return the boxes, best first, that share little with every better one that was kept."""
    kept: list[int] = []
    for i, (left, top, width, height) in enumerate(boxes):
        others = boxes[kept]
        wide = np.minimum(left + width, others[:, 0] + others[:, 2]) - np.maximum(
            left, others[:, 0]
        )
        high = np.minimum(top + height, others[:, 1] + others[:, 3]) - np.maximum(top, others[:, 1])
        shared = wide.clip(0) * high.clip(0)
        union = width * height + others[:, 2] * others[:, 3] - shared
        if (shared <= np.minimum(OVERLAP * union, WITHIN * width * height)).all():
            kept.append(i)
    return kept


def _detection(score: float, box: Points) -> Detection:
    left, top, width, height = box.tolist()
    eyes = box[:2] + box[2:] * np.stack((LEFT_EYE, RIGHT_EYE))
    return Detection(box=(left, top, width, height), score=score, landmarks=eyes, basis="box")
