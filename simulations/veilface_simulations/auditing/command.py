"""`veilface-sim audit`: is the claimed epsilon contradicted by anything that can be measured?

Exit codes: 0 nothing contradicts the claim, 1 something does; others as of every command.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console

from veilface_common.budget.events import UNITS
from veilface_common.errors import ConfigError
from veilface_common.files import PUBLIC, write_atomically
from veilface_simulations.auditing.audit import (
    Audit,
    Settings,
    Target,
    audit,
    target_at_defaults,
)
from veilface_simulations.auditing.faults import FAULTS
from veilface_simulations.auditing.inversion import attack_a_face
from veilface_simulations.auditing.of_run import target_of_run
from veilface_simulations.auditing.page import render
from veilface_simulations.auditing.record import FILE_NAME, Record, save_record, to_json
from veilface_simulations.display import TerminalDisplay
from veilface_simulations.experiment import SETTINGS
from veilface_simulations.options import command_line
from veilface_simulations.results import load_result
from veilface_simulations.run_report import write_run_report

CAUGHT = 1
HTML = "audit.html"
_DEFAULT = Settings()
_OF_THE_RUN = ("epsilon", "delta", "unit", "sample_rate", "broken", "out")


def add_audit(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command; what is left out depends on whether a run is named."""
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="audit the plan of this run; add it to its report"
    )
    parser.add_argument("--canaries", type=int, metavar="M", help="default: 1000")
    parser.add_argument("--steps", type=int, metavar="T", help="private steps: 2")
    parser.add_argument("--epsilon", type=float, metavar="E", help="claim to test: 2")
    parser.add_argument("--delta", type=float, metavar="D", help="at: 1e-5")
    parser.add_argument("--unit", choices=UNITS, help="whom it speaks of: identity")
    parser.add_argument(
        "--sample-rate", type=float, metavar="Q", help="units that a step takes: 1, all"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument(
        "--break", choices=tuple(FAULTS), dest="broken", help="plant a fault, to be caught"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"write {HTML} and {FILE_NAME}")


def run_audit(arguments: argparse.Namespace) -> int:
    """Audit, print and write the result, and return the exit code."""
    if arguments.out and (arguments.out / SETTINGS).exists():
        raise ConfigError(
            f"expected a folder of its own for the audit, got the run in {arguments.out}",
            hint=f"--run {arguments.out} audits that run",
        )
    torch.set_num_threads(1)
    with TerminalDisplay(Console(stderr=True)) as display:
        target = _target(arguments)
        found = audit(target, display.working)
        if arguments.run:
            show_in_run(found.record, arguments.run)
        if arguments.out:
            _write(found, target, arguments.out, display)
    record = found.record
    print(json.dumps(to_json(record), indent=2) if arguments.json else _text(record))
    return 0 if record.passed else CAUGHT


def show_in_run(record: Record, folder: Path) -> None:
    """Write the record into a run's folder, and the run's report anew.

    Raises:
        ArtifactError: the run's result cannot be read.
    """
    result = load_result(folder)
    save_record(record, folder)
    write_run_report(result, folder)


def _target(arguments: argparse.Namespace) -> Target:
    given = {name: getattr(arguments, name) for name in _OF_THE_RUN}
    named = [name for name, value in given.items() if value is not None]
    if arguments.run is None:
        wanted = {**given, "canaries": arguments.canaries, "steps": arguments.steps}
        del wanted["out"]
        chosen = {name: value for name, value in wanted.items() if value is not None}
        return target_at_defaults(Settings(seed=arguments.seed, **chosen))
    if "broken" in named:
        raise ConfigError(
            "expected --run without --break: a planted fault is not the run's",
            hint="leave --run out; the fault is then planted in the step at its defaults",
        )
    if named:
        option = "--" + named[0].replace("_", "-")
        raise ConfigError(
            f"expected --run without {option}: the run says what is audited and where it goes",
            hint="--canaries, --steps and --seed say how closely",
        )
    return target_of_run(
        arguments.run, canaries=arguments.canaries, steps=arguments.steps, seed=arguments.seed
    )


def _write(found: Audit, target: Target, folder: Path, display: TerminalDisplay) -> None:
    pictures = attack_a_face(
        target.subject.fault,
        target.subject.plan.noise_multiplier,
        target.plan.seed,
        lambda done, total: display.working("gradient inversion", done, total),
    )
    folder.mkdir(parents=True, exist_ok=True)
    html = render(found, pictures, command_line())
    write_atomically(folder / HTML, html.encode(), mode=PUBLIC)
    save_record(found.record, folder)


def _text(record: Record) -> str:
    claimed, measured, members = record.claimed, record.measured, record.membership
    audited = record.audited
    lines = [
        *_of_run(record),
        ("claimed", f"epsilon {claimed.epsilon:.2f} at delta {claimed.delta:g}, {claimed.unit}"),
        ("", f"of {audited.steps} steps, each taking {audited.sample_rate:g} of the units"),
        ("measured", f"epsilon {measured.epsilon:.2f} at least, at {measured.confidence:.0%}"),
        ("", f"{measured.correct} of {measured.guesses} guesses were right"),
        ("", f"{measured.canaries} canaries can show {measured.resolving_power:.2f} at most"),
        ("", f"a canary gives {record.contribution:.2g} of the clipping norm (median)"),
        ("members", f"AUC {members.auc:.3f}"),
        ("", f"found at 1% false alarms: {members.tpr_at_fpr_1e_2:.1%}"),
        ("", f"the claim allows {members.allowed_at_fpr_1e_2:.1%}"),
        *((_word(check.passed), f"{check.name}: {check.detail}") for check in record.checks),
        (
            _word(record.passed),
            "nothing contradicts the claim" if record.passed else "the claim does not hold",
        ),
    ]
    return "\n".join(f"{word:<9} {text}" for word, text in lines)


def _of_run(record: Record) -> list[tuple[str, str]]:
    audited = record.audited
    if audited.run_epsilon is None:
        return []
    return [
        ("run", f"claims epsilon {audited.run_epsilon:.2f} for all that it released"),
        (
            "",
            f"audited: {audited.steps} of {audited.planned_steps} steps; what follows is of these",
        ),
    ]


def _word(passed: bool) -> str:  # noqa: FBT001 -- read as a sentence
    return "pass" if passed else "FAIL"
