"""How well embeddings tell people apart: ROC, EER, TAR@FAR, CMC, open-set FNIR@FPIR.

Pure functions on embeddings `[N, D]` float32 of unit length and labels `[N]` int. A score is a
cosine; a comparison is accepted at threshold t when its score >= t. Terms and rates are those of
ISO/IEC 19795-1:2021: FMR and FNMR for comparisons (TAR = 1 - FNMR at FAR = FMR, as nothing fails
to be acquired here), FPIR and FNIR for searches.

Intervals are 95% percentile intervals over people drawn with replacement: see `bootstrap`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veilface_common import bootstrap, typed_json
from veilface_common.bootstrap import Floats, Indexes
from veilface_common.errors import DataError

Interval = tuple[float, float]

FALSE_ACCEPT_RATES: Mapping[str, float] = {"1e-2": 1e-2, "1e-3": 1e-3}
FALSE_POSITIVE_RATES: Mapping[str, float] = {"1e-1": 1e-1, "1e-2": 1e-2}
EXPECTED_ERRORS = 10  # a rate is spoken of where at least so many errors are expected
SCORED_IMPOSTORS = 4_000_000  # beyond so many impostor pairs, about so many are drawn by the seed
HISTOGRAM_BINS = 40  # over cosines in [-1, 1]
_BLOCK = 512
_ROC_POINTS = 180


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one model does on one set of people; `None` where there is too little to say it."""

    people: int
    images: int
    genuine_pairs: int
    impostor_pairs: int
    impostor_pairs_scored: int  # fewer than impostor_pairs where these were sampled
    largest_person_share: float  # of the genuine pairs: one person can dominate
    eer: float
    eer_threshold: float
    tar_at_far: Mapping[str, float | None]
    gallery: int  # people in the closed-set gallery, one photograph each
    probes: int
    rank1: float
    rank5: float
    enrolled: int  # N of the open-set search
    open_set_rank: int = 1  # R: the right person has to be among so many candidates
    mated_probes: int = 0
    non_mated_probes: int = 0
    fnir_at_fpir: Mapping[str, float | None]
    resamples: int = 0
    intervals: Mapping[str, Interval] = field(default_factory=dict)  # eer, rank1, tar@1e-2, ...
    roc: tuple[tuple[float, float], ...] = ()  # (FAR, TAR), rising
    genuine_histogram: tuple[float, ...] = ()  # shares in HISTOGRAM_BINS over [-1, 1]
    impostor_histogram: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return nested dicts and lists, as `json.dumps` takes them."""
        return typed_json.to_json(self)

    @classmethod
    def from_json(cls, value: object) -> Figures:
        """Return what `to_json` wrote.

        Raises:
            ArtifactError: a figure is missing or has another type.
        """
        return typed_json.from_json(cls, value, "the figures")


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """Cosines of all pairs, and the people (0...P-1) whose pairs these are."""

    genuine: Floats  # [G]
    genuine_person: Indexes  # [G]
    impostor: Floats  # [I]
    impostor_people: Indexes  # [2, I]
    impostor_pairs: int  # before sampling


@dataclass(frozen=True, kw_only=True)
class Search:
    """One search of a gallery per probe; a person who is not in the gallery has own = -inf."""

    person: Indexes  # [n], who is on the probe
    own: Floats  # [n], score against the photograph of the same person
    rank: Indexes  # [n], 1 = nobody scores as high; ties count against the person
    best: Floats  # [n], highest score of anybody


def evaluate(
    embeddings: ArrayLike, labels: ArrayLike, *, seed: int = 0, resamples: int = 200
) -> Figures:
    """Return all figures of embeddings `[N, D]`, unit length, with labels `[N]`.

    Args:
        embeddings: one template per photograph.
        labels: who is on it; the first photograph of a person is the one that gets enrolled.
        seed: chooses who is enrolled in the open-set search, the resamples, and the impostor
            pairs where there are more than `SCORED_IMPOSTORS`.
        resamples: of people, for the intervals; 0 leaves them out and saves most of the time.

    Raises:
        DataError: fewer than two people, nobody with two photographs, or values not finite.
    """
    vectors, person = _checked(embeddings, labels)
    count = int(person.max()) + 1
    random = np.random.default_rng(seed)
    scores = pair_scores(vectors, person, random)
    gallery, repeated = _first_photographs(person)
    closed = search(vectors, person, gallery, np.setdiff1d(repeated, gallery))
    enrolled = random.permutation(gallery)[: max(1, len(gallery) // 2)]
    opened = search(vectors, person, enrolled, np.setdiff1d(np.arange(len(person)), enrolled))
    draws = bootstrap.draw_people(random, count, resamples)
    eer, threshold = equal_error_rate(scores.genuine, scores.impostor)
    mated = int(np.isfinite(opened.own).sum())
    return Figures(
        people=count,
        images=len(person),
        genuine_pairs=len(scores.genuine),
        impostor_pairs=scores.impostor_pairs,
        impostor_pairs_scored=len(scores.impostor),
        largest_person_share=float(np.bincount(scores.genuine_person).max() / len(scores.genuine)),
        eer=eer,
        eer_threshold=threshold,
        tar_at_far={
            name: tar_at_far(scores.genuine, scores.impostor, rate)
            for name, rate in FALSE_ACCEPT_RATES.items()
        },
        gallery=len(gallery),
        probes=len(closed.rank),
        rank1=float((closed.rank <= 1).mean()),
        rank5=float((closed.rank <= 5).mean()),
        enrolled=len(enrolled),
        mated_probes=mated,
        non_mated_probes=len(opened.own) - mated,
        fnir_at_fpir={
            name: fnir_at_fpir(opened, rate) for name, rate in FALSE_POSITIVE_RATES.items()
        },
        resamples=resamples,
        intervals=_intervals(scores, closed, opened, draws) if resamples else {},
        roc=_thinned_roc(scores.genuine, scores.impostor),
        genuine_histogram=_histogram(scores.genuine),
        impostor_histogram=_histogram(scores.impostor),
    )


def _checked(embeddings: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float32], Indexes]:
    """Return embeddings as float32 and labels as people 0...P-1."""
    vectors = np.asarray(embeddings, dtype=np.float32)
    known, person = np.unique(np.asarray(labels), return_inverse=True)
    if vectors.ndim != 2 or len(vectors) != len(person):
        raise ValueError(f"expected [N, D] and [N], got {vectors.shape} and {person.shape}")
    if len(known) < 2 or len(known) == len(person):
        raise DataError(
            f"expected two people or more, one of them with two photographs, "
            f"got {len(known)} people on {len(person)} photographs",
            hint="evaluation compares photographs of one person and of different people",
        )
    if not np.isfinite(vectors).all():
        raise DataError(
            "expected finite embeddings, got NaN or infinity",
            hint="the network diverged: lower the learning rate",
        )
    return vectors, person.astype(np.int64)


def pair_scores(
    vectors: NDArray[np.float32], person: Indexes, random: np.random.Generator
) -> PairScores:
    """Return the cosines of all pairs of `vectors` `[N, D]`, each pair once, block by block.

    Genuine pairs are complete. Impostor pairs are complete up to `SCORED_IMPOSTORS`; beyond, each
    is kept with the same probability. Scores are rounded to six decimals, so that equal vectors
    tie whatever the order in which a processor adds.
    """
    sizes = np.bincount(person)
    total = (len(person) ** 2 - int((sizes**2).sum())) // 2
    keep = min(1.0, SCORED_IMPOSTORS / max(total, 1))
    genuine, impostor, people = [], [], []
    for start in range(0, len(person), _BLOCK):
        rows = person[start : start + _BLOCK]
        cosines = vectors[start : start + _BLOCK] @ vectors[start:].T
        once = np.arange(len(cosines))[:, None] < np.arange(cosines.shape[1])[None, :]
        same = rows[:, None] == person[None, start:]
        left, right = np.nonzero(once & same)
        genuine.append((cosines[left, right], rows[left]))
        apart = once & ~same
        if keep < 1.0:
            apart &= random.random(apart.shape, dtype=np.float32) < keep
        left, right = np.nonzero(apart)
        impostor.append(cosines[left, right])
        people.append(np.stack([rows[left], person[start + right]]).astype(np.int32))
    return PairScores(
        genuine=_rounded(np.concatenate([scores for scores, _ in genuine])),
        genuine_person=np.concatenate([owners for _, owners in genuine]),
        impostor=_rounded(np.concatenate(impostor)),
        impostor_people=np.concatenate(people, axis=1),
        impostor_pairs=total,
    )


def _rounded(cosines: NDArray[np.float32]) -> Floats:
    return np.asarray(np.round(cosines.astype(np.float64), 6), dtype=np.float64)


def roc_vertices(genuine: Floats, impostor: Floats) -> tuple[Floats, Floats, Floats]:
    """Return thresholds, FMR and FNMR `[V]` at the corners of the ROC, from lenient to strict.

    The ROC turns only at genuine scores: at each one, the rates at it and just above it.
    """
    levels = np.unique(genuine)
    kept, wrong = np.sort(genuine), np.sort(impostor)
    at = [np.searchsorted(kept, levels, "left"), np.searchsorted(kept, levels, "right")]
    below = [np.searchsorted(wrong, levels, "left"), np.searchsorted(wrong, levels, "right")]
    fnmr = np.stack(at, axis=1).ravel() / len(kept)
    fmr = 1.0 - np.stack(below, axis=1).ravel() / len(wrong)
    edge = np.ones(1)
    return (
        np.concatenate([[-np.inf], np.repeat(levels, 2), [np.inf]]),
        np.concatenate([edge, fmr, 0 * edge]),
        np.concatenate([0 * edge, fnmr, edge]),
    )


def equal_error_rate(genuine: Floats, impostor: Floats) -> tuple[float, float]:
    """Return the EER in [0, 1] and its threshold: where FMR = FNMR on the ROC's straight pieces."""
    thresholds, fmr, fnmr = roc_vertices(genuine, impostor)
    crossing = int(np.argmax(fnmr >= fmr))
    eer = float(bootstrap.crossing(fmr[:, None], fnmr[:, None])[0])
    finite = thresholds[min(max(crossing, 1), len(thresholds) - 2)]
    return eer, float(finite)


