"""The command `veilface`: what an organisation does with its own side.

Neural networks and accountants bring PyTorch with them, which takes seconds; what needs them is
imported where it is used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import shtab

from veilface_client.commands import (
    account,
    budget,
    federation,
    hiding,
    keeping,
    matching,
    model,
    people,
    serving,
    status,
    watching,
)
from veilface_common.command import Parser, Verb, add_verbs, examples_text, run_command

_COMMANDS: tuple[Verb, ...] = (
    ("init", "begin: a folder with a model, an empty vault and a log", people.add_init),
    ("enrol", "add people from photographs", people.add_enrol),
    ("verify", "is this the person of that name?", matching.add_verify),
    ("identify", "who is this, if anybody who is enrolled?", matching.add_identify),
    ("explain", "which parts of a face a decision hung on", matching.add_explain),
    ("watch", "who is in a video, from when to when", watching.add_watch),
    ("hide", "make faces unknowable in photographs and videos", hiding.add_hide),
    ("people", "who is enrolled, on what grounds, until when", people.add_people),
    ("consent", "write a new consent down", people.add_consent),
    ("forget", "erase a person, with a receipt", people.add_forget),
    ("expire", "erase everybody who is due", people.add_expire),
    ("export-person", "all that is kept of a person, for that person", people.add_export),
    ("calibrate", "choose a threshold for a rate of false answers", matching.add_calibrate),
    ("model", "what is in use; verify, accept, tell of a release", model.add_model),
    ("users", "accounts and roles of the service", keeping.add_users),
    ("vault", "check, save, put back, change the key", keeping.add_vault),
    ("log", "who did what, to which pseudonym", keeping.add_log),
    ("account", "photographs to train on, and the budget for it", account.add_account),
    ("serve", "the keeper for the Flower node; HTTP and a page for people", serving.add_serve),
    ("join", "answer a coordinator's invitation", federation.add_join),
    ("node", "take part: start, status, approve", federation.add_node),
    ("status", "how everything stands: federation, keeper, node, budget", status.add_status),
    ("report", "what a ledger's epsilon is and means", budget.add_report),
)
_EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "init": (
        "init --name shop --passphrase-file pass.txt",
        "init --name shop --model runs/demo/model --passphrase-file pass.txt",
        "init --name shop --model runs/demo/model --key-file vault.key --keep-crops",
    ),
    "enrol": (
        "enrol ada ada-1.jpg ada-2.jpg --consent 2026-01",
        "enrol people/ --consent 2026-01",
        "enrol bob bob.jpg --consent 2026-01 --holder --retain-until 2027-06-30",
    ),
    "verify": ("verify ada door.jpg", "verify bob door.jpg --card-file card.txt --json"),
    "identify": ("identify door.jpg --json",),
    "explain": ("explain ada door.jpg --out why.png",),
    "watch": (
        "watch lobby.mp4 --contact-sheet seen.png",
        "watch camera:0 --json",
        "watch camera:0 --on-match ./open-door",
    ),
    "hide": (
        "hide party.jpg --out hidden.jpg",
        "hide lobby.mp4 --out hidden.mp4 --except ada bob",
        "hide photos/ --out hidden/ --how drawn",
    ),
    "people": ("people --json",),
    "consent": ("consent ada --consent 2026-02 --retain-until 2027-06-30",),
    "forget": ("forget ada --json",),
    "expire": ("expire",),
    "export-person": ("export-person ada --out ada.json",),
    "calibrate": (
        "calibrate identify --rate 0.01",
        "calibrate verify --rate 0.001 --impostors folder:others",
    ),
    "model": ("model accept", "model accept releases/0002", "model card --out card.html"),
    "users": ("users add door-3 --role operator --scopes verify --days 30", "users list"),
    "vault": (
        "vault check",
        "vault backup templates.db keys.db",
        "vault rotate --new-passphrase-file new.txt",
        "vault shares",
    ),
    "log": ("log --since 100",),
    "account": (
        "account open folder:f --policy p.toml --people-declared 500 --photos-declared 4000",
        "account show",
    ),
    "serve": ("serve --port 8443", "serve --no-web --node-user veilface-node"),
    "join": ("join invitation.txt",),
    "node": ("node start", "node status --json"),
    "status": ("status --watch", "status --json"),
    "report": ("report ledger.db --out report.html",),
}
_START = "veilface --home shop"
_USUAL = ("init", "enrol", "verify", "identify", "forget")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    parser = Parser(
        prog="veilface",
        description="An organisation's side: its faces, its templates, its budget.",
        epilog=examples_text(_START, [_EXAMPLES[name][0] for name in _USUAL]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--home", type=Path, metavar="DIR", help="the organisation's folder; else $VEILFACE_HOME"
    )
    shtab.add_argument_to(parser, "--print-completion", help="for bash, zsh or tcsh")
    add_verbs(parser, _COMMANDS, _EXAMPLES, _START)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors are one line on standard error."""
    return run_command("veilface", lambda: _run(build_parser().parse_args(arguments)))


def entry() -> NoReturn:
    """Run the command as a program of its own."""
    sys.exit(main())


def _run(arguments: argparse.Namespace) -> int:
    return int(arguments.run(arguments))
