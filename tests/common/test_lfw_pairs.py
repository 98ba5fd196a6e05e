from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilface_common.errors import DataError
from veilface_common.lfw_pairs import (
    best_threshold,
    evaluate_pairs,
    fold_accuracies,
    parse_pairs,
)

TEXT = "2\t1\nAda\t1\t2\nAda\t3\tBob\t1\nBob\t1\t12\nBob\t2\tAda\t2\n"


def test_pairs_file_is_read_as_lfw_writes_it() -> None:
    """Both forms of line become photographs of four digits, in the fold of their place."""
    pairs = parse_pairs(TEXT)
    assert [(pair.fold, pair.left, pair.right, pair.same) for pair in pairs] == [
        (0, "Ada_0001", "Ada_0002", True),
        (0, "Ada_0003", "Bob_0001", False),
        (1, "Bob_0001", "Bob_0012", True),
        (1, "Bob_0002", "Ada_0002", False),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line"),
        ("ten\t300\n", "first line"),
        ("1\t1\nAda\t1\t2\n", "expected 2 pairs"),
        ("1\t1\nAda\t1\t2\nBob\t1\t2\n", "line 3"),
        ("1\t1\nAda\t1\tBob\t2\nAda\t1\tBob\t2\n", "line 2"),
        ("1\t1\nAda\tone\t2\nAda\t1\tBob\t2\n", "line 2"),
    ],
)
def test_malformed_pairs_file_is_rejected(text: str, message: str) -> None:
    """A file of another form ends in an error that names the line."""
    with pytest.raises(DataError, match=message):
        parse_pairs(text)


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=30))
def test_best_threshold_is_as_good_as_every_threshold(pairs: list[tuple[int, bool]]) -> None:
    """No threshold between or beyond the scores classifies more pairs correctly."""
    scores = np.array([score / 5 for score, _ in pairs])
    same = np.array([kind for _, kind in pairs])
    found = ((scores >= best_threshold(scores, same)) == same).sum()
    for threshold in (*(np.unique(scores) + 0.05), -2.0, 2.0):
        assert found >= ((scores >= threshold) == same).sum()


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_threshold_never_sees_its_own_fold(seed: int) -> None:
    """A fold's accuracy is what a loop finds that looks at the other folds alone."""
    random = np.random.default_rng(seed)
    # In eighths, so that what lies half-way between two is exact and can be a score itself.
    scores, same = random.integers(-16, 16, 40) / 8, random.random(40) < 0.5
    fold = np.arange(40) // 10
    slow = []
    for k in range(4):
        others = [(s, y) for s, y, f in zip(scores, same, fold, strict=True) if f != k]
        own = [(s, y) for s, y, f in zip(scores, same, fold, strict=True) if f == k]
        edges = sorted({s for s, _ in others})
        middles = [edges[0] - 0.5, *((a + b) / 2 for a, b in itertools.pairwise(edges))]
        middles.append(edges[-1] + 0.5)
        hits = [sum((s >= t) == y for s, y in others) for t in middles]
        threshold = middles[hits.index(max(hits))]
        slow.append(sum((s >= threshold) == y for s, y in own) / len(own))
    assert fold_accuracies(scores, same, fold) == pytest.approx(slow)


def test_missing_photographs_are_counted() -> None:
    """A pair without its photograph is reported, and a fold without a kind is left out whole."""
    folds = 3
    lines = [f"{folds}\t2"]
    for k in range(folds):
        lines += [f"P{k}\t1\t2", f"P{k}\t3\t4", f"P{k}\t1\tQ{k}\t1", f"P{k}\t2\tQ{k}\t2"]
    pairs = parse_pairs("\n".join(lines))
    names = sorted({name for pair in pairs for name in (pair.left, pair.right)})
    rows = {name: index for index, name in enumerate(names)}
    people = sorted({name[:2] for name in names})
    vectors = np.eye(len(people))[[people.index(name[:2]) for name in names]]
    full = evaluate_pairs(vectors, rows, pairs)
    assert full is not None
    assert (full.accuracy, full.standard_error, full.pairs, full.missing_pairs) == (1, 0, 12, 0)
    del rows["P0_0003"], rows["Q1_0001"], rows["Q1_0002"]
    part = evaluate_pairs(vectors, rows, pairs)
    assert part is not None
    # one pair of fold 0, the two impostor pairs of fold 1 and with them its two genuine pairs
    assert (part.folds, part.pairs, part.missing_pairs) == (2, 7, 5)
    assert evaluate_pairs(vectors, {}, pairs) is None
