"""One federation at several prices: `sweep.json`, schema 1, described in `docs/result-schema.md`.

Each epsilon is an ordinary run in a folder of its own, so a sweep resumes wherever it was stopped.
The arms that no epsilon touches, each alone and all pooled, are trained in the first run only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from veilface_common.errors import ArtifactError, ConfigError
from veilface_common.metrics import Figures, Interval
from veilface_simulations import results
from veilface_simulations.experiment import (
    SETTINGS,
    USUAL_ARMS,
    Experiment,
    calibrate,
    load_experiment,
)
from veilface_simulations.record_file import RecordFile
from veilface_simulations.results import Arm, HeldOut, Result, load_result, local_mean
from veilface_simulations.run import Display, Job, run, start, verify_new
from veilface_simulations.world import check_sources

_PREFIX = "epsilon-"  # of the folder of a run
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Level:
    """Figures of one way of training, as far as a sweep shows them."""

    eer: float
    tar_at_far: Mapping[str, float | None]
    intervals: Mapping[str, Interval] = field(default_factory=dict)  # a mean over arms has none


@dataclass(frozen=True, kw_only=True)
class Point(Level):
    """The federation at one epsilon, and what its ledgers say of the price."""

    epsilon: float | None  # asked for; None: trained without privacy
    spent: float | None = None  # by the organisation that spent most
    noise_multiplier: float | None = None
    steps: int | None = None  # in all rounds together

    @property
    def name(self) -> str:
        """The epsilon as it is written in a list."""
        return epsilon_name(math.inf if self.epsilon is None else self.epsilon)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What joining buys at each epsilon, beside what there is without joining."""

    points: tuple[Point, ...]  # by rising epsilon, without privacy last
    local: Level  # the mean over the organisations that train alone
    central: Level
    initial: Level | None = None  # the model that all training started from, if one was given
    unit: str  # whom epsilon speaks of
    delta: float
    data: str
    evaluate_on: str | None = None
    organisations: int
    held_out: HeldOut
    preset: str
    model: str
    engine: str
    rounds: int
    seed: int
    warnings: tuple[str, ...] = ()
    command: str


RECORD = RecordFile("sweep.json", Sweep)


def parse_epsilons(text: str) -> tuple[float, ...]:
    """Return the numbers of a list such as `2,4,8,inf`, rising.

    Raises:
        ConfigError: an entry is not a positive number or `inf`, or stands there twice.
    """
    found = sorted(_parse_epsilon(entry.strip()) for entry in text.split(","))
    names = [epsilon_name(epsilon) for epsilon in found]
    twice = next((name for name, following in pairwise(names) if name == following), None)
    if twice is not None:
        raise ConfigError(f"expected each epsilon once, got {twice} twice")
    return tuple(found)


def epsilon_name(epsilon: float) -> str:
    """Return an epsilon as it stands in lists and in the names of folders."""
    return "inf" if math.isinf(epsilon) else f"{epsilon:g}"


def plan_sweep(job: Job, epsilons: Sequence[float]) -> tuple[Job, ...]:
    """Return the runs of a sweep, one for each epsilon; `job` has the folder of them all.

    Raises:
        ConfigError: the experiment is not private.
        BudgetError: no noise keeps an epsilon.
    """
    if not job.experiment.is_private:
        raise ConfigError(
            "expected private training to sweep over, got privacy.unit none",
            hint="inf in the list of --epsilon is the federation without privacy",
        )
    return tuple(
        replace(
            job,
            experiment=_at_epsilon(job.experiment, epsilon, is_first=number == 0),
            folder=job.folder / f"{_PREFIX}{epsilon_name(epsilon)}",
        )
        for number, epsilon in enumerate(epsilons)
    )


def start_sweep(folder: Path, jobs: Sequence[Job]) -> None:
    """Make the folders of all runs and write down what is run.

    The first run comes last: with it a sweep is whole, see `load_jobs`.

    Raises:
        ConfigError: something is in the folder already, or a source is unknown.
        DataError: a source is not there.
    """
    verify_new(folder, "sweep", is_known=any(folder.glob(f"{_PREFIX}*/{SETTINGS}")))
    check_sources(jobs[0].experiment)
    for job in reversed(jobs):
        start(job)


