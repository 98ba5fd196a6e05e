"""A made-up run for the tests of results, report and comparison."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from veilface_common.lfw_pairs import PairsFigures
from veilface_common.metrics import Figures
from veilface_simulations.results import Arm, CurvePoint, HeldOut, OrganisationSize, Result


@pytest.fixture
def made_up() -> Callable[..., Result]:
    """Make a result: `made_up(federated EER, (local EER, ...))`."""
    return _result


def _figures(eer: float) -> Figures:
    return Figures(
        people=40,
        images=200,
        genuine_pairs=400,
        impostor_pairs=19_500,
        impostor_pairs_scored=19_500,
        largest_person_share=0.03,
        eer=eer,
        eer_threshold=0.3,
        tar_at_far={"1e-2": 0.5, "1e-3": None},
        gallery=40,
        probes=160,
        rank1=0.6,
        rank5=0.8,
        enrolled=20,
        fnir_at_fpir={"1e-1": 0.5, "1e-2": None},
        resamples=200,
        intervals={"eer": (eer - 0.01, eer + 0.01)},
        roc=((0.001, 0.1), (0.1, 0.8), (1.0, 1.0)),
    )


def _result(federated: float = 0.11, local: tuple[float, ...] = (0.2, 0.24)) -> Result:
    """A result of three arms and as many organisations as `local` has error rates."""
    names = [f"site-{index}" for index in range(len(local))]
    alone = [
        Arm(arm="local", organisation=name, people=9, images=60, seconds=4.0, figures=_figures(eer))
        for name, eer in zip(names, local, strict=True)
    ]
    curve = tuple(CurvePoint(round=index, eer=0.4 / index) for index in range(1, 5))
    pairs = PairsFigures(accuracy=0.8, standard_error=0.01, folds=10, pairs=90, missing_pairs=10)
    together = Arm(
        arm="federated",
        people=18,
        images=120,
        seconds=9.5,
        figures=_figures(federated),
        pairs=pairs,
        curve=curve,
        loss=(2.0, float("nan"), 1.5),
    )
    pooled = Arm(arm="central", people=18, images=120, seconds=9.0, figures=_figures(0.1))
    return Result(
        arms=(together, *alone, pooled),
        warnings=("one file is not an image",),
        data="drawn:50x5",
        organisations=tuple(OrganisationSize(name=name, people=9, images=60) for name in names),
        held_out=HeldOut(people=40, images=200),
        preset="demo",
        engine="inprocess",
        seed=1,
        rounds=4,
        model="tiny",
        versions={"veilface": "0.1.0"},
        command="veilface-sim run",
        started="2026-11-23T10:00:00Z",
        seconds=60.0,
    )