def tar_at_far(genuine: Floats, impostor: Floats, rate: float) -> float | None:
    """Return the largest TAR of a threshold whose FAR is at most `rate`.

    `None` where fewer than `EXPECTED_ERRORS` of the impostor pairs would be accepted at `rate`.
    """
    if rate * len(impostor) < EXPECTED_ERRORS - 1e-9:
        return None
    _, fmr, fnmr = roc_vertices(genuine, impostor)
    return float(1.0 - fnmr[fmr <= rate + 1e-12].min())


def _thinned_roc(genuine: Floats, impostor: Floats) -> tuple[tuple[float, float], ...]:
    _, fmr, fnmr = roc_vertices(genuine, impostor)
    rates = np.unique(np.append(np.geomspace(1 / len(impostor), 1.0, _ROC_POINTS), 1.0))
    # FMR falls along the vertices: the first one at or below a rate accepts the most.
    first = np.searchsorted(-fmr, -rates - 1e-12, "left")
    return tuple(
        (float(rate), float(tar)) for rate, tar in zip(rates, 1.0 - fnmr[first], strict=True)
    )


def _histogram(scores: Floats) -> tuple[float, ...]:
    counts, _ = np.histogram(np.clip(scores, -1, 1), bins=HISTOGRAM_BINS, range=(-1, 1))
    return tuple(float(share) for share in np.round(counts / len(scores), 7))