def load_jobs(folder: Path, cache: Path) -> tuple[Job, ...]:
    """Return the runs of the sweep in a folder, by rising epsilon.

    Raises:
        ArtifactError: there is none, or a run of it is damaged.
    """
    jobs = []
    for place in folder.glob(f"{_PREFIX}*"):
        experiment, command = load_experiment(place)
        jobs.append(Job(experiment=experiment, folder=place, cache=cache, command=command))
    jobs.sort(key=lambda job: _epsilon(job.experiment))
    if not jobs or jobs[0].experiment.arms != USUAL_ARMS:
        raise ArtifactError(
            f"expected a sweep to resume in {folder}, got no whole one",
            hint="name the folder that --out of veilface-sim sweep named",
        )
    return tuple(jobs)


def finish(job: Job, display: Display) -> Result:
    """Return what a run found: read, where it has ended before.

    Raises:
        VeilfaceError: see `run`.
    """
    if (job.folder / results.FILE_NAME).exists():
        return load_result(job.folder)
    return run(job, display)


def collect(jobs: Sequence[Job], found: Sequence[Result]) -> Sweep:
    """Return the runs of a sweep as one; both in the same order, the first with all arms.

    Raises:
        ArtifactError: a run lacks an arm.
    """
    first, experiment = found[0], jobs[0].experiment
    return Sweep(
        points=tuple(
            _point(job.experiment, result) for job, result in zip(jobs, found, strict=True)
        ),
        local=_mean_level(first.local),
        central=_level(_present(first.central, "central").figures),
        initial=None if first.initial is None else _level(first.initial),
        unit=experiment.config.privacy.unit,
        delta=experiment.delta,
        data=first.data,
        evaluate_on=first.evaluate_on,
        organisations=len(first.organisations),
        held_out=first.held_out,
        preset=first.preset,
        model=first.model,
        engine=first.engine,
        rounds=first.rounds,
        seed=first.seed,
        warnings=tuple(dict.fromkeys(text for result in found for text in result.warnings)),
        command=first.command,
    )


def _parse_epsilon(entry: str) -> float:
    try:
        epsilon = float(entry)
    except ValueError:
        epsilon = math.nan
    if not epsilon > 0:  # nor NaN
        raise ConfigError(
            f"expected --epsilon as a list of positive numbers, got {entry!r} in it",
            hint="such as 2,4,8,inf, where inf is the federation without privacy",
        )
    return epsilon


def _at_epsilon(experiment: Experiment, epsilon: float, *, is_first: bool) -> Experiment:
    arms = USUAL_ARMS if is_first else ("federated",)
    if math.isfinite(epsilon):
        return calibrate(replace(experiment, epsilon=epsilon, arms=arms))
    openly = replace(experiment.config.privacy, unit="none")
    config = replace(experiment.config, privacy=openly)
    return replace(experiment, config=config, arms=arms)


def _epsilon(experiment: Experiment) -> float:
    return experiment.epsilon if experiment.is_private else math.inf


def _point(experiment: Experiment, result: Result) -> Point:
    arm = _present(result.federated, "federated")
    level, spent = _level(arm.figures), arm.privacy
    return Point(
        eer=level.eer,
        tar_at_far=level.tar_at_far,
        intervals=level.intervals,
        epsilon=experiment.epsilon if experiment.is_private else None,
        spent=None if spent is None else spent.epsilon,
        noise_multiplier=None if spent is None else spent.noise_multiplier,
        steps=None if spent is None else spent.steps,
    )


def _level(figures: Figures) -> Level:
    return Level(eer=figures.eer, tar_at_far=figures.tar_at_far, intervals=figures.intervals)


def _mean_level(arms: Sequence[Arm]) -> Level:
    figures = [arm.figures for arm in arms]
    eer = _present(local_mean([figure.eer for figure in figures]), "local")
    rates = figures[0].tar_at_far
    means = {
        rate: local_mean([figure.tar_at_far.get(rate) for figure in figures]) for rate in rates
    }
    return Level(eer=eer, tar_at_far=means)


def _present(value: T | None, arm: str) -> T:
    if value is None:
        raise ArtifactError(f"expected the {arm} arm in the runs of a sweep, got none")
    return value
