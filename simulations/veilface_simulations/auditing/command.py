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
from veilface_common.files import PUBLIC, write_atomically
from veilface_simulations.auditing.audit import Audit, Settings, audit
from veilface_simulations.auditing.faults import FAULTS
from veilface_simulations.auditing.inversion import attack_a_face
from veilface_simulations.auditing.page import render
from veilface_simulations.display import TerminalDisplay
from veilface_simulations.options import command_line

CAUGHT = 1
HTML, JSON = "audit.html", "audit.json"
_DEFAULT = Settings()


def add_audit(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--canaries", type=int, default=_DEFAULT.canaries, metavar="M", help="default: 1000"
    )
    parser.add_argument(
        "--steps", type=int, default=_DEFAULT.steps, metavar="T", help="private steps: 2"
    )
    parser.add_argument(
        "--epsilon", type=float, default=_DEFAULT.epsilon, metavar="E", help="claim to test: 2"
    )
    parser.add_argument("--delta", type=float, default=_DEFAULT.delta, metavar="D", help="at: 1e-5")
    parser.add_argument(
        "--unit", choices=UNITS, default=_DEFAULT.unit, help="whom it speaks of: identity"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument(
        "--break", choices=tuple(FAULTS), dest="broken", help="plant a fault, to be caught"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"write {HTML} and {JSON} there")


def run_audit(arguments: argparse.Namespace) -> int:
    """Audit, print and write the result, and return the exit code."""
    settings = Settings(
        canaries=arguments.canaries,
        steps=arguments.steps,
        epsilon=arguments.epsilon,
        delta=arguments.delta,
        unit=arguments.unit,
        seed=arguments.seed,
        broken=arguments.broken,
    )
    torch.set_num_threads(1)
    with TerminalDisplay(Console(stderr=True)) as display:
        found = audit(settings, display.working)
        if arguments.out:
            _write(found, arguments.out, display)
    print(json.dumps(found.to_json(), indent=2) if arguments.json else _text(found))
    return 0 if found.passed else CAUGHT


def _write(found: Audit, folder: Path, display: TerminalDisplay) -> None:
    pictures = attack_a_face(
        found.settings.fault,
        found.noise_multiplier,
        found.settings.seed,
        lambda done, total: display.working("gradient inversion", done, total),
    )
    folder.mkdir(parents=True, exist_ok=True)
    html = render(found, pictures, command_line())
    write_atomically(folder / HTML, html.encode(), mode=PUBLIC)
    text = json.dumps(found.to_json(), indent=2) + "\n"
    write_atomically(folder / JSON, text.encode(), mode=PUBLIC)


def _text(found: Audit) -> str:
    claimed, measured, members = found.claimed, found.measured, found.membership
    lines = [
        ("claimed", f"epsilon {claimed.epsilon:.2f} at delta {claimed.delta:g}, {claimed.unit}"),
        ("measured", f"epsilon {measured.epsilon:.2f} at least, at {measured.confidence:.0%}"),
        ("", f"{measured.correct} of {measured.guesses} guesses were right"),
        ("", f"{measured.canaries} canaries can show {measured.resolving_power:.2f} at most"),
        ("members", f"AUC {members.auc:.3f}"),
        ("", f"found at 1% false alarms: {members.tpr_at_fpr_1e_2:.1%}"),
        ("", f"the claim allows {members.allowed_at_fpr_1e_2:.1%}"),
        *((_word(check.passed), f"{check.name}: {check.detail}") for check in found.checks),
        (
            _word(found.passed),
            "nothing contradicts the claim" if found.passed else "the claim does not hold",
        ),
    ]
    return "\n".join(f"{word:<9} {text}" for word, text in lines)


def _word(passed: bool) -> str:  # noqa: FBT001 -- read as a sentence
    return "pass" if passed else "FAIL"
