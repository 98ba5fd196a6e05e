"""`train` and `stop`: what the operator wants of the federation."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from veilface_common.budget.events import UNITS
from veilface_common.config import RunConfig
from veilface_common.errors import ConfigError, EngineError, FederationError
from veilface_common.presets import PRESETS, USUAL_PRESET, configured, preset
from veilface_server import runs
from veilface_server.checkpoint import RoundRecord, load_records, save_initial
from veilface_server.commands.opening import now, opened
from veilface_server.home import Home
from veilface_server.link import link_pid, verify_running
from veilface_server.register import load_members
from veilface_server.runs import Run, load_run, load_runs

if TYPE_CHECKING:  # it brings PyTorch with it, which takes seconds
    from veilface_common.artifact import Manifest
    from veilface_common.tensors import Tensors

_POLL_SECONDS = 0.5
_HANDOVER_SECONDS = 60.0
_LEAST_ORGANISATIONS = 2  # the sum over one organisation is that organisation's


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train`."""
    parser.add_argument("--rounds", type=int, metavar="R", help="default: the preset's")
    parser.add_argument(
        "--privacy", choices=UNITS, default="identity", help="whose data is hidden; identity"
    )
    parser.add_argument(
        "--epsilon", type=float, default=8.0, metavar="E", help="for all rounds; default: 8"
    )
    parser.add_argument("--delta", type=float, default=1e-5, metavar="D", help="default: 1e-5")
    parser.add_argument("--init", type=Path, metavar="MODEL", help="start from this model's folder")
    parser.add_argument("--preset", choices=sorted(PRESETS), help=f"default: {USUAL_PRESET}")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument(
        "--min-organisations", type=int, metavar="N", help="in a round; over half, at least 2"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the preset"
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with one that failed or was stopped")
    parser.add_argument("--wait", action="store_true", help="a line a round, until it ends")
    parser.set_defaults(run=_train)


def add_stop(parser: argparse.ArgumentParser) -> None:
    """Add the options of `stop`."""
    parser.add_argument("run_id", nargs="?", metavar="RUN", help="default: the one that goes on")
    parser.set_defaults(run=_stop)


def _train(arguments: argparse.Namespace) -> int:
    home, _ = opened(arguments)
    verify_running(home)
    if arguments.resume:
        run = runs.change_run(home, arguments.resume, runs.resumed)
    else:
        run = _new_run(arguments, home)
    ahead = [
        other.id for other in load_runs(home) if other.state in runs.OPEN and other.id != run.id
    ]
    print(f"run {run.id}", flush=True)
    if ahead:
        print(f"waits for run {ahead[0]}", flush=True)
    if arguments.wait:
        return _follow(home, run)
    if not ahead:
        _handed_over(home, run)
    return 0


def _new_run(arguments: argparse.Namespace, home: Home) -> Run:
    from veilface_common.budget.calibration import calibrated  # noqa: PLC0415 -- takes seconds

    for name in ("rounds", "min_organisations"):
        number = getattr(arguments, name)
        if number is not None and number < 1:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"expected {option} from 1 on, got {number}")
    model = _initial_model(arguments.init)
    config = _config(arguments, home, None if model is None else model[0])
    rounds = arguments.rounds or config.privacy.rounds or config.federation.rounds
    epsilon, delta = arguments.epsilon, arguments.delta
    private = calibrated(config.privacy, rounds=rounds, epsilon=epsilon, delta=delta)
    config = replace(
        config,
        privacy=replace(private, rounds=rounds),
        federation=replace(config.federation, rounds=rounds),
    )
    if model is not None:
        save_initial(runs.folder_of(home, config.run), model[1])
    return runs.create_run(home, config, epsilon=epsilon, delta=delta, now=now())


