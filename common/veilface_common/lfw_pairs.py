"""The LFW pairs protocol: ten folds, the threshold of each chosen on the other nine.

Huang, Ramesh, Berg and Learned-Miller, "Labeled Faces in the Wild", UMass Amherst 07-49, 2007,
View 2. The result is the mean accuracy of the folds and its standard error, never the best fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veilface_common.bootstrap import Floats, Indexes
from veilface_common.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two photographs, named as LFW names them (`Name_0001`), and whether one person is on both."""

    fold: int
    left: str
    right: str
    same: bool


@dataclass(frozen=True, kw_only=True)
class PairsFigures:
    """Accuracy in [0, 1] over the folds that hold both kinds of pairs."""

    accuracy: float
    standard_error: float
    folds: int
    pairs: int  # that were scored
    missing_pairs: int  # of which a photograph is not at hand, or whose fold had to be left out


def parse_pairs(text: str) -> tuple[Pair, ...]:
    """Return the pairs of a `pairs.txt`.

    The first line is `folds` and `pairs of each kind in a fold`; then, for each fold, the pairs
    `Name i j` of one person and the pairs `Name i Name2 j` of two. Tabs separate.

    Raises:
        DataError: the text is not of this form, or ends early.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    folds, each = _header(lines[0] if lines else "")
    if len(lines) - 1 != 2 * folds * each:
        raise DataError(
            f"expected {2 * folds * each} pairs as the pairs file's first line says, "
            f"got {len(lines) - 1}"
        )
    return tuple(
        _pair(line, number=index + 2, fold=index // (2 * each), same=index % (2 * each) < each)
        for index, line in enumerate(lines[1:])
    )


def _header(line: str) -> tuple[int, int]:
    fields = line.split("\t")
    if len(fields) != 2 or not all(entry.strip().isdecimal() for entry in fields):
        raise DataError(
            f"expected 'folds<TAB>pairs' on the first line of the pairs file, got {line[:40]!r}"
        )
    return int(fields[0]), int(fields[1])


def _pair(line: str, *, number: int, fold: int, same: bool) -> Pair:
    """Return the pair on line `number`; its place says of which kind it has to be."""
    match [entry.strip() for entry in line.split("\t")]:
        case [name, i, j] if same and i.isdecimal() and j.isdecimal():
            left, right = (name, i), (name, j)
        case [name, i, other, j] if not same and i.isdecimal() and j.isdecimal():
            left, right = (name, i), (other, j)
        case _:
            form = "Name<TAB>i<TAB>j" if same else "Name<TAB>i<TAB>Name2<TAB>j"
            raise DataError(f"expected {form} on line {number} of the pairs file")
    return Pair(fold=fold, left=_photograph(*left), right=_photograph(*right), same=same)


def _photograph(name: str, number: str) -> str:
    return f"{name}_{int(number):04d}"


def evaluate_pairs(
    embeddings: ArrayLike, photographs: Mapping[str, int], pairs: tuple[Pair, ...]
) -> PairsFigures | None:
    """Return the protocol's accuracy, or `None` where fewer than two folds can be scored.

    Args:
        embeddings: `[N, D]`, unit length.
        photographs: the row of each photograph by its name without folder and extension
            (`Name_0001`). Leave out whoever was trained on: their pairs then count as missing.
        pairs: what `parse_pairs` returns.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    known = [pair for pair in pairs if pair.left in photographs and pair.right in photographs]
    left = np.array([photographs[pair.left] for pair in known], dtype=np.int64)
    right = np.array([photographs[pair.right] for pair in known], dtype=np.int64)
    scores = np.round((vectors[left] * vectors[right]).sum(axis=1), 6)
    same = np.array([pair.same for pair in known], dtype=bool)
    fold = np.array([pair.fold for pair in known], dtype=np.int64)
    usable = [k for k in np.unique(fold) if len(set(same[fold == k])) == 2]
    if len(usable) < 2:
        return None
    kept = np.isin(fold, usable)
    accuracies = fold_accuracies(scores[kept], same[kept], fold[kept])
    return PairsFigures(
        accuracy=float(accuracies.mean()),
        standard_error=float(accuracies.std(ddof=1) / np.sqrt(len(accuracies))),
        folds=len(accuracies),
        pairs=int(kept.sum()),
        missing_pairs=len(pairs) - int(kept.sum()),
    )


def fold_accuracies(scores: Floats, same: NDArray[np.bool_], fold: Indexes) -> Floats:
    """Return the accuracy on each fold `[K]` at the threshold that is best on all the others.

    Args:
        scores: of the pairs, `[n]`.
        same: whether one person is on both, `[n]`.
        fold: of each pair, `[n]`.
    """
    accuracies = []
    for k in np.unique(fold):
        threshold = best_threshold(scores[fold != k], same[fold != k])
        accuracies.append(np.mean((scores[fold == k] >= threshold) == same[fold == k]))
    return np.array(accuracies, dtype=np.float64)


def best_threshold(scores: Floats, same: NDArray[np.bool_]) -> float:
    """Return the lowest threshold of highest accuracy, half-way between two scores."""
    levels = np.unique(scores)
    genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
    right = len(genuine) - np.searchsorted(genuine, levels) + np.searchsorted(impostor, levels)
    best = int(np.argmax(np.append(right, len(impostor))))
    edges = np.concatenate([levels[:1] - 1.0, levels, levels[-1:] + 1.0])
    return float((edges[best] + edges[best + 1]) / 2)
