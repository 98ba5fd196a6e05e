"""The command `veilface-sim`: whole federations on one machine."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
from rich.console import Console

from veilface_client.evaluation import embed_faces
from veilface_client.private import calibrated
from veilface_common.artifact import load_manifest, load_model
from veilface_common.budget.events import UNITS
from veilface_common.config import RunConfig, from_flat, to_flat
from veilface_common.errors import ConfigError, VeilfaceError
from veilface_common.files import PUBLIC, write_atomically
from veilface_common.metrics import evaluate
from veilface_simulations import experiment as experiments
from veilface_simulations.compare import compare, compare_html, load_runs
from veilface_simulations.display import TerminalDisplay
from veilface_simulations.experiment import (
    ARMS,
    ENGINES,
    PRESETS,
    PUBLIC_FACES,
    USUAL_ARMS,
    Experiment,
)
from veilface_simulations.measuring import load_pairs, pairs_figures
from veilface_simulations.results import Result
from veilface_simulations.run import REPORT, Job, run, start
from veilface_simulations.sources import KINDS_HELP
from veilface_simulations.world import load_for_evaluation

INTERRUPTED = 130
UNEXPECTED = 70
_CACHE = ".veilface-cache"


class Parser(argparse.ArgumentParser):
    """Complains in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with the exit code of a bad setting."""
        raise ConfigError(message, hint=f"{self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    parser = Parser(prog="veilface-sim", description="Federations of organisations on one machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="train and measure a federation"))
    _add_evaluate(commands.add_parser("evaluate", help="measure a model on any people"))
    _add_compare(commands.add_parser("compare", help="put runs side by side"))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors are one line on standard error."""
    try:
        return _dispatch(build_parser().parse_args(arguments))
    except VeilfaceError as error:
        hint = f" (hint: {_one_line(error.hint)})" if error.hint else ""
        print(f"veilface-sim: {_one_line(str(error))}{hint}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"veilface-sim: {_one_line(str(error))}", file=sys.stderr)
        return UNEXPECTED


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
    commands = {"run": _run, "evaluate": _evaluate, "compare": _compare}
    return commands[arguments.command](arguments)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="SOURCE", help=KINDS_HELP)
    parser.add_argument(
        "--evaluate-on", metavar="SOURCE", help="other people to measure on; else some are held out"
    )
    parser.add_argument("--pairs", metavar="FILE", help="verification pairs in LFW's format")
    parser.add_argument("--organisations", type=int, default=4, metavar="N", help="default: 4")
    parser.add_argument(
        "--arms", default=",".join(USUAL_ARMS), metavar="LIST", help=f"some of {','.join(ARMS)}"
    )
    parser.add_argument(
        "--preset", choices=sorted(PRESETS), help="default: demo for drawn people, else faces"
    )
    parser.add_argument("--rounds", type=int, metavar="R", help="default: the preset's")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--engine", choices=ENGINES, default="flower", help="default: flower")
    parser.add_argument(
        "--privacy",
        choices=("none", *UNITS),
        default="none",
        help="whom the federated arm protects",
    )
    parser.add_argument("--epsilon", type=float, default=8.0, metavar="E", help="budget: 8")
    parser.add_argument("--delta", type=float, default=1e-5, metavar="D", help="at: 1e-5")
    parser.add_argument(
        "--public", default=PUBLIC_FACES, metavar="SOURCE", help="faces that are nobody's secret"
    )
    parser.add_argument("--init", metavar="MODEL", help="start from this model/ folder")
    parser.add_argument(
        "--seeded", action="store_true", help="noise from the seed: repeatable, protects nobody"
    )
    parser.add_argument(
        "--held-out", type=float, default=0.2, metavar="SHARE", help="people nobody trains on: 0.2"
    )
    parser.add_argument(
        "--skew", type=float, default=0.0, metavar="A", help="sizes by rank ** -A; 0: equal"
    )
    parser.add_argument(
        "--shared", type=float, default=0.0, metavar="SHARE", help="people at two organisations: 0"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="organisations that train at once: all cores"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the preset"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new folder for the run")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="continue the run in DIR")
    _add_cache(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a run's model/")
    parser.add_argument("--data", required=True, metavar="SOURCE", help=KINDS_HELP)
    parser.add_argument("--pairs", metavar="FILE", help="verification pairs in LFW's format")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    _add_cache(parser)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="folders of runs")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the same as a page")


def _add_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help=f"decoded faces: $VEILFACE_CACHE or {_CACHE}"
    )


