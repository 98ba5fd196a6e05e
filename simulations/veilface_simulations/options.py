"""What the commands `run` and `sweep` share: options, what they ask for, and how they stop."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from veilface_common.artifact import load_manifest
from veilface_common.config import RunConfig
from veilface_common.errors import ConfigError
from veilface_common.presets import PRESETS, configured, preset
from veilface_simulations import experiment as experiments
from veilface_simulations.experiment import (
    ENGINES,
    PUBLIC_FACES,
    Experiment,
)
from veilface_simulations.sources import KINDS_HELP

INTERRUPTED = 130
_CACHE = ".veilface-cache"


def add_federation(parser: argparse.ArgumentParser) -> None:
    """Add the options that say who trains on what; arms and privacy are the command's own."""
    parser.add_argument("--data", metavar="SOURCE", help=KINDS_HELP)
    parser.add_argument(
        "--evaluate-on", metavar="SOURCE", help="other people to measure on; else some are held out"
    )
    parser.add_argument("--pairs", metavar="FILE", help="verification pairs in LFW's format")
    parser.add_argument("--organisations", type=int, default=4, metavar="N", help="default: 4")
    parser.add_argument(
        "--preset", choices=sorted(PRESETS), help="default: demo for drawn people, else faces"
    )
    parser.add_argument("--rounds", type=int, metavar="R", help="default: the preset's")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--engine", choices=ENGINES, default="flower", help="default: flower")


def add_details(parser: argparse.ArgumentParser) -> None:
    """Add the options that come after those of privacy."""
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
    add_cache(parser)


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where decoded faces are kept."""
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help=f"decoded faces: $VEILFACE_CACHE or {_CACHE}"
    )


def cache_folder(arguments: argparse.Namespace) -> Path:
    """Return where decoded faces are kept."""
    return Path(arguments.cache or os.environ.get("VEILFACE_CACHE") or _CACHE)


def verify_start(arguments: argparse.Namespace) -> None:
    """Do nothing if the options start something new or resume something, and not both.

    Raises:
        ConfigError: they do neither, or both.
    """
    if arguments.resume and (arguments.data or arguments.out):
        raise ConfigError("expected --resume alone: the folder holds all settings")
    if not arguments.resume and not (arguments.data and arguments.out):
        raise ConfigError(
            "expected --data and --out, or --resume",
            hint=f"veilface-sim {arguments.command} --help",
        )


def experiment_from(arguments: argparse.Namespace) -> Experiment:
    """Return what the options ask for, with the usual arms; the noise is not calibrated yet.

    Raises:
        ConfigError: a setting cannot be used.
        ArtifactError: the model to start from cannot be read.
    """
    name = arguments.preset or experiments.default_preset(arguments.data)
    return Experiment(
        data=arguments.data,
        evaluate_on=arguments.evaluate_on,
        pairs=arguments.pairs,
        organisations=arguments.organisations,
        preset=name,
        engine=arguments.engine,
        held_out=arguments.held_out,
        skew=arguments.skew,
        shared=arguments.shared,
        workers=arguments.workers or os.cpu_count() or 1,
        delta=arguments.delta,
        public=arguments.public,
        initial=arguments.init,
        seeded=arguments.seeded,
        config=_config(arguments, name),
    )


def command_line() -> str:
    """Return the command that was given, as a shell reads it."""
    return shlex.join(["veilface-sim", *sys.argv[1:]])


def stopped(command: str, folder: Path) -> int:
    """Say how to go on after Ctrl-C, and return the exit code."""
    sys.stderr.write(
        f"veilface-sim: stopped; what is done is kept. Continue with: "
        f"veilface-sim {command} --resume {shlex.quote(str(folder))}\n"
    )
    return INTERRUPTED


def _config(arguments: argparse.Namespace, name: str) -> RunConfig:
    """Return the preset, with what the command line sets in its place."""
    manifest = load_manifest(Path(arguments.init)) if arguments.init else None
    return configured(
        preset(name),
        unit=arguments.privacy,
        initial=None if manifest is None else (manifest.sha256, manifest.model),
        rounds=arguments.rounds,
        settings={"seed": arguments.seed, "device": arguments.device},
        overrides=arguments.set,
    )