def _config(arguments: argparse.Namespace, home: Home, start: Manifest | None) -> RunConfig:
    members = [m for m in load_members(home.folder).values() if m.status == "member"]
    least = arguments.min_organisations or max(_LEAST_ORGANISATIONS, len(members) // 2 + 1)
    config = configured(
        preset(arguments.preset or USUAL_PRESET),
        unit=arguments.privacy,
        initial=None if start is None else (start.sha256, start.model),
        rounds=arguments.rounds,
        settings={"seed": arguments.seed, "federation.min-replies": least},
        overrides=arguments.set,
    )
    if config.privacy.unit == "none":
        raise ConfigError(
            "expected a unit of privacy, got none", hint="--privacy identity, or image"
        )
    config = replace(config, run=runs.new_name())  # last: another run's name would replace that run
    if len(members) < config.federation.min_replies:
        raise FederationError(
            f"expected at least {config.federation.min_replies} members, got {len(members)}",
            hint="veilface-server members; --min-organisations sets how many a round needs",
        )
    return config


def _initial_model(path: Path | None) -> tuple[Manifest, Tensors] | None:
    if path is None:
        return None
    from veilface_common.artifact import load_model  # noqa: PLC0415 -- brings PyTorch
    from veilface_common.models.weights import read_weights  # noqa: PLC0415 -- the same

    network, manifest = load_model(path)
    return manifest, read_weights(network)


def _handed_over(home: Home, run: Run) -> None:
    """Wait until Flower has the run."""
    deadline = time.monotonic() + _HANDOVER_SECONDS
    while time.monotonic() < deadline:
        known = load_run(home, run.id)
        if known.state == "failed" or known.error:
            raise EngineError(known.error, hint=f"see {home.log}")
        if known.state != "waiting":
            return
        time.sleep(_POLL_SECONDS)
    raise EngineError(
        f"expected Flower to take run {run.id} within {_HANDOVER_SECONDS:g} s",
        hint=f"see {home.log}; the run stays wanted: veilface-server stop {run.id}",
    )


def _follow(home: Home, run: Run) -> int:
    """Print a line for each round until the run ends."""
    folder = runs.folder_of(home, run.id)
    shown = 0
    rounds = run.config.federation.rounds
    waiting: tuple[str, ...] = ()
    try:
        while True:
            known = load_run(home, run.id)  # before the records: they are written first
            for record in load_records(folder):
                if record.round > shown:
                    shown = record.round
                    print(_line(record, rounds), flush=True)
            if known.state not in runs.OPEN:
                break
            waiting = _said_waiting(runs.load_outcome(folder), waiting)
            if link_pid(home) is None:
                raise EngineError(
                    f"the coordinator went away; run {run.id} goes on when it is started again",
                    hint=f"veilface-server --home {home.folder} start",
                )
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        sys.stderr.write(f"veilface-server: run {run.id} goes on; `stop {run.id}` would end it\n")
        return 130
    if known.state == "failed":
        raise FederationError(known.error, hint=f"veilface-server train --resume {run.id}")
    print(f"run {run.id}: {known.state}")
    return 0 if known.state == "finished" else 1


def _said_waiting(outcome: runs.Outcome | None, before: tuple[str, ...]) -> tuple[str, ...]:
    names = outcome.waiting_for if outcome is not None and outcome.state == "waiting" else ()
    if names and names != before:
        print(f"waits for {', '.join(names)}", flush=True)
    return names


def _line(record: RoundRecord, rounds: int) -> str:
    left = "".join(f"; without {name}: {why}" for name, why in sorted(record.left_out.items()))
    return (
        f"round {record.round} of {rounds}: {len(record.accepted)} organisations, "
        f"{record.seconds:.1f} s{left}"
    )


def _stop(arguments: argparse.Namespace) -> int:
    home, _ = opened(arguments)
    open_runs = [run.id for run in load_runs(home) if run.state in runs.OPEN]
    name = arguments.run_id or next(iter(open_runs), None)
    if name is None:
        raise ConfigError("expected a run that goes on, got none", hint="veilface-server status")
    run = runs.change_run(home, name, runs.stopped)
    if run.state == "stopping" and link_pid(home) is None:
        run = runs.change_run(home, name, lambda known: replace(known, state="stopped"))
    deadline = time.monotonic() + _HANDOVER_SECONDS
    while run.state == "stopping" and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        run = load_run(home, name)
    print(f"run {name}: {run.state}; what is done is kept (train --resume {name})")
    return 0
