"""One experiment from its sources to its report. Whatever stops it, it resumes where it was."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from veilface_client.failures import load_failures
from veilface_common import typed_json
from veilface_common.artifact import save_model
from veilface_common.errors import ConfigError
from veilface_common.lfw_pairs import Pair
from veilface_server.checkpoint import load_records
from veilface_server.evaluation import load_evaluation
from veilface_simulations.examples import save_examples
from veilface_simulations.experiment import SETTINGS, Experiment, save_experiment
from veilface_simulations.measuring import (
    final_weights,
    impostors,
    load_pairs,
    measure_arm,
    measure_initial,
    worst_mistakes,
)
from veilface_simulations.results import (
    FILE_NAME,
    Arm,
    HeldOut,
    OrganisationSize,
    Result,
    save_result,
)
from veilface_simulations.run_report import write_run_report
from veilface_simulations.training import arm_config, rounds_done, train_arms
from veilface_simulations.world import Federation, World, build_world, check_sources

REPORT = "report.html"
MODEL = "model"
FACES = "faces"
_PACKAGES = ("veilface", "flwr", "torch", "torchvision", "numpy")


class Display(Protocol):
    """Where progress is shown."""

    def reading(self, source: str, done: int, total: int) -> None:
        """Photographs of a source are decoded."""

    def training(self, label: str, done: int, rounds: int) -> None:
        """An arm has finished so many rounds."""

    def measuring(self, done: int, arms: int) -> None:
        """So many arms are measured."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """An experiment, where it goes, and the command that repeats it."""

    experiment: Experiment
    folder: Path
    cache: Path
    command: str


def start(job: Job) -> None:
    """Make the run's folder and write down what is run.

    Raises:
        ConfigError: the folder holds a run already, or something else; or a source is unknown.
        DataError: a source is not there.
    """
    check_sources(job.experiment)
    verify_new(job.folder, "run", is_known=(job.folder / SETTINGS).exists())
    job.folder.mkdir(parents=True, exist_ok=True)
    save_experiment(job.folder, job.experiment, job.command)


def verify_new(folder: Path, what: str, *, is_known: bool) -> None:
    """Do nothing if the folder is new or empty; `is_known` says that `what` can be resumed there.

    Raises:
        ConfigError: something is there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"expected a new or empty folder for the {what}, got {folder}",
            hint=f"--resume {folder} continues that {what}" if is_known else "choose another --out",
        )


def run(job: Job, display: Display) -> Result:
    """Train every arm to its end, measure it, and write result, model and report.

    Raises:
        VeilfaceError: see the parts; what is done stays on disk.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    pairs = load_pairs(job.experiment.pairs)
    world = build_world(job.experiment, job.folder, job.cache, display.reading)
    train_arms(
        job.experiment,
        world.federations,
        lambda federation, done: display.training(
            label(federation), done, arm_config(job.experiment, federation).federation.rounds
        ),
    )
    initial = measure_initial(job.experiment, world)
    arms = _measure(job.experiment, world, pairs, display)
    result = _result(job, world, arms, started, time.monotonic() - clock)
    result = replace(result, initial=initial)
    _write(job, world, result)
    return result


def label(federation: Federation) -> str:
    """Return how an arm is called in a terminal."""
    return f"{federation.arm} {federation.organisation or ''}".strip()


def _measure(
    experiment: Experiment, world: World, pairs: tuple[Pair, ...], display: Display
) -> tuple[Arm, ...]:
    arms = []
    for number, federation in enumerate(world.federations):
        display.measuring(number, len(world.federations))
        arms.append(measure_arm(experiment, world, federation, pairs))
    display.measuring(len(arms), len(arms))
    return tuple(arms)


def _result(
    job: Job, world: World, arms: tuple[Arm, ...], started: datetime, seconds: float
) -> Result:
    experiment = job.experiment
    return Result(
        arms=arms,
        warnings=(*world.warnings, *_left_out(world.federations), *_hidden(world, arms)),
        data=experiment.data,
        evaluate_on=experiment.evaluate_on,
        organisations=_sizes(world),
        held_out=HeldOut(people=len(world.evaluation.person_names), images=len(world.evaluation)),
        preset=experiment.preset,
        engine=experiment.engine,
        seed=experiment.seed,
        rounds=experiment.config.federation.rounds,
        model=experiment.config.model.name,
        versions={"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        command=job.command,
        started=started.isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
    )


def _sizes(world: World) -> tuple[OrganisationSize, ...]:
    """Return what each organisation holds, whichever arms were asked for."""
    members: dict[str, tuple[int, ...]] = {}
    for federation in world.federations:
        if federation.arm == "federated" or federation.organisation:
            members |= federation.members
    return tuple(
        OrganisationSize(name=name, people=len(own), images=len(world.faces.of_people(own)))
        for name, own in sorted(members.items())
    )


def _left_out(federations: Sequence[Federation]) -> list[str]:
    """Return a warning for each organisation that rounds went on without."""
    missed: dict[str, list[str]] = {}
    for federation in federations:
        for name in federation.members:  # a simulation sees what an organisation keeps to itself
            failures = load_failures(federation.organisations / name)
            missed.setdefault(name, []).extend(failures)
        for record in load_records(federation.server):
            for name, reason in record.left_out.items():
                missed.setdefault(name, []).append(f"left out of round {record.round}: {reason}")
        evaluation = load_evaluation(federation.server)
        for name, reason in (evaluation.left_out if evaluation else {}).items():
            missed.setdefault(name, []).append(f"left out of the evaluation: {reason}")
    return [
        f"{name} failed or was left out {len(reasons)} times (first: {reasons[0]})"
        for name, reasons in sorted(missed.items())
        if reasons
    ]


def _hidden(world: World, arms: Sequence[Arm]) -> list[str]:
    """Return a warning where figures were paid for and say nothing."""
    asked = any(load_evaluation(federation.server) for federation in world.federations)
    if not asked or any(arm.reported for arm in arms):
        return []
    warning = (
        "the reported figures say nothing: their noise is too large for so few people held out, "
        "or the model gives nearly all pairs the same score"
    )
    return [warning]


def _write(job: Job, world: World, result: Result) -> None:
    """Write the model, the report, and last the result, whose presence says that all is there."""
    best, privacy = world.federations[0], result.arms[0].privacy
    config = arm_config(job.experiment, best)
    told = impostors(job.experiment, world, best)
    training = {
        "arm": best.arm,
        "organisation": best.organisation,
        "data": job.experiment.data,
        "rounds": rounds_done(best),
        "seed": job.experiment.seed,
        "preset": job.experiment.preset,
        "privacy": privacy and asdict(privacy),
        "impostors": told and typed_json.to_json(told),
    }
    weights = final_weights(job.experiment, best)
    save_model(job.folder / MODEL, config.model, weights, training)
    save_examples(worst_mistakes(job.experiment, world, best), job.folder)
    write_run_report(result, job.folder)
    save_result(result, job.folder / FILE_NAME)
