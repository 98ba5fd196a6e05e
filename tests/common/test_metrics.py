from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from veilface_common import bootstrap, metrics
from veilface_common.errors import ArtifactError, DataError
from veilface_common.metrics import Figures, equal_error_rate, evaluate, tar_at_far

Floats = NDArray[np.float64]


def people(
    count: int, photographs: int | NDArray[np.int64], noise: float, seed: int = 0
) -> tuple[Floats, NDArray[np.int64]]:
    """Unit vectors around one random centre per person."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), photographs)
    vectors = random.normal(size=(count, 16))[labels] + noise * random.normal(
        size=(len(labels), 16)
    )
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def slow_pairs(
    vectors: Floats, labels: NDArray[np.int64]
) -> tuple[list[float], list[float], list[tuple[int, int]]]:
    """All pairs by two loops: genuine scores, impostor scores, impostor people."""
    genuine, impostor, who = [], [], []
    for i in range(len(labels)):
        for j in range(i + 1, len(labels)):
            score = round(float(vectors[i] @ vectors[j]), 6)
            if labels[i] == labels[j]:
                genuine.append(score)
            else:
                impostor.append(score)
                who.append((int(labels[i]), int(labels[j])))
    return genuine, impostor, who


def slow_roc(genuine: list[float], impostor: list[float]) -> list[tuple[float, float, float]]:
    """(threshold, FMR, FNMR) at every score, lenient first, by counting."""
    rows = []
    for t in [-math.inf, *sorted({*genuine, *impostor}), math.inf]:
        fmr = sum(score >= t for score in impostor) / len(impostor)
        fnmr = sum(score < t for score in genuine) / len(genuine)
        rows.append((t, fmr, fnmr))
    return rows


def slow_eer(genuine: list[float], impostor: list[float]) -> float:
    """Walk along the ROC's pieces until FMR and FNMR meet."""
    rows = slow_roc(genuine, impostor)
    for (_, m0, n0), (_, m1, n1) in itertools.pairwise(rows):
        if n1 >= m1:
            share = (m0 - n0) / ((m0 - n0) + (n1 - m1))
            return m0 + share * (m1 - m0)
    raise AssertionError("the ROC ends at FMR 0, FNMR 1")


scores = st.lists(st.integers(-10, 10).map(lambda n: n / 10), min_size=1, max_size=25)


@given(scores, scores)
def test_eer_equals_the_slow_walk(genuine: list[float], impostor: list[float]) -> None:
    """The fast EER is that of a walk over every threshold, ties and all, and lies in [0, 1]."""
    eer, _ = equal_error_rate(np.array(genuine), np.array(impostor))
    assert eer == pytest.approx(slow_eer(genuine, impostor), abs=1e-12)
    assert 0 <= eer <= 1


@given(scores, scores, st.sampled_from([0.1, 0.5, 1.0]))
def test_tar_at_far_equals_the_slow_count(
    genuine: list[float], impostor: list[float], rate: float
) -> None:
    """TAR is the best of all thresholds that accept few enough impostors, or None for few."""
    tar = tar_at_far(np.array(genuine), np.array(impostor), rate)
    if rate * len(impostor) < metrics.EXPECTED_ERRORS:
        assert tar is None
    else:
        best = max(1 - fnmr for _, fmr, fnmr in slow_roc(genuine, impostor) if fmr <= rate)
        assert tar == pytest.approx(best)


@given(scores, scores, st.sampled_from([np.exp, lambda x: x**3, lambda x: 7 * x - 2]))
def test_rates_depend_on_the_order_of_scores_alone(
    genuine: list[float], impostor: list[float], monotone: object
) -> None:
    """A strictly rising map of the scores changes neither EER nor TAR."""
    g, i = np.array(genuine), np.array(impostor)
    assert callable(monotone)
    assert equal_error_rate(monotone(g), monotone(i))[0] == equal_error_rate(g, i)[0]
    assert tar_at_far(monotone(g), monotone(i), 0.5) == tar_at_far(g, i, 0.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6), st.integers(2, 4), st.floats(0.1, 2.0))
def test_pair_scores_equal_two_loops(seed: int, count: int, photographs: int, noise: float) -> None:
    """Blocks give each pair once, with the right people."""
    vectors, labels = people(count, photographs, noise, seed)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    vectors, labels = vectors[shuffled], labels[shuffled]
    fast = metrics.pair_scores(vectors.astype(np.float32), labels, np.random.default_rng(0))
    genuine, impostor, who = slow_pairs(vectors, labels)
    assert np.sort(fast.genuine) == pytest.approx(sorted(genuine), abs=2e-6)
    assert fast.impostor == pytest.approx(impostor, abs=2e-6)
    assert [tuple(pair) for pair in fast.impostor_people.T.tolist()] == who
    assert fast.impostor_pairs == len(impostor)


