"""The command `veilface-sim`: whole federations on one machine."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
from rich.console import Console

from veilface_client.evaluation import embed_faces
from veilface_common.artifact import load_model
from veilface_common.budget.events import UNITS
from veilface_common.command import Parser, one_line, run_command
from veilface_common.files import PUBLIC, write_atomically
from veilface_common.metrics import evaluate
from veilface_simulations.auditing.command import add_audit, run_audit
from veilface_simulations.compare import compare, compare_html, load_runs
from veilface_simulations.detecting.command import add_detector, run_detector
from veilface_simulations.display import TerminalDisplay
from veilface_simulations.draw_command import add_draw, run_draw
from veilface_simulations.experiment import (
    ARMS,
    USUAL_ARMS,
    calibrate,
    load_experiment,
    with_figures,
)
from veilface_simulations.film_command import add_film, run_film
from veilface_simulations.film_report.command import add_film_report, run_film_report
from veilface_simulations.measuring import load_pairs, pairs_figures
from veilface_simulations.options import (
    add_cache,
    add_details,
    add_federation,
    cache_folder,
    command_line,
    experiment_from,
    stopped,
    verify_start,
)
from veilface_simulations.results import Result
from veilface_simulations.robustness.command import add_robustness, run_robustness
from veilface_simulations.run import REPORT, Job, run, start
from veilface_simulations.sources import KINDS_HELP
from veilface_simulations.sweep_command import add_sweep, run_sweep
from veilface_simulations.tracking.command import add_tracks, run_tracks
from veilface_simulations.world import load_for_evaluation


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    parser = Parser(prog="veilface-sim", description="Federations of organisations on one machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="train and measure a federation"))
    _add_evaluate(commands.add_parser("evaluate", help="measure a model on any people"))
    _add_compare(commands.add_parser("compare", help="put runs side by side"))
    add_sweep(commands.add_parser("sweep", help="draw what joining buys against epsilon"))
    add_audit(commands.add_parser("audit", help="test whether the claimed privacy holds"))
    add_robustness(
        commands.add_parser("robustness", help="measure a model in bad light, noise and blur")
    )
    add_detector(
        commands.add_parser("detector", help="train what finds faces in videos, and measure it")
    )
    add_tracks(
        commands.add_parser("tracks", help="measure one template for several frames of a face")
    )
    add_draw(commands.add_parser("draw", help="photographs of people who do not exist"))
    add_film(commands.add_parser("film", help="a video of people who do not exist"))
    add_film_report(
        commands.add_parser("film-report", help="such a video, watched and hidden, as a page")
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors are one line on standard error."""
    return run_command("veilface-sim", lambda: _dispatch(build_parser().parse_args(arguments)))


def entry() -> NoReturn:
    """Run the command as a program of its own.

    After Ctrl-C, or when an organisation hangs, threads may be deep in PyTorch. The interpreter's
    ordinary end stops such a thread where it next wants Python, and C++ then aborts the process:
    another exit code than the one promised. So with threads left over the process ends at once;
    everything that matters is on disk, written atomically.
    """
    code = main()
    left = any(t.daemon and t is not threading.current_thread() for t in threading.enumerate())
    if not left:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _dispatch(arguments: argparse.Namespace) -> int:
    commands = {
        "run": _run,
        "evaluate": _evaluate,
        "compare": _compare,
        "sweep": run_sweep,
        "audit": run_audit,
        "robustness": run_robustness,
        "detector": run_detector,
        "tracks": run_tracks,
        "draw": run_draw,
        "film": run_film,
        "film-report": run_film_report,
    }
    return commands[arguments.command](arguments)


def _add_run(parser: argparse.ArgumentParser) -> None:
    add_federation(parser)
    parser.add_argument(
        "--arms", default=",".join(USUAL_ARMS), metavar="LIST", help=f"some of {','.join(ARMS)}"
    )
    parser.add_argument(
        "--privacy",
        choices=("none", *UNITS),
        default="none",
        help="whom the federated arm protects",
    )
    parser.add_argument("--epsilon", type=float, default=8.0, metavar="E", help="budget: 8")
    parser.add_argument(
        "--evaluation-noise",
        type=float,
        metavar="SIGMA",
        help="organisations report noised scores, out of the same budget; not by default",
    )
    add_details(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a run's model/")
    parser.add_argument("--data", required=True, metavar="SOURCE", help=KINDS_HELP)
    parser.add_argument("--pairs", metavar="FILE", help="verification pairs in LFW's format")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    add_cache(parser)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="folders of runs")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the same as a page")


