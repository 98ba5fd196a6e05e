"""`veilface model show | verify | accept | card | export`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from veilface_client.commands.model_export import add_export
from veilface_client.commands.opening import (
    add_json,
    add_unlocking,
    home_of,
    opened,
    progress,
    say,
)
from veilface_common.command import Parser, plain
from veilface_common.errors import ConfigError, VeilfaceError
from veilface_common.files import PUBLIC, write_atomically
from veilface_common.robustness_table import RobustnessTable, in_one_line
from veilface_common.typed_json import from_json

_NOBODY = "nobody: a model of your own"


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add `veilface model show | verify | accept | card | export`."""
    commands = parser.add_subparsers(dest="act", required=True, metavar="ACT", parser_class=Parser)
    show = commands.add_parser("show", help="the manifest of the model in use, or of a release")
    verify = commands.add_parser("verify", help="could it be accepted? nothing is changed")
    accept = commands.add_parser("accept", help="take a release into use")
    card = commands.add_parser("card", help="what it is for, and what it is not, as a page")
    for part in (show, verify, accept, card):
        part.add_argument(
            "path",
            nargs="?",
            type=Path,
            metavar="PATH",
            help="of a release's folder; else "
            + ("the newest of the federation" if part in (verify, accept) else "the one in use"),
        )
    card.add_argument("--out", type=Path, metavar="FILE", help="write a page (.html) too")
    for part in (verify, accept):
        add_unlocking(part)
    for part, run in ((show, _show), (verify, _verify), (accept, _accept), (card, _card)):
        if part is not card:
            add_json(part)
        part.set_defaults(run=run)
    add_export(commands.add_parser("export", help="for a machine without PyTorch, as ONNX"))


def _show(arguments: argparse.Namespace) -> int:
    manifest, signer = _told(arguments)
    body = json.loads(manifest)
    told: dict[str, object] = body | {"robustness": _robustness(body.get("robustness"))}
    lines = [f"signed by: {signer or _NOBODY}"]
    lines += [plain(f"{key}: {_short(value)}") for key, value in told.items() if key != "signature"]
    say(arguments, {"signed_by": signer or None, "manifest": body}, "\n".join(lines))
    return 0


def _robustness(told: object) -> object:
    """Return the table in a line. What is none stays as it is: anybody may have written it."""
    try:
        table = None if told is None else from_json(RobustnessTable, told, "robustness")
    except VeilfaceError:
        return told
    return in_one_line(table)


def _verify(arguments: argparse.Namespace) -> int:
    from veilface_client import releases  # noqa: PLC0415 -- brings PyTorch
    from veilface_client.model_store import read_model, read_taken  # noqa: PLC0415 -- the same

    with opened(arguments) as asking:
        folder, taken = asking.desk.folder, read_taken(asking.desk.vault)
        path = arguments.path
        model = releases.fetch(folder, taken) if path is None else read_model(path)
        release = releases.verify(folder, taken, model)
    content = {
        "model": model.parsed.sha256,
        "release": release and release.sequence,
        "coordinator": release and release.coordinator,
    }
    text = f"model {model.parsed.sha256[:16]} could be accepted; signed by {_NOBODY}"
    if release is not None:
        text = (
            f"release {release.sequence} could be accepted: signed by coordinator "
            f"{release.coordinator}, newer than what was taken, weights {release.sha256[:16]}"
        )
    say(arguments, content, text)
    return 0


def _accept(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import new_model  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        done = new_model.accept(asking.desk, asking.actor, arguments.path, progress)
    name = f"release {done.release}" if done.release else "a model of your own"
    lines = [f"{name} is in use: model {done.model[:16]}, {done.moved} people moved to it"]
    lines += [f"must come again: {person}" for person in done.come_again]
    say(arguments, asdict(done), "\n".join(lines))
    return 0


def _card(arguments: argparse.Namespace) -> int:
    from veilface_client.model_card import card_of, to_page, to_text  # noqa: PLC0415 -- PyTorch
    from veilface_common.artifact import parse_manifest  # noqa: PLC0415 -- the same

    if arguments.out is not None and arguments.out.suffix != ".html":
        raise ConfigError(f"expected --out to end in .html, got {arguments.out}")
    manifest, signer = _told(arguments)
    card = card_of(parse_manifest(manifest, "the manifest"), signer)
    if arguments.out is not None:
        write_atomically(arguments.out, to_page(card).encode(), mode=PUBLIC)
    print("\n".join(map(plain, to_text(card).splitlines())))
    return 0


def _told(arguments: argparse.Namespace) -> tuple[bytes, str]:
    """Return a manifest, and the fingerprint of who signed it; that somebody did is verified."""
    from veilface_client import releases  # noqa: PLC0415 -- brings PyTorch
    from veilface_client.home import load_settings  # noqa: PLC0415 -- the same
    from veilface_client.model_store import model_folder  # noqa: PLC0415 -- the same
    from veilface_common.artifact import read_manifest_file  # noqa: PLC0415 -- the same

    home = home_of(arguments)
    settings = load_settings(home)
    if arguments.path is None and not settings.model:
        raise ConfigError("no model is accepted yet", hint="veilface model accept")
    manifest = read_manifest_file(arguments.path or model_folder(home, settings.model))
    return manifest, releases.signer_of(home, manifest)


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