def _first_photographs(person: Indexes) -> tuple[Indexes, Indexes]:
    """Return the first photograph of everybody who has two, and all photographs of these."""
    _, first, sizes = np.unique(person, return_index=True, return_counts=True)
    return first[sizes >= 2], np.flatnonzero(sizes[person] >= 2)


def search(
    vectors: NDArray[np.float32], person: Indexes, gallery: Indexes, probes: Indexes
) -> Search:
    """Search `gallery` (photographs, one per person) for each of `probes` (photographs)."""
    column = np.full(int(person.max()) + 1, -1)
    column[person[gallery]] = np.arange(len(gallery))
    own, rank, best = [], [], []
    for start in range(0, len(probes), _BLOCK):
        rows = probes[start : start + _BLOCK]
        cosines = _rounded(vectors[rows] @ vectors[gallery].T)
        where = column[person[rows]]
        mine = np.where(where >= 0, cosines[np.arange(len(rows)), where], -np.inf)
        own.append(mine)
        rank.append((cosines >= mine[:, None]).sum(axis=1))
        best.append(cosines.max(axis=1))
    return Search(
        person=person[probes],
        own=np.concatenate(own),
        rank=np.concatenate(rank),
        best=np.concatenate(best),
    )


def fnir_at_fpir(opened: Search, rate: float) -> float | None:
    """Return FNIR(N, R=1, T) at the T whose FPIR is at most `rate`: ISO/IEC 19795-1:2021.

    A mated search fails when the right person is not first or scores below T. `None` where fewer
    than `EXPECTED_ERRORS` of the non-mated searches would end in a name, or no search is mated.
    """
    mated = np.isfinite(opened.own)
    if not mated.any() or rate * (~mated).sum() < EXPECTED_ERRORS - 1e-9:
        return None
    return float(_fnir(opened, rate, np.ones((len(mated), 1)))[0])


