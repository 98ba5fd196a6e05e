"""What a detector found against what is there: hits, false alarms, and what neither counts.

For faces of a range of sizes, found boxes are taken by falling score. Each goes to the free face
that it overlaps most, if their intersection is half their union or more; that face is then taken.
A box that overlaps only faces that do not count, because they are of another size, too small, or
hardly seen, counts neither for nor against. What is left is a false alarm, if it is of these sizes
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilface_client.detectors.detection import Detection
from veilface_simulations.clips.clip import Boxes, Flags, within

OVERLAP = 0.5  # intersection over union
Scores = NDArray[np.float64]
Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Faces whose longer side is in [low, high) pixels."""

    low: float
    high: float = float("inf")

    def of(self, boxes: Boxes) -> Flags:
        """Return which boxes are of these sizes: [N, 4] -> [N]."""
        side = boxes[:, 2:].max(axis=1, initial=0.0)
        return np.asarray((side >= self.low) & (side < self.high))


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What was found in one picture or in several: n boxes that count, and how many faces do."""

    scores: Scores  # [n]
    right: Flags  # [n]
    faces: int
    pictures: int


def overlaps(box: Reals, others: Boxes) -> Reals:
    """Return intersection over union of one box with others: [4], [N, 4] -> [N]."""
    first = np.maximum(box[:2], others[:, :2])
    last = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    shared = np.clip(last - first, 0, None).prod(axis=1)
    union = box[2:].prod() + others[:, 2:].prod(axis=1) - shared
    return np.asarray(shared / np.maximum(union, 1e-9))


def boxes_of(found: Sequence[Detection], height: int, width: int) -> tuple[Boxes, Scores]:
    """Return boxes that end where the picture does, [n, 4], and scores [n]."""
    boxes = np.array([face.box for face in found], np.float64).reshape(-1, 4)
    return within(boxes, height, width)[0], np.array([face.score for face in found], np.float64)


def judge(
    boxes: Boxes, scores: Scores, truth: Boxes, ignored: Flags, sizes: Sizes
) -> tuple[Judged, NDArray[np.int64]]:
    """Return what was found in one picture, and of each box the face that it hit, [n].

    Args:
        boxes: what was found, [n, 4].
        scores: of it, [n].
        truth: what is there, [N, 4].
        ignored: what of that does not count, [N].
        sizes: which faces count.

    The second value is the number of a face, -1 for a false alarm, and -2 where nothing counts.
    """
    counted = sizes.of(truth) & ~ignored
    alarming = sizes.of(boxes)
    free = counted.copy()
    outcome = np.full(len(boxes), -2, np.int64)
    for number in np.argsort(-scores, kind="stable"):
        shares = overlaps(boxes[number], truth)
        best = int(np.where(free, shares, 0.0).argmax()) if len(truth) else 0
        if len(truth) and free[best] and shares[best] >= OVERLAP:
            free[best] = False
            outcome[number] = best
        elif alarming[number] and not (shares[~counted] >= OVERLAP).any():
            outcome[number] = -1
    kept = outcome > -2
    judged = Judged(
        scores=scores[kept], right=outcome[kept] >= 0, faces=int(counted.sum()), pictures=1
    )
    return judged, outcome


def pooled(parts: Sequence[Judged]) -> Judged:
    """Return what was found in all of these pictures."""
    return Judged(
        scores=np.concatenate([np.zeros(0), *(part.scores for part in parts)]),
        right=np.concatenate([np.zeros(0, bool), *(part.right for part in parts)]),
        faces=sum(part.faces for part in parts),
        pictures=sum(part.pictures for part in parts),
    )


def curve(judged: Judged) -> tuple[Reals, Reals, Reals]:
    """Return recall, precision and threshold at each score that occurs, [m]; recall rises."""
    order = np.argsort(-judged.scores, kind="stable")
    scores, right = judged.scores[order], judged.right[order]
    # Boxes of equal score are above a threshold together, or none of them is.
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    hits = right.cumsum()[last]
    return hits / max(judged.faces, 1), hits / (last + 1), scores[last]


def average_precision(judged: Judged) -> float:
    """Return the area under the highest precision at each recall or beyond.

    At every recall that occurs, not at eleven: section 4.2 of the development kit of PASCAL VOC
    2010; WIDER FACE's figures are computed so.
    """
    recall, precision, _ = curve(judged)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * envelope).sum())


def precision_at(judged: Judged, recalls: Reals) -> list[float]:
    """Return the highest precision at each of these recalls or beyond; 0 beyond the last."""
    recall, precision, _ = curve(judged)
    return [float(precision[recall >= least].max(initial=0.0)) for least in recalls]


def threshold_at(judged: Judged, false_per_picture: float) -> float:
    """Return the lowest score that occurs at which no more false alarms are given than that.

    Above every score where even the highest gives more; 0 where nothing was found.
    """
    order = np.argsort(-judged.scores, kind="stable")
    scores = judged.scores[order]
    if not len(scores):
        return 0.0
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    false = (~judged.right[order]).cumsum()[last]
    allowed = scores[last][false <= false_per_picture * judged.pictures]
    return float(allowed[-1]) if len(allowed) else float(np.nextafter(scores[0], np.inf))


def at_threshold(judged: Judged, threshold: float) -> tuple[int, int]:
    """Return how many faces are found, and how many false alarms given, at a threshold."""
    above = judged.scores >= threshold
    return int((judged.right & above).sum()), int((~judged.right & above).sum())
