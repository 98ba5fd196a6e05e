"""The command `veilface-server`: what the coordinator of a federation does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from veilface_common.command import Parser, Verb, add_verbs, examples_text, run_command
from veilface_server.commands import belonging, linking, page, release, training, watching

_COMMANDS: tuple[Verb, ...] = (
    ("init", "begin: a folder with keys and a certificate authority", linking.add_init),
    ("start", "keep the federation reachable, until it is told to end", linking.add_start),
    ("invite", "let an organisation join, once", belonging.add_invite),
    ("members", "who is invited, waiting, member or removed", belonging.add_members),
    ("approve", "make an organisation that has joined a member", belonging.add_approve),
    ("remove", "let an organisation take part no more", belonging.add_remove),
    ("train", "rounds with the members", training.add_train),
    ("status", "who is there, how far a run is, what went wrong", watching.add_status),
    ("page", "the curves of a run as one file, from its signed records", page.add_page),
    ("stop", "end a run; what is done is kept", training.add_stop),
    ("release", "sign a model and offer it to the members", release.add_release),
)
_EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "init": (
        "init --name clinics --address fed.example.org:8443",
        "init --name clinics --address 10.0.0.5:8443 --listen 10.0.0.5:8443",
    ),
    "start": ("start", "start --watch-port 9464"),
    "invite": ("invite ada --out ada.invitation", "invite ada --days 2"),
    "members": ("members --json",),
    "approve": ("approve ada",),
    "remove": ("remove ada",),
    "train": (
        "train --rounds 12 --wait",
        "train --init base/model --epsilon 8 --delta 1e-5 --wait",
        "train --resume 0123456789abcdef",
    ),
    "status": ("status --watch", "status --json"),
    "page": ("page --out run.html",),
    "stop": ("stop",),
    "release": ("release",),
}
_START = "veilface-server --home federation"
_USUAL = ("init", "start", "invite", "approve", "train")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    parser = Parser(
        prog="veilface-server",
        description="The coordinator's side: who belongs to a federation, and its rounds.",
        epilog=examples_text(_START, [_EXAMPLES[name][0] for name in _USUAL]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--home", type=Path, metavar="DIR", help="the folder; else $VEILFACE_SERVER_HOME"
    )
    add_verbs(parser, _COMMANDS, _EXAMPLES, _START)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors are one line on standard error."""
    return run_command("veilface-server", lambda: _run(build_parser().parse_args(arguments)))


def entry() -> NoReturn:
    """Run the command as a program of its own."""
    sys.exit(main())


def _run(arguments: argparse.Namespace) -> int:
    return int(arguments.run(arguments))