def _run(arguments: argparse.Namespace) -> int:
    verify_start(arguments)
    job = _resumed(arguments) if arguments.resume else _started(arguments)
    torch.set_num_threads(1)  # arms and organisations train side by side, one thread each
    try:
        with TerminalDisplay(Console(stderr=True)) as display:
            result = run(job, display)
    except KeyboardInterrupt:
        return stopped("run", job.folder)
    _print_result(result, job.folder)
    return 0


def _started(arguments: argparse.Namespace) -> Job:
    experiment = dataclasses.replace(
        experiment_from(arguments),
        arms=tuple(filter(None, arguments.arms.split(","))),
        epsilon=arguments.epsilon,
    )
    if arguments.evaluation_noise is not None:
        experiment = with_figures(experiment, arguments.evaluation_noise)
    job = Job(
        experiment=calibrate(experiment),
        folder=arguments.out,
        cache=cache_folder(arguments),
        command=command_line(),
    )
    start(job)
    return job


def _resumed(arguments: argparse.Namespace) -> Job:
    experiment, command = load_experiment(arguments.resume)
    return Job(
        experiment=experiment,
        folder=arguments.resume,
        cache=cache_folder(arguments),
        command=command,
    )


def _evaluate(arguments: argparse.Namespace) -> int:
    network, manifest = load_model(arguments.model)
    with TerminalDisplay(Console(stderr=True)) as display:
        faces = load_for_evaluation(
            arguments.data,
            seed=arguments.seed,
            pixels=manifest.model.pixels,
            cache=cache_folder(arguments),
            progress=display.reading,
        )
    templates = embed_faces(network, manifest.model, faces)
    figures = evaluate(templates, faces.people, seed=arguments.seed)
    protocol = pairs_figures(templates, faces, load_pairs(arguments.pairs))
    for warning in faces.warnings:
        print(f"veilface-sim: warning: {warning}", file=sys.stderr)
    if arguments.json:
        pairs = None if protocol is None else dataclasses.asdict(protocol)
        print(json.dumps({**figures.to_json(), "pairs": pairs, "warnings": list(faces.warnings)}))
    else:
        tar = ", ".join(f"TAR@FAR {rate} {_share(v)}" for rate, v in figures.tar_at_far.items())
        print(f"EER {figures.eer:.1%}, {tar}, rank-1 {figures.rank1:.1%}")
        if protocol is not None:
            error = f"{protocol.accuracy:.1%} +- {protocol.standard_error:.1%}"
            print(f"LFW's verification pairs: {error} correct")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    runs = load_runs(arguments.runs)
    print(compare(runs))
    if arguments.html:
        write_atomically(arguments.html, compare_html(runs).encode(), mode=PUBLIC)
    return 0


def _print_result(result: Result, folder: Path) -> None:
    for warning in result.warnings:
        print(f"veilface-sim: warning: {one_line(warning)}", file=sys.stderr)
    if result.initial is not None:
        tar = _share(result.initial.tar_at_far["1e-2"])
        print(f"{'start':<16} EER {result.initial.eer:6.1%}   TAR@FAR 1e-2 {tar}")
    for arm in result.arms:
        name = f"{arm.arm} {arm.organisation or ''}".strip()
        tar = _share(arm.figures.tar_at_far["1e-2"])
        spent = f"   epsilon {arm.privacy.epsilon:.2f}" if arm.privacy else ""
        print(f"{name:<16} EER {arm.eer:6.1%}   TAR@FAR 1e-2 {tar}{spent}")
        if arm.reported is not None:
            said = arm.reported
            print(
                f"{'  as reported':<16} EER {said.eer:6.1%}   ({said.low:.1%} to {said.high:.1%})"
            )
    if result.gap_closed is not None:
        print(f"federated training closes {result.gap_closed:.0%} of the gap from local to pooled")
    print(f"report: {folder / REPORT}")


def _share(value: float | None) -> str:
    return "too few pairs" if value is None else f"{value:.1%}"
