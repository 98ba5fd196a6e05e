"""A close look at one face of a frame: aligned as enrolment aligns, judged, embedded.

Whatever finds the faces of a video, the organisation's own detector aligns them, in the part of the
frame around each: a threshold holds for one way of aligning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilface_client.detectors.detection import Detection, Detector
from veilface_client.faces import Aligned, align
from veilface_client.images import Pixels
from veilface_client.quality import GATE, FaceRefused
from veilface_client.track_template import NAMES, frame_qualities, frame_weights, goodness
from veilface_client.video.motion import common_areas, overlaps
from veilface_client.video.sightings import Look, Track
from veilface_common.errors import DataError
from veilface_common.models import TrackWeights

_AROUND = 0.5  # of the face's width and height, on each side of it: Haar's eyes need the brow
_COVERED = 0.1  # share of a face's box that another may cover before it counts as hidden
_BORDER = 0.05  # of its width and height, that a face is away from the frame's border
_SAME = 0.3  # what two boxes of one face share at least; detectors differ in what a face is


@dataclass(frozen=True, kw_only=True)
class Looker:
    """Looks at faces with an organisation's detector and model."""

    aligner: Detector  # the organisation's
    embed: Callable[[Aligned], NDArray[np.float32]]  # -> [D], unit length
    pixels: int  # what the model looks at
    keep_pixels: bool = False  # for a contact sheet

    def look(self, frame: Pixels, face: Detection) -> Look:
        """Return what a face of uint8 [H, W, 3] looks like, and a template if that is enough."""
        aligned = align_near(frame, face, self.aligner)
        if aligned is None:
            pixels = _as_found(frame, face) if self.keep_pixels else None
            qualities = np.zeros(len(NAMES), np.float32)
            return Look(embedding=None, qualities=qualities, worth=-np.inf, pixels=pixels)
        qualities = frame_qualities(aligned.pixels, self.pixels)
        try:
            GATE.verify(aligned.quality)
            embedding = self.embed(aligned)
        except FaceRefused:
            embedding = None
        return Look(
            embedding=embedding,
            qualities=qualities,
            worth=float(goodness(qualities[None])[0]),
            pixels=aligned.pixels if self.keep_pixels else None,
        )


def in_view(faces: Sequence[Detection], height: int, width: int) -> NDArray[np.bool_]:
    """Return which of the faces in a frame of this size are seen whole: [N].

    A larger face is nearer to the camera; a look at one that it covers in part is a look at two
    people. One at the border is half a face, and half a face is like many.
    """
    boxes = np.array([face.box for face in faces], np.float64).reshape(-1, 4)
    areas = boxes[:, 2:].prod(-1)
    covered = common_areas(boxes, boxes) / np.maximum(areas, 1e-6)[:, None]  # [N, N]
    covered[areas[:, None] >= areas] = 0.0
    margins = _BORDER * boxes[:, 2:]
    starts, ends = boxes[:, :2] - margins, boxes[:, :2] + boxes[:, 2:] + margins
    is_inside = (starts >= 0).all(1) & (ends <= (width, height)).all(1)
    return np.asarray((covered <= _COVERED).all(1) & is_inside)


def align_near(frame: Pixels, face: Detection, detector: Detector) -> Aligned | None:
    """Return the face as `detector` aligns it in the part of the frame around it, if it sees it."""
    left, top, width, height = face.box
    x0, y0 = (max(0, int(start - _AROUND * side)) for start, side in ((left, width), (top, height)))
    x1, y1 = (int(np.ceil(s + (1 + _AROUND) * side)) for s, side in ((left, width), (top, height)))
    part = np.ascontiguousarray(frame[y0 : max(y0, y1), x0 : max(x0, x1)])
    if not part.size:
        return None
    seen = detector.detect(part)
    box = np.array(((left - x0, top - y0, width, height),))
    shares = overlaps(np.array([one.box for one in seen]).reshape(-1, 4), box)[:, 0]
    if not (shares >= _SAME).any():
        return None
    try:
        return align(part, seen[int(shares.argmax())], detector.name)
    except DataError:
        return None


def probe_of(track: Track, weigh: TrackWeights | None = None) -> NDArray[np.float32]:
    """Return the weighted mean of a track's templates, [D], of at most unit length.

    Its cosine with somebody's template is the weighted mean of the frames' cosines. Brought to unit
    length it would be larger for strangers too, and a threshold chosen on single photographs would
    let more of them through than it promises: docs/video.md.

    Args:
        track: has a good look.
        weigh: the model's network that weighs frames, if it has one.
    """
    good = [(look.embedding, look.qualities) for look in track.looks if look.embedding is not None]
    embeddings = np.stack([embedding for embedding, _ in good])  # [T, D]
    qualities = np.stack([qualities for _, qualities in good])
    weights = frame_weights(embeddings, qualities, track=weigh)  # [T], of sum 1
    return np.asarray(weights @ embeddings, np.float32)


def _as_found(frame: Pixels, face: Detection) -> Pixels | None:
    """Return the face as its own detector would align it, to be shown, not compared."""
    try:
        return align(frame, face, "shown").pixels
    except DataError:
        return None
