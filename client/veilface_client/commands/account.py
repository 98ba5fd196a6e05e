"""`veilface account open | show | policy`: what an organisation trains on, and what it may cost."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from veilface_client.commands.opening import add_json, home_of, progress, say
from veilface_client.home_layout import training_folder
from veilface_common.command import Parser
from veilface_common.config import MODEL_PIXELS, ModelName
from veilface_common.errors import ConfigError

if TYPE_CHECKING:  # it brings PyTorch with it
    from veilface_client.data import Faces


def add_account(parser: argparse.ArgumentParser) -> None:
    """Add `veilface account open | show | policy`."""
    commands = parser.add_subparsers(dest="act", required=True, metavar="ACT", parser_class=Parser)
    opening = commands.add_parser("open", help="begin: photographs, a policy and a ledger")
    showing = commands.add_parser("show", help="what was spent, and what is left")
    changing = commands.add_parser("policy", help="take another policy; looser only if you say so")
    opening.add_argument("source", metavar="SOURCE", help="folder:PATH, a folder for each person")
    opening.add_argument("--public", metavar="SOURCE", help="faces that are nobody's secret")
    opening.add_argument("--policy", type=Path, required=True, metavar="FILE", help="TOML")
    opening.add_argument(
        "--people-declared",
        type=int,
        required=True,
        metavar="N",
        help="told to others; not a count",
    )
    opening.add_argument("--photos-declared", type=int, required=True, metavar="M", help="the same")
    opening.add_argument(
        "--model", choices=get_args(ModelName), default="tiny", help="to be trained; default: tiny"
    )
    changing.add_argument("policy", type=Path, metavar="FILE", help="TOML")
    changing.add_argument("--looser", action="store_true", help="the report shows it for ever")
    for part, run in ((opening, _open), (showing, _show), (changing, _change)):
        add_json(part)
        part.set_defaults(run=run)


def _open(arguments: argparse.Namespace) -> int:
    from veilface_client.account import create_account  # noqa: PLC0415 -- brings PyTorch
    from veilface_client.home import load_settings  # noqa: PLC0415 -- the same
    from veilface_client.identity import make_identity  # noqa: PLC0415 -- the same
    from veilface_client.organisation import (  # noqa: PLC0415 -- the same
        Organisation,
        keeps_account,
        save_organisation,
    )
    from veilface_client.rules import keep_policy, parse_rules  # noqa: PLC0415 -- the same
    from veilface_common.budget.policy import load_policy  # noqa: PLC0415 -- brings the accountants

    home = home_of(arguments)
    folder = training_folder(home)
    name = load_settings(home).name
    if keeps_account(folder):
        raise ConfigError(
            f"{home} has an account already", hint="veilface account show; a ledger is for one set"
        )
    for declared in (arguments.people_declared, arguments.photos_declared):
        if declared < 1:
            raise ConfigError(f"expected a declared number from 1 on, got {declared}")
    policy = load_policy(arguments.policy)
    parse_rules(arguments.policy)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    faces = _faces(arguments.source, arguments.model, folder)
    public = _faces(arguments.public, arguments.model, folder) if arguments.public else None
    make_identity(folder)
    keep_policy(folder, arguments.policy)
    create_account(
        folder,
        name,
        faces,
        policy,
        people_declared=arguments.people_declared,
        images_declared=arguments.photos_declared,
    )
    settings = Organisation(
        name=name,
        faces=faces.path.resolve(),
        people=tuple(range(len(faces.person_names))),
        public_faces=public.path.resolve() if public else None,
        keeps_account=True,
    )
    save_organisation(folder, settings)  # last: without it nobody trains here
    found = f"{len(faces.person_names)} people, {len(faces)} photographs; these numbers stay here"
    lines = [f"{name}: {found}", *faces.warnings]
    lines.append(f"allowed: epsilon {policy.epsilon:g} at delta {policy.delta:g}, {policy.unit}")
    content = {
        "organisation": name,
        "people": len(faces.person_names),
        "photos": len(faces),
        "warnings": list(faces.warnings),
    }
    say(arguments, content, "\n".join(lines))
    return 0


def _faces(source: str, model: ModelName, folder: Path) -> Faces:
    from veilface_client.data import check_trainable, load_faces  # noqa: PLC0415 -- brings PyTorch
    from veilface_client.images import canvas_pixels  # noqa: PLC0415 -- the same
    from veilface_client.sources import open_source  # noqa: PLC0415 -- the same

    pixels = canvas_pixels(MODEL_PIXELS[model])
    faces = load_faces(
        open_source(source),
        pixels=pixels,
        cache=folder / "faces",
        progress=lambda done, total: progress(source, done, total),
    )
    check_trainable(faces)
    return faces


def _show(arguments: argparse.Namespace) -> int:
    from veilface_client.account import open_ledger  # noqa: PLC0415 -- brings PyTorch

    home = home_of(arguments)
    ledger = open_ledger(training_folder(home))
    if ledger is None:
        raise ConfigError(f"expected an account in {home}, got none", hint="veilface account open")
    policy, spent = ledger.policy, ledger.spent().charged
    content = {
        "organisation": ledger.registration.organisation,
        "unit": policy.unit,
        "epsilon_allowed": policy.epsilon,
        "epsilon_spent": spent,
        "delta": policy.delta,
        "open_reservations": len(ledger.unsettled),
        "entries": ledger.head.sequence,
        "newest": ledger.head.hash,
    }
    text = (
        f"{ledger.registration.organisation}: spent epsilon {spent:.4g} of {policy.epsilon:g} at "
        f"delta {policy.delta:g} ({policy.unit}), {ledger.head.sequence} entries"
    )
    say(arguments, content, text)
    return 0


def _change(arguments: argparse.Namespace) -> int:
    from veilface_client.account import open_ledger  # noqa: PLC0415 -- brings PyTorch
    from veilface_client.rules import keep_policy  # noqa: PLC0415 -- the same
    from veilface_common.budget.policy import load_policy  # noqa: PLC0415 -- brings the accountants

    home = home_of(arguments)
    folder = training_folder(home)
    ledger = open_ledger(folder)
    if ledger is None:
        raise ConfigError(f"expected an account in {home}, got none", hint="veilface account open")
    policy = load_policy(arguments.policy)
    ledger.set_policy(policy, allow_looser=arguments.looser)
    keep_policy(folder, arguments.policy)
    ledger.note(f"the rules for requests are those of {arguments.policy.name} now")
    say(arguments, {"epsilon_allowed": policy.epsilon}, "the policy is in force")
    return 0