def _run(arguments: argparse.Namespace) -> int:
    job = _resumed(arguments) if arguments.resume else _started(arguments)
    torch.set_num_threads(1)  # arms and organisations train side by side, one thread each
    try:
        with TerminalDisplay(Console(stderr=True)) as display:
            result = run(job, display)
    except KeyboardInterrupt:
        print(
            f"veilface-sim: stopped; what is done is kept. Continue with: "
            f"veilface-sim run --resume {shlex.quote(str(job.folder))}",
            file=sys.stderr,
        )
        return INTERRUPTED
    _print_result(result, job.folder)
    return 0


def _started(arguments: argparse.Namespace) -> Job:
    if not arguments.data or not arguments.out:
        raise ConfigError("expected --data and --out, or --resume", hint="veilface-sim run --help")
    name = arguments.preset or experiments.default_preset(arguments.data)
    experiment = Experiment(
        data=arguments.data,
        evaluate_on=arguments.evaluate_on,
        pairs=arguments.pairs,
        organisations=arguments.organisations,
        arms=tuple(filter(None, arguments.arms.split(","))),
        preset=name,
        engine=arguments.engine,
        held_out=arguments.held_out,
        skew=arguments.skew,
        shared=arguments.shared,
        workers=arguments.workers or os.cpu_count() or 1,
        epsilon=arguments.epsilon,
        delta=arguments.delta,
        public=arguments.public,
        initial=arguments.init,
        seeded=arguments.seeded,
        config=_config(arguments, name),
    )
    job = Job(
        experiment=experiment,
        folder=arguments.out,
        cache=_cache(arguments),
        command=shlex.join(["veilface-sim", *sys.argv[1:]]),
    )
    start(job)
    return job


def _resumed(arguments: argparse.Namespace) -> Job:
    if arguments.data or arguments.out:
        raise ConfigError("expected --resume alone: the folder holds all settings")
    experiment, command = experiments.load_experiment(arguments.resume)
    return Job(
        experiment=experiment, folder=arguments.resume, cache=_cache(arguments), command=command
    )


def _config(arguments: argparse.Namespace, name: str) -> RunConfig:
    """Return the preset, with what the command line sets in its place."""
    settings = dict(to_flat(experiments.preset(name)))
    settings |= {"seed": arguments.seed, "device": arguments.device}
    settings["privacy.unit"] = arguments.privacy
    if arguments.init:
        manifest = load_manifest(Path(arguments.init))
        settings |= {"initial": manifest.sha256, **to_flat(manifest.model, "model.")}
    if arguments.rounds is not None:
        settings["federation.rounds"] = arguments.rounds
    for entry in arguments.set:
        key, equals, value = entry.partition("=")
        if not equals:
            raise ConfigError(f"expected --set KEY=VALUE, got {entry!r}")
        settings[key] = value
    config = from_flat(RunConfig, settings)
    if config.privacy.unit == "none":
        return config
    private = calibrated(
        config.privacy,
        rounds=config.federation.rounds,
        epsilon=arguments.epsilon,
        delta=arguments.delta,
    )
    return dataclasses.replace(config, privacy=private)


def _evaluate(arguments: argparse.Namespace) -> int:
    network, manifest = load_model(arguments.model)
    with TerminalDisplay(Console(stderr=True)) as display:
        faces = load_for_evaluation(
            arguments.data,
            seed=arguments.seed,
            pixels=manifest.model.pixels,
            cache=_cache(arguments),
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
        print(f"veilface-sim: warning: {_one_line(warning)}", file=sys.stderr)
    if result.initial is not None:
        tar = _share(result.initial.tar_at_far["1e-2"])
        print(f"{'start':<16} EER {result.initial.eer:6.1%}   TAR@FAR 1e-2 {tar}")
    for arm in result.arms:
        name = f"{arm.arm} {arm.organisation or ''}".strip()
        tar = _share(arm.figures.tar_at_far["1e-2"])
        spent = f"   epsilon {arm.privacy.epsilon:.2f}" if arm.privacy else ""
        print(f"{name:<16} EER {arm.eer:6.1%}   TAR@FAR 1e-2 {tar}{spent}")
    if result.gap_closed is not None:
        print(f"federated training closes {result.gap_closed:.0%} of the gap from local to pooled")
    print(f"report: {folder / REPORT}")


def _share(value: float | None) -> str:
    return "too few pairs" if value is None else f"{value:.1%}"


def _cache(arguments: argparse.Namespace) -> Path:
    return Path(arguments.cache or os.environ.get("VEILFACE_CACHE") or _CACHE)


def _one_line(text: str) -> str:
    return " ".join(text.split())