def _fnir(opened: Search, rate: float, weights: NDArray[np.floating[Any]]) -> Floats:
    """Return FNIR `[R]` of searches `[n]` under `weights` `[n, R]`; NaN where none is left."""
    mated = np.isfinite(opened.own)
    order = np.argsort(-opened.best[~mated], kind="stable")
    mass = np.cumsum(weights[~mated][order], axis=0, dtype=np.float64)
    # The highest-scoring wrong name that FPIR <= rate can no longer afford.
    refused = opened.best[~mated][order][np.argmax(mass > rate * mass[-1] + 1e-9, axis=0)]
    found = (opened.own[mated, None] > refused) & (opened.rank[mated, None] <= 1)
    return 1.0 - bootstrap.weighted_mean(found, weights[mated])


def _intervals(
    scores: PairScores, closed: Search, opened: Search, draws: NDArray[np.float32]
) -> dict[str, Interval]:
    """Return 95% intervals by name; galleries stay as they are while the probes' people vary."""
    owners = scores.genuine_person[None, :]
    fmr, fnmr = bootstrap.resampled_rates(
        scores.genuine, owners, scores.impostor, scores.impostor_people, draws
    )
    weights = draws[closed.person]
    values = {
        "eer": bootstrap.crossing(fmr, fnmr),
        "rank1": bootstrap.weighted_mean(closed.rank[:, None] <= 1, weights),
        "rank5": bootstrap.weighted_mean(closed.rank[:, None] <= 5, weights),
    }
    for name, rate in FALSE_ACCEPT_RATES.items():
        if rate * len(scores.impostor) >= EXPECTED_ERRORS - 1e-9:
            values[f"tar@{name}"] = bootstrap.interpolated_tar(fmr, fnmr, rate)
    for name, rate in FALSE_POSITIVE_RATES.items():
        if fnir_at_fpir(opened, rate) is not None:
            values[f"fnir@{name}"] = _fnir(opened, rate, draws[opened.person])
    found = {name: bootstrap.percentile_interval(drawn) for name, drawn in values.items()}
    return {name: interval for name, interval in found.items() if interval is not None}


def worst_pairs(
    embeddings: ArrayLike, labels: ArrayLike, *, genuine: bool, count: int = 6
) -> tuple[tuple[int, int, float], ...]:
    """Return `(photograph, photograph, score)` of the worst mistakes, at most one per person.

    Args:
        embeddings: `[N, D]`, unit length.
        labels: `[N]`.
        genuine: the least alike photographs of one person, else the most alike of two people.
        count: how many.

    Raises:
        DataError: as `evaluate`.
    """
    vectors, person = _checked(embeddings, labels)
    sign = 1.0 if genuine else -1.0
    candidates = []
    for row in range(len(person) - 1):
        later = np.arange(row + 1, len(person))
        later = later[(person[later] == person[row]) == genuine]
        if len(later):
            cosines = sign * (vectors[later] @ vectors[row])
            worst = int(np.argmin(cosines))
            candidates.append((float(cosines[worst]), row, int(later[worst])))
    shown: list[tuple[int, int, float]] = []
    seen: set[int] = set()
    for score, left, right in sorted(candidates):
        people = {int(person[left]), int(person[right])}
        if not people & seen and len(shown) < count:
            shown.append((left, right, sign * score))
            seen |= people
    return tuple(shown)
