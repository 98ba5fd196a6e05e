"""`veilface vault | users | log`: what administrators and auditors do."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from veilface_client.commands.opening import (
    add_json,
    add_unlocking,
    home_of,
    opened,
    provider_of,
    say,
)
from veilface_client.key_providers import KeyProvider
from veilface_client.roles import ACTS, ROLES
from veilface_common.command import Parser
from veilface_common.errors import VaultError


def add_vault(parser: argparse.ArgumentParser) -> None:
    """Add `veilface vault check | backup | restore | rotate | shares | recover`."""
    commands = parser.add_subparsers(dest="act", required=True, metavar="ACT", parser_class=Parser)
    check = commands.add_parser("check", help="open and compare everything")
    backup = commands.add_parser("backup", help="two parts, of one moment, for two places")
    restore = commands.add_parser("restore", help="a vault from both parts")
    rotate = commands.add_parser("rotate", help="a new key, and a new passphrase if you like")
    shares = commands.add_parser("shares", help="five shares, of which any three open the vault")
    recover = commands.add_parser("recover", help="from three shares to a new passphrase")
    for part in (backup, restore):
        part.add_argument("templates", type=Path, metavar="TEMPLATES", help="may be kept for long")
        part.add_argument("keys", type=Path, metavar="KEYS", help="make anew after each erasure")
    for part in (rotate, recover):
        part.add_argument("--new-passphrase-file", type=Path, metavar="FILE")
    recover.add_argument(
        "--shares-file", type=Path, required=True, metavar="FILE", help="one share a line, 0600"
    )
    for part, run in (
        (check, _check),
        (backup, _backup),
        (restore, _restore),
        (rotate, _rotate),
        (shares, _shares),
        (recover, _recover),
    ):
        add_unlocking(part)
        add_json(part)
        part.set_defaults(run=run)


def add_users(parser: argparse.ArgumentParser) -> None:
    """Add `veilface users list | add | remove`."""
    commands = parser.add_subparsers(dest="act", required=True, metavar="ACT", parser_class=Parser)
    listing = commands.add_parser("list", help="all accounts")
    adding = commands.add_parser("add", help="an account; its token is shown once")
    removing = commands.add_parser("remove", help="end an account at once")
    for part in (adding, removing):
        part.add_argument("name", metavar="NAME")
    adding.add_argument("--role", required=True, choices=[r for r in ROLES if r != "terminal"])
    adding.add_argument("--days", type=int, default=90, metavar="N", help="default: 90")
    adding.add_argument("--scopes", default="", metavar="LIST", help="some of: " + ", ".join(ACTS))
    for part, run in ((listing, _list_users), (adding, _add_user), (removing, _remove_user)):
        add_unlocking(part)
        add_json(part)
        part.set_defaults(run=run)


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface log`."""
    parser.add_argument("--since", type=int, default=0, metavar="N", help="after this entry")
    add_unlocking(parser)
    parser.set_defaults(run=_log)


def _check(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import vault_acts  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments, verify=False) as asking:
        found = vault_acts.check(asking.desk, asking.actor)
    content = {
        "verdict": "fail" if found else "pass",
        "findings": [asdict(finding) for finding in found],
    }
    lines = [f"{one.where}: {one.problem} ({one.action})" for one in found]
    passed = "pass: every record and template is as it was written"
    say(arguments, content, "\n".join(lines) or passed)
    return VaultError.exit_code if found else 0


def _backup(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import vault_acts  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        generation = vault_acts.back_up(
            asking.desk, asking.actor, arguments.templates, arguments.keys
        )
    content = {
        "generation": generation,
        "templates": str(arguments.templates),
        "keys": str(arguments.keys),
    }
    text = (
        f"generation {generation}: {arguments.templates} may be kept for long; make "
        f"{arguments.keys} anew after each erasure and destroy the one before"
    )
    say(arguments, content, text)
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    from veilface_client.home import load_settings  # noqa: PLC0415 -- brings PyTorch
    from veilface_client.recognition import vault_acts  # noqa: PLC0415 -- the same

    folder = home_of(arguments)
    provider = provider_of(arguments, load_settings(folder).key)
    done = vault_acts.restore_home(folder, arguments.templates, arguments.keys, provider)
    text = f"{done.people} people are back"
    if done.erased_since or done.without_rows:
        text += (
            f"; {done.erased_since} were erased since, {done.without_rows} were enrolled after the "
            "templates were saved and must come again"
        )
    say(arguments, asdict(done), text)
    return 0


def _rotate(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import vault_acts  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        new = _new_provider(arguments) if arguments.new_passphrase_file else None
        epoch = vault_acts.rotate(asking.desk, asking.actor, new)
    say(arguments, {"epoch": epoch}, f"all people's keys are sealed under key {epoch} now")
    return 0


def _shares(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import vault_acts  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        shares = vault_acts.make_shares(asking.desk, asking.actor)
    lines = ["shown this once; any three open the vault, so give each to another person:", *shares]
    say(arguments, {"shares": shares, "needed": 3}, "\n".join(lines))
    return 0


def _recover(arguments: argparse.Namespace) -> int:
    from veilface_client.key_providers.private_files import read_private  # noqa: PLC0415 -- as above
    from veilface_client.key_providers.recovery import (  # noqa: PLC0415 -- seldom needed
        RecoveryKey,
        combine,
    )
    from veilface_client.recognition import vault_acts  # noqa: PLC0415 -- brings PyTorch

    lines = read_private(arguments.shares_file, "recovery shares").splitlines()
    provider = RecoveryKey(combine([line for line in lines if line.strip()]))
    new = _new_provider(arguments)
    with opened(arguments, provider=provider) as asking:
        epoch = vault_acts.recover(asking.desk, asking.actor, new)
    say(arguments, {"epoch": epoch}, "the vault opens with the new passphrase now")
    return 0


def _new_provider(arguments: argparse.Namespace) -> KeyProvider:
    from veilface_client.key_providers.passphrase import (  # noqa: PLC0415 -- one of three
        PassphraseProvider,
        read_passphrase,
    )

    return PassphraseProvider(read_passphrase(arguments.new_passphrase_file, {}, new=True))


def _list_users(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import upkeep  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        found = upkeep.list_users(asking.desk, asking.actor)
    lines = [f"{user.name}: {user.role}, until {user.expires}" for user in found]
    content = [{k: v for k, v in asdict(user).items() if k != "digest"} for user in found]
    say(arguments, content, "\n".join(lines) or "nobody has an account")
    return 0


def _add_user(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import upkeep  # noqa: PLC0415 -- brings PyTorch

    scopes = tuple(scope for scope in arguments.scopes.split(",") if scope)
    with opened(arguments) as asking:
        token = upkeep.add_user(
            asking.desk,
            asking.actor,
            arguments.name,
            arguments.role,
            days=arguments.days,
            scopes=scopes,
        )
    content = {"name": arguments.name, "role": arguments.role, "token": token}
    say(arguments, content, f"{token}\nshown this once: keep it as a password is kept")
    return 0


def _remove_user(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import upkeep  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        upkeep.remove_user(asking.desk, asking.actor, arguments.name)
    say(arguments, {"removed": arguments.name}, f"{arguments.name}: the account has ended")
    return 0


def _log(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import upkeep  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        for line in upkeep.log_lines(asking.desk, asking.actor, arguments.since):
            print(json.dumps(line, ensure_ascii=False))
    return 0
