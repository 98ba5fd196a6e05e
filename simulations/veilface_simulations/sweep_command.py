"""`veilface-sim sweep`: what does joining buy, at which price?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from veilface_common.budget.events import UNITS
from veilface_common.command import one_line
from veilface_common.files import PUBLIC, write_atomically
from veilface_simulations import sweep as sweeps
from veilface_simulations.display import TerminalDisplay
from veilface_simulations.findings import percent
from veilface_simulations.options import (
    add_details,
    add_federation,
    cache_folder,
    command_line,
    experiment_from,
    stopped,
    verify_start,
)
from veilface_simulations.run import Job
from veilface_simulations.sweep import Level, Sweep
from veilface_simulations.sweep_page import render

PAGE = "sweep.html"
_EPSILONS = "2,4,8,inf"


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_federation(parser)
    parser.add_argument(
        "--privacy", choices=UNITS, default="identity", help="whom the federation protects"
    )
    parser.add_argument(
        "--epsilon",
        type=sweeps.parse_epsilons,
        default=_EPSILONS,
        metavar="LIST",
        help=f"budgets to compare; inf: without privacy; default: {_EPSILONS}",
    )
    add_details(parser)


def run_sweep(arguments: argparse.Namespace) -> int:
    """Train and measure the federation at each epsilon, and write and print what it bought."""
    verify_start(arguments)
    folder: Path = arguments.resume or arguments.out
    jobs = _resumed(arguments) if arguments.resume else _started(arguments)
    torch.set_num_threads(1)  # arms and organisations train side by side, one thread each
    try:
        found = _finish(jobs)
    except KeyboardInterrupt:
        return stopped("sweep", folder)
    write_atomically(folder / PAGE, render(found).encode(), mode=PUBLIC)
    sweeps.RECORD.save(found, folder)
    _print_sweep(found)
    print(f"report: {folder / PAGE}")
    return 0


def _started(arguments: argparse.Namespace) -> tuple[Job, ...]:
    job = Job(
        experiment=experiment_from(arguments),
        folder=arguments.out,
        cache=cache_folder(arguments),
        command=command_line(),
    )
    jobs = sweeps.plan_sweep(job, arguments.epsilon)
    sweeps.start_sweep(job.folder, jobs)
    return jobs


def _resumed(arguments: argparse.Namespace) -> tuple[Job, ...]:
    return sweeps.load_jobs(arguments.resume, cache_folder(arguments))


def _finish(jobs: Sequence[Job]) -> Sweep:
    found = []
    for number, job in enumerate(jobs, 1):
        print(f"{job.folder.name}: run {number} of {len(jobs)}", file=sys.stderr)
        with TerminalDisplay(Console(stderr=True)) as display:
            found.append(sweeps.finish(job, display))
    return sweeps.collect(jobs, found)


def _print_sweep(found: Sweep) -> None:
    for warning in found.warnings:
        print(f"veilface-sim: warning: {one_line(warning)}", file=sys.stderr)
    if found.initial is not None:
        print(_line("start", found.initial))
    for point in found.points:
        noise = "" if point.noise_multiplier is None else f"   noise {point.noise_multiplier:g}"
        print(_line(f"epsilon {point.name}", point) + noise)
    print(_line("each alone, mean", found.local))
    print(_line("all in one place", found.central))


def _line(name: str, level: Level) -> str:
    tar = percent(level.tar_at_far.get("1e-2"))
    return f"{name:<16} EER {level.eer:6.1%}   TAR@FAR 1e-2 {tar:>6}"
