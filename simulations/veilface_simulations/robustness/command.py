"""`veilface-sim robustness`: what is left of a model in bad light and behind a hand?"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console

from veilface_client.alignment import PIXELS
from veilface_client.detectors import DETECTORS_HELP
from veilface_client.faces import open_detector
from veilface_client.images import canvas_pixels
from veilface_client.perturbations.levels import PERTURBATIONS
from veilface_common.command import one_line
from veilface_common.errors import ConfigError
from veilface_common.files import PUBLIC, write_atomically
from veilface_simulations.display import TerminalDisplay
from veilface_simulations.options import INTERRUPTED, command_line
from veilface_simulations.robustness.measuring import (
    RESAMPLES,
    Looker,
    Outcome,
    measure_all,
    open_looker,
)
from veilface_simulations.robustness.page import render
from veilface_simulations.robustness.plots import percent_cell
from veilface_simulations.robustness.record import (
    RECORD,
    Definition,
    Robustness,
)
from veilface_simulations.robustness.relative import against
from veilface_simulations.robustness.scenes import Cropped, Eye, Scenes, Sought, choose
from veilface_simulations.sources import KINDS_HELP, open_any

PAGE = "robustness.html"
PEOPLE = 300
MOST_PEOPLE = 5000  # scores of every probe with everybody are held at once: 600 MB of them
RATE = 0.01
_PACKAGES = ("veilface", "torch", "numpy", "opencv-python-headless", "pillow")


def add_robustness(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a run's model/")
    parser.add_argument("--data", required=True, metavar="SOURCE", help=KINDS_HELP)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help=f"for {PAGE} and {RECORD.name}"
    )
    parser.add_argument(
        "--baseline", type=Path, metavar="DIR", help="another model, for relative errors"
    )
    parser.add_argument(
        "--detector",
        metavar="KIND",
        help=f"{DETECTORS_HELP}; else faces are where the set has them",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=RATE,
        metavar="R",
        help=f"false match rate on clean faces: {RATE:g}",
    )
    parser.add_argument(
        "--people", type=int, default=PEOPLE, metavar="N", help=f"drawn by the seed: {PEOPLE}"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")


def run_robustness(arguments: argparse.Namespace) -> int:
    """Measure, write the page and the file, print the figures, and return the exit code.

    Raises:
        ConfigError: a setting cannot be used, or there is something in the folder.
        DataError: the faces are too few.
        ArtifactError: a model cannot be read.
    """
    _verify(arguments)
    torch.set_num_threads(1)
    try:
        found = _measured(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("veilface-sim: stopped; nothing was written\n")
        return INTERRUPTED
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out / PAGE, render(found).encode(), mode=PUBLIC)
    RECORD.save(found, arguments.out)  # last: who finds it finds both
    _print(found, arguments.out)
    return 0


def _verify(arguments: argparse.Namespace) -> None:
    if arguments.out.exists() and not arguments.out.is_dir():
        raise ConfigError(f"expected a folder at {arguments.out}, got a file")
    if arguments.out.exists() and any(arguments.out.iterdir()):
        raise ConfigError(f"expected no folder {arguments.out} yet, or an empty one")
    if not 0 < arguments.rate < 1:
        raise ConfigError(f"expected --rate in (0, 1), got {arguments.rate:g}")
    if not 2 <= arguments.people <= MOST_PEOPLE:
        raise ConfigError(f"expected --people in [2, {MOST_PEOPLE}], got {arguments.people}")
    if arguments.seed < 0:
        raise ConfigError(f"expected --seed of at least 0, got {arguments.seed}")


def _measured(arguments: argparse.Namespace) -> Robustness:
    started, clock = datetime.now(UTC), time.monotonic()
    folders = [arguments.model, *filter(None, [arguments.baseline])]
    lookers = [open_looker(folder) for folder in folders]
    source = open_any(
        arguments.data, seed=arguments.seed, purpose="evaluate", pixels=canvas_pixels(PIXELS)
    )
    eye: Eye = Cropped(source.crop)
    if arguments.detector is not None:
        eye = Sought(open_detector(arguments.detector))
    with TerminalDisplay(Console(stderr=True)) as display:
        scenes = choose(
            source,
            eye,
            people=arguments.people,
            seed=arguments.seed,
            progress=lambda done, total: display.working("reading people", done, total),
        )
        outcomes = measure_all(
            lookers,
            scenes,
            eye,
            rate=arguments.rate,
            seed=arguments.seed,
            progress=lambda done, total: display.working("perturbing", done, total),
        )
    return _collected(
        arguments, lookers, scenes, outcomes, started=started, seconds=time.monotonic() - clock
    )


def _collected(
    arguments: argparse.Namespace,
    lookers: list[Looker],
    scenes: Scenes,
    outcomes: tuple[Outcome, ...],
    *,
    started: datetime,
    seconds: float,
) -> Robustness:
    model, *others = outcomes
    baseline = others[0] if others else None
    return Robustness(
        perturbations=tuple(map(_definition, model.measured.perturbations())),
        model=model.measured,
        baseline=None if baseline is None else baseline.measured,
        relative=None if baseline is None else against(model.conditions, baseline.conditions),
        data=arguments.data,
        detector=arguments.detector,
        rate=arguments.rate,
        people=len(scenes.references),
        probes=len(scenes.probes),
        impostor_pairs=len(scenes.probes) * (len(scenes.references) - 1),
        resamples=RESAMPLES,
        seed=arguments.seed,
        warnings=(*scenes.warnings, *_trained_on_it(lookers, arguments.data)),
        versions={"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        command=command_line(),
        started=started.isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
    )


def _definition(name: str) -> Definition:
    kind = PERTURBATIONS[name]
    return Definition(name=name, meaning=kind.meaning, amounts=kind.amounts)


def _trained_on_it(lookers: list[Looker], data: str) -> list[str]:
    """Warn of models that may know these people; drawn ones are others than those trained on."""
    if data.startswith("drawn:"):
        return []
    return [
        f"{looker.name} was trained on {data}: its figures flatter where these are the same people"
        for looker in lookers
        if looker.manifest.training.get("data") == data
    ]


def _print(found: Robustness, folder: Path) -> None:
    for warning in found.warnings:
        print(f"veilface-sim: warning: {one_line(warning)}", file=sys.stderr)
    model, clean = found.model, found.model.clean
    print(f"{'':<16} TAR in % at levels 1 to 5 {'':>8} highest FMR, EER")
    worst = _two(clean.false_match_rate, clean.eer)
    print(f"{'clean':<16} {percent_cell(clean.tar):>5} {'':>28} {worst}")
    for kind in found.perturbations:
        rates = model.levels_of(kind.name)
        tars = " ".join(f"{percent_cell(one.tar):>5}" for one in rates)
        fmr, eer = max(one.false_match_rate for one in rates), max(one.eer for one in rates)
        lost = max(one.failures for one in rates)
        failed = f"   not found: up to {lost:.0%}" if lost else ""
        print(f"{kind.name:<16} {tars} {'':>4} {_two(fmr, eer)}{failed}")
    if model.mean_relative_loss is not None:
        print(f"mean relative loss {model.mean_relative_loss:.1%}")
    if found.relative is not None and found.relative.mean_relative_error is not None:
        print(f"mean relative error {found.relative.mean_relative_error:.3f} of the baseline's")
    print(f"report: {folder / PAGE}")


def _two(fmr: float, eer: float) -> str:
    return f"{percent_cell(fmr):>5}  {percent_cell(eer):>5}"
