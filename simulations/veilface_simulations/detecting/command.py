"""`veilface-sim detector`: train the network that finds faces in videos, and measure it."""

from __future__ import annotations

import argparse
import sys
import typing
from pathlib import Path

import torch
from rich.console import Console

from veilface_common.errors import ConfigError
from veilface_common.models.heatmap import Name
from veilface_simulations.clips.opening import CLIPS_HELP
from veilface_simulations.detecting.evaluate_command import add_evaluate, run_evaluate
from veilface_simulations.detecting.training import Plan, read_plan, train
from veilface_simulations.display import TerminalDisplay
from veilface_simulations.options import stopped

NETWORKS = typing.get_args(Name)


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_train(commands.add_parser("train", help="train a detector on generated clips"))
    add_evaluate(commands.add_parser("evaluate", help="measure detectors, side by side"))


def run_detector(arguments: argparse.Namespace) -> int:
    """Train or measure, and return the exit code.

    Raises:
        VeilfaceError: a setting, a file or the training cannot be used.
    """
    return {"train": _train, "evaluate": run_evaluate}[arguments.action](arguments)


def _add_train(parser: argparse.ArgumentParser) -> None:
    usual = Plan(data="")
    parser.add_argument(
        "--data", metavar="SOURCES", help=f"{CLIPS_HELP}; several, with commas, take turns"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new folder for the networks")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="continue the training in DIR")
    parser.add_argument(
        "--network",
        default="rnn",
        metavar="LIST",
        help=f"some of {','.join(NETWORKS)}, on the same clips; default: rnn",
    )
    parser.add_argument(
        "--steps", type=int, default=usual.steps, metavar="N", help=f"default: {usual.steps}"
    )
    parser.add_argument(
        "--start", default="", metavar="DIR", help="another training's folder, to go on from there"
    )
    parser.add_argument("--seed", type=int, default=usual.seed, metavar="S", help="default: 0")


def _train(arguments: argparse.Namespace) -> int:
    plan, folder = _resumed(arguments) if arguments.resume else _started(arguments)
    torch.set_num_threads(1)
    label = f"training {','.join(plan.networks)}"
    try:
        with TerminalDisplay(Console(stderr=True)) as display:
            train(plan, folder, lambda done, total: display.working(label, done, total))
    except KeyboardInterrupt:
        return stopped("detector train", folder)
    for name in plan.networks:
        sys.stdout.write(f"{name}: {folder / name}.onnx\n")
    return 0


def _started(arguments: argparse.Namespace) -> tuple[Plan, Path]:
    if not (arguments.data and arguments.out):
        raise ConfigError(
            "expected --data and --out, or --resume", hint="veilface-sim detector train --help"
        )
    folder = arguments.out
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"expected no folder {folder} yet, or an empty one", hint="--resume continues one"
        )
    names = arguments.network.split(",")
    if not set(names) <= set(NETWORKS):
        raise ConfigError(f"expected some of {','.join(NETWORKS)}, got {arguments.network!r}")
    plan = Plan(
        data=arguments.data,
        networks=tuple(typing.cast("list[Name]", names)),
        steps=arguments.steps,
        seed=arguments.seed,
        start=arguments.start,
    )
    folder.mkdir(parents=True, exist_ok=True)
    return plan, folder


def _resumed(arguments: argparse.Namespace) -> tuple[Plan, Path]:
    if arguments.data or arguments.out:
        raise ConfigError("expected --resume alone: the folder holds all settings")
    return read_plan(arguments.resume), arguments.resume