def test_blocks_do_not_change_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of a block, the figures are the same."""
    vectors, labels = people(12, 5, 1.0)
    whole = evaluate(vectors, labels, resamples=20)
    monkeypatch.setattr(metrics, "_BLOCK", 7)
    assert evaluate(vectors, labels, resamples=20) == whole


def test_sampled_impostors_say_so_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a share is scored, both counts are reported, and the EER stays close."""
    vectors, labels = people(100, 6, 1.4)
    whole = evaluate(vectors, labels, resamples=0)
    monkeypatch.setattr(metrics, "SCORED_IMPOSTORS", 40_000)
    part = evaluate(vectors, labels, resamples=0)
    assert whole.impostor_pairs == whole.impostor_pairs_scored == part.impostor_pairs
    assert part.impostor_pairs_scored == pytest.approx(40_000, rel=0.05)
    assert part.eer == pytest.approx(whole.eer, abs=0.01)


def test_perfect_embeddings_make_no_mistake() -> None:
    """One direction per person: EER 0, every TAR and rank 1, no FNIR."""
    figures = evaluate(np.repeat(np.eye(40), 8, axis=0), np.repeat(np.arange(40), 8))
    assert figures.eer == 0
    assert set(figures.tar_at_far.values()) == {1.0}
    assert (figures.rank1, figures.rank5) == (1, 1)
    assert figures.fnir_at_fpir["1e-1"] == 0
    assert figures.intervals["eer"] == (0, 0)


def test_chance_and_a_collapsed_network_are_worth_nothing() -> None:
    """Vectors without the person in them, or all alike, have an EER of about a half."""
    random = np.random.default_rng(3)
    noise = random.normal(size=(600, 16))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    labels = np.repeat(np.arange(60), 10)
    assert evaluate(noise, labels, resamples=0).eer == pytest.approx(0.5, abs=0.03)
    collapsed = evaluate(np.repeat(noise[:1], 600, axis=0), labels)
    assert collapsed.eer == pytest.approx(0.5)
    assert collapsed.rank1 == 0
    assert collapsed.tar_at_far["1e-2"] == 0
    assert collapsed.fnir_at_fpir["1e-1"] == 1


def test_identification_equals_loops() -> None:
    """CMC and FNIR are what loops over probes and candidates find."""
    vectors, labels = people(30, 4, 1.2)
    extra, _ = people(25, 1, 1.2, seed=9)
    vectors, labels = np.concatenate([vectors, extra]), np.append(labels, 100 + np.arange(25))
    figures = evaluate(vectors, labels, resamples=0)
    gallery = {label: 4 * label for label in range(30)}
    ranks = [
        1
        + sum(
            vectors[p] @ vectors[g] > vectors[p] @ vectors[gallery[labels[p]]]
            for g in gallery.values()
        )
        for p in range(120)
        if p % 4
    ]
    assert (figures.gallery, figures.probes) == (30, 90)
    assert figures.rank1 == pytest.approx(np.mean([rank <= 1 for rank in ranks]))
    assert figures.rank5 == pytest.approx(np.mean([rank <= 5 for rank in ranks]))


def test_open_set_search_equals_loops() -> None:
    """FNIR counts the enrolled people who are not first, or not above what FPIR allows."""
    vectors, labels = people(40, 5, 1.0)
    enrolled = np.arange(0, 100, 5)
    probes = np.setdiff1d(np.arange(200), enrolled)
    opened = metrics.search(vectors.astype(np.float32), labels, enrolled, probes)
    wrong, right = [], []
    for probe in probes:
        found = {int(labels[g]): round(float(vectors[probe] @ vectors[g]), 6) for g in enrolled}
        name = max(found, key=lambda who: found[who])
        if labels[probe] in found:
            right.append(found[name] if name == labels[probe] else -math.inf)
        else:
            wrong.append(found[name])
    assert (len(right), len(wrong)) == (80, 100)
    refused = sorted(wrong)[-11]  # ten of a hundred may pass at FPIR 0.1, not the eleventh
    missed = np.mean([score <= refused + 2e-6 for score in right])
    assert metrics.fnir_at_fpir(opened, 0.1) == pytest.approx(missed)
    assert metrics.fnir_at_fpir(opened, 0.01) is None, "100 non-mated searches cannot say 1e-2"


def test_resampled_rates_equal_copies_of_people() -> None:
    """A weighted column is what scoring the drawn people one by one gives, copies kept apart."""
    vectors, labels = people(8, 4, 1.3)
    pairs = metrics.pair_scores(vectors.astype(np.float32), labels, np.random.default_rng(0))
    draws = bootstrap.draw_people(np.random.default_rng(5), 8, 6)
    fmr, fnmr = bootstrap.resampled_rates(
        pairs.genuine, pairs.genuine_person[None], pairs.impostor, pairs.impostor_people, draws
    )
    fast = bootstrap.crossing(fmr, fnmr)
    for column in range(6):
        copies = [p for p in range(8) for _ in range(int(draws[p, column]))]
        genuine = [s for p in copies for s in pairs.genuine[pairs.genuine_person == p].tolist()]
        impostor = [
            float(s)
            for a in range(len(copies))
            for b in range(a + 1, len(copies))
            for s in pairs.impostor[
                (
                    pairs.impostor_people
                    == [[min(copies[a], copies[b])], [max(copies[a], copies[b])]]
                ).all(axis=0)
            ]
        ]
        assert fast[column] == pytest.approx(slow_eer(genuine, impostor), abs=0.01)


