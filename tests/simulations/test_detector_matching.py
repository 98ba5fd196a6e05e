"""Matching found boxes to faces, and the figures, against slow and obvious computations."""

from __future__ import annotations

import numpy as np
import pytest

from veilface_simulations.clips.clip import no_boxes
from veilface_simulations.detecting.matching import (
    Judged,
    Sizes,
    at_threshold,
    average_precision,
    judge,
    overlaps,
    pooled,
    precision_at,
    threshold_at,
)

ALL = Sizes(low=20)
FACE = (100.0, 100.0, 50.0, 60.0)
ELSEWHERE = (300.0, 300.0, 50.0, 60.0)


def outcomes(
    found: list[tuple[float, ...]],
    truth: list[tuple[float, ...]],
    ignored: list[bool] | None = None,
    sizes: Sizes = ALL,
) -> list[int]:
    """Judge boxes (left, top, width, height, score)."""
    rows = np.reshape(found, (-1, 5))
    flags = np.array(ignored or [False] * len(truth), bool)
    there = np.reshape(truth, (-1, 4)) if truth else no_boxes()
    return judge(rows[:, :4], rows[:, 4], there, flags, sizes)[1].tolist()


def random_findings(seed: int) -> Judged:
    draw = np.random.default_rng(seed)
    number = int(draw.integers(1, 40))
    right = draw.random(number) < 0.6
    return Judged(
        scores=np.round(draw.random(number), 1),  # many are equal
        right=right,
        faces=int(right.sum() + draw.integers(0, 10)),
        pictures=int(draw.integers(1, 9)),
    )


def test_overlap_is_intersection_over_union() -> None:
    """Half of two equal boxes shared is a third of their union."""
    shares = overlaps(np.array((0.0, 0, 10, 10)), np.array(((5.0, 0, 10, 10), (50, 50, 1, 1))))
    assert np.allclose(shares, (1 / 3, 0))


def test_a_face_is_found_once() -> None:
    """The second box on a face is a false alarm, however good; the surer one is the hit."""
    assert outcomes([(*FACE, 0.5), (*FACE, 0.9)], [FACE]) == [-1, 0]


def test_a_box_that_overlaps_too_little_is_a_false_alarm() -> None:
    """Half the union decides."""
    assert outcomes([(100, 100, 50, 31, 1.0)], [FACE]) == [0]
    assert outcomes([(100, 100, 50, 29, 1.0)], [FACE]) == [-1]


def test_ignored_faces_count_neither_way() -> None:
    """Whoever is hardly seen may be found, even twice, and need not be."""
    assert outcomes([(*FACE, 0.9), (*FACE, 0.8)], [FACE], [True]) == [-2, -2]
    judged, _ = judge(no_boxes(), np.zeros(0), np.array((FACE,)), np.array((True,)), ALL)
    assert judged.faces == 0


def test_a_face_that_counts_comes_before_one_that_does_not() -> None:
    """Behind a face another one may be ignored: the box belongs to the one in front."""
    nearer = (104.0, 100.0, 50.0, 60.0)
    assert outcomes([(*FACE, 0.9)], [FACE, nearer], [True, False]) == [1]


def test_other_sizes_neither_count_nor_alarm() -> None:
    """Of large faces a small one is no miss; a small false alarm is one of small faces alone."""
    small, large = Sizes(low=20, high=40), Sizes(low=40)
    assert outcomes([(*FACE, 0.9), (0, 0, 30, 30, 0.8)], [FACE], sizes=large) == [0, -2]
    assert outcomes([(*FACE, 0.9), (0, 0, 30, 30, 0.8)], [FACE], sizes=small) == [-2, -1]


def test_nothing_found_and_nobody_there() -> None:
    """Empty pictures are counted as pictures."""
    judged, _ = judge(no_boxes(), np.zeros(0), no_boxes(), np.zeros(0, bool), ALL)
    whole = pooled([judged, judged])
    assert (whole.pictures, whole.faces, average_precision(whole)) == (2, 0, 0.0)
    assert threshold_at(whole, 0.1) == 0.0


def test_each_box_gets_at_most_one_face_and_each_face_one_box() -> None:
    """Whatever is found, hits are pairs of boxes that overlap enough."""
    draw = np.random.default_rng(1)
    for _ in range(50):
        truth = np.column_stack((draw.uniform(0, 80, (6, 2)), draw.uniform(20, 60, (6, 2))))
        boxes = np.concatenate((truth[:4] + draw.normal(0, 6, (4, 4)), truth[2:] + 3))
        scores = draw.random(len(boxes))
        judged, outcome = judge(boxes, scores, truth, np.zeros(6, bool), ALL)
        hit = outcome[outcome >= 0]
        assert len(set(hit.tolist())) == len(hit) == judged.right.sum()
        for box, face in zip(boxes, outcome, strict=True):
            assert face < 0 or overlaps(box, truth[[face]])[0] >= 0.5


@pytest.mark.parametrize("seed", range(30))
def test_average_precision_against_every_threshold(seed: int) -> None:
    """The area under the envelope, from precision and recall computed threshold by threshold."""
    judged = random_findings(seed)
    points = []
    for threshold in sorted(set(judged.scores.tolist()), reverse=True):
        hits, false = at_threshold(judged, threshold)
        points.append((hits / max(judged.faces, 1), hits / (hits + false)))
    area, reached = 0.0, 0.0
    for recall, _ in points:
        best = max(precision for other, precision in points if other >= recall)
        area += (recall - reached) * best
        reached = recall
    assert average_precision(judged) == pytest.approx(area)
    for recall in (0.0, 0.3, 0.7):
        best = max((precision for other, precision in points if other >= recall), default=0.0)
        assert precision_at(judged, np.array((recall,))) == [pytest.approx(best)]


@pytest.mark.parametrize("seed", range(30))
def test_the_threshold_is_the_lowest_that_is_allowed(seed: int) -> None:
    """At it few enough false alarms are given, at the next lower score too many."""
    judged, allowed = random_findings(seed), 0.5
    threshold = threshold_at(judged, allowed)
    assert at_threshold(judged, threshold)[1] <= allowed * judged.pictures
    for score in set(judged.scores[judged.scores < threshold].tolist()):
        assert at_threshold(judged, score)[1] > allowed * judged.pictures


def test_a_perfect_detector_has_an_average_precision_of_one() -> None:
    """And one that finds half of the faces, surely, of one half."""
    right = np.ones(4, bool)
    every = Judged(scores=np.arange(4.0), right=right, faces=4, pictures=2)
    half = Judged(scores=np.arange(4.0), right=right, faces=8, pictures=2)
    assert (average_precision(every), average_precision(half)) == (1.0, 0.5)