def test_intervals_cover_and_come_from_people() -> None:
    """The intervals hold the figures, and shrink with people rather than with photographs."""
    few = evaluate(*people(20, 12, 1.3))
    many = evaluate(*people(120, 4, 1.3))
    for figures in (few, many):
        low, high = figures.intervals["eer"]
        assert low <= figures.eer <= high
        low, high = figures.intervals["rank1"]
        assert low <= figures.rank1 <= high
    width = [f.intervals["eer"][1] - f.intervals["eer"][0] for f in (few, many)]
    assert width[1] < width[0]


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Of 60 draws of 30 people from one population, the 95% interval misses its EER rarely."""
    truth = evaluate(*people(600, 4, 1.2, seed=777), resamples=0).eer
    hits = 0
    for seed in range(60):
        low, high = evaluate(*people(30, 4, 1.2, seed=seed), resamples=100).intervals["eer"]
        hits += low <= truth <= high
    assert hits >= 50


def test_evaluation_repeats() -> None:
    """Same seed, same figures."""
    vectors, labels = people(15, 5, 1.0)
    assert evaluate(vectors, labels, seed=4) == evaluate(vectors, labels, seed=4)


def test_roc_rises_and_is_short() -> None:
    """The thinned ROC has at most 200 points, rises in both rates and ends at (1, 1)."""
    figures = evaluate(*people(50, 6, 1.2), resamples=0)
    roc = np.array(figures.roc)
    assert len(roc) <= 200
    assert (np.diff(roc, axis=0) >= 0).all()
    assert tuple(roc[-1]) == (1, 1)
    at = np.searchsorted(roc[:, 0], 1e-2, "right")
    tar = figures.tar_at_far["1e-2"]
    assert tar is not None
    assert roc[at - 1, 1] <= tar <= roc[at, 1]


def test_a_person_who_dominates_is_noticed() -> None:
    """The share of the genuine pairs that one person makes up is reported."""
    vectors, labels = people(10, np.array([20] + [2] * 9), 1.0)
    assert evaluate(vectors, labels, resamples=0).largest_person_share == pytest.approx(190 / 199)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_people_who_cannot_be_compared_are_refused(labels: list[int]) -> None:
    """One person, or nobody with two photographs, is an error and no figure."""
    with pytest.raises(DataError, match="two people"):
        evaluate(np.eye(3), labels)


def test_diverged_network_is_refused() -> None:
    """NaN in a template is named, not scored."""
    with pytest.raises(DataError, match="finite"):
        evaluate(np.array([[np.nan, 0], [1, 0], [0, 1]]), [0, 0, 1])


def test_smallest_possible_evaluation_works() -> None:
    """Two people, three photographs: figures, and None where nothing can be said."""
    figures = evaluate(np.eye(3)[[0, 0, 1]], [0, 0, 1])
    assert figures.eer == 0
    assert figures.tar_at_far == {"1e-2": None, "1e-3": None}
    assert figures.fnir_at_fpir == {"1e-1": None, "1e-2": None}


def test_figures_survive_json() -> None:
    """What is written is what is read, through text."""
    figures = evaluate(*people(15, 5, 1.0), resamples=10)
    assert Figures.from_json(json.loads(json.dumps(figures.to_json()))) == figures


@pytest.mark.parametrize(
    "change", [{"eer": "0.1"}, {"eer": None}, {"roc": [[1, 2, 3]]}, {"people": 1.5}]
)
def test_wrong_figures_are_rejected(change: dict[str, object]) -> None:
    """A value of another type does not become a figure."""
    written = evaluate(*people(5, 3, 1.0), resamples=0).to_json() | change
    with pytest.raises(ArtifactError, match="expected"):
        Figures.from_json(written)
    del written["eer"]
    with pytest.raises(ArtifactError):
        Figures.from_json(written)


def test_worst_pairs_are_the_worst() -> None:
    """The first impostor pair is the most alike of all; nobody is shown twice."""
    vectors, labels = people(20, 4, 1.2)
    genuine, impostor, _ = slow_pairs(vectors, labels)
    alike = metrics.worst_pairs(vectors, labels, genuine=False, count=4)
    unlike = metrics.worst_pairs(vectors, labels, genuine=True, count=4)
    assert alike[0][2] == pytest.approx(max(impostor), abs=1e-5)
    assert unlike[0][2] == pytest.approx(min(genuine), abs=1e-5)
    shown = [labels[row] for pair in alike for row in pair[:2]]
    assert len(set(shown)) == len(shown) == 8
    assert all(labels[left] == labels[right] for left, right, _ in unlike)
