"""`invite`, `members`, `approve` and `remove`: who belongs to the federation."""

from __future__ import annotations

import argparse
import secrets
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from veilface_common.crypto.signing import load_signing_key
from veilface_common.errors import ConfigError
from veilface_common.files import write_atomically
from veilface_common.invitation import SOFTWARE, Invitation, spoken
from veilface_server import register
from veilface_server.commands.opening import add_json, now, opened, print_json
from veilface_server.link import verify_running
from veilface_server.nodes import register_node, unregister_node
from veilface_server.register import Member, load_members

_MOST_DAYS = 365


def add_invite(parser: argparse.ArgumentParser) -> None:
    """Add the options of `invite`."""
    parser.add_argument("organisation", metavar="ORG", help="its name in the federation")
    parser.add_argument("--days", type=int, default=7, metavar="D", help="it stands: 7")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there (0600)")
    parser.set_defaults(run=_invite)


def add_members(parser: argparse.ArgumentParser) -> None:
    """Add the options of `members`."""
    add_json(parser)
    parser.set_defaults(run=_members)


def add_approve(parser: argparse.ArgumentParser) -> None:
    """Add the options of `approve`."""
    parser.add_argument("organisation", metavar="ORG", help="who waits")
    parser.set_defaults(run=_approve)


def add_remove(parser: argparse.ArgumentParser) -> None:
    """Add the options of `remove`."""
    parser.add_argument("organisation", metavar="ORG", help="whoever was invited")
    parser.set_defaults(run=_remove)


def _invite(arguments: argparse.Namespace) -> int:
    home, settings = opened(arguments)
    if not 1 <= arguments.days <= _MOST_DAYS:
        raise ConfigError(f"expected --days in [1, {_MOST_DAYS}], got {arguments.days}")
    if arguments.out is not None and not arguments.out.parent.is_dir():
        # Before the invitation that stands is replaced by one that nobody gets.
        raise ConfigError(f"expected a file in a folder that exists, got --out {arguments.out}")
    token = secrets.token_hex(16)
    expires = now() + timedelta(days=arguments.days)
    key = load_signing_key(home.server_key)
    name = arguments.organisation
    register.change(home, name, lambda known: register.invited(known, name, token, expires, now()))
    invitation = Invitation(
        federation=settings.name,
        address=settings.address,
        organisation=name,
        token=token,
        expires=expires.isoformat(),
        ca=home.authority.read_text(),
        coordinator=key.public.pem.decode(),
    ).signed(key)
    if arguments.out is None:
        print(invitation.encode())
    else:
        write_atomically(arguments.out, (invitation.encode() + "\n").encode())
    sys.stderr.write(
        f"invitation of {name}, until {expires:%Y-%m-%d %H:%M} UTC; to be compared by voice:\n"
        f"coordinator's key: {spoken(key.public)}\n"
    )
    return 0


def _members(arguments: argparse.Namespace) -> int:
    home, _ = opened(arguments)
    members = load_members(home.folder)
    if arguments.json:
        print_json({name: _shown(member) for name, member in members.items()})
        return 0
    for member in members.values():
        print(f"{member.name}: {member.status}{_remark(member)}")
        if member.status in ("waiting", "member"):
            print(f"    key: {spoken(member.key)}")
    if not members:
        print("nobody was invited yet (veilface-server invite ORG)")
    return 0


def _approve(arguments: argparse.Namespace) -> int:
    home, _ = opened(arguments)
    name = arguments.organisation
    members = load_members(home.folder)
    member = register.waiting(members, name)
    verify_running(home)
    known = {entry.node_id for entry in members.values() if entry.status == "member"}
    node = register_node(home, name, member.node_key, known)
    register.change(
        home,
        name,
        lambda found: replace(
            register.waiting(found, name), status="member", node_id=node, changed=now().isoformat()
        ),
    )
    print(f"{name}: member, key {spoken(member.key)}")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    home, _ = opened(arguments)
    name = arguments.organisation
    member = register.find(load_members(home.folder), name)
    if member.node_id and member.status == "member":
        verify_running(home)
        unregister_node(home, member.node_id)
    register.change(
        home,
        name,
        lambda known: replace(
            register.find(known, name), status="removed", token="", changed=now().isoformat()
        ),
    )
    print(f"{name}: removed; to join again it needs an invitation and a new node key")
    return 0


def _remark(member: Member) -> str:
    if member.status == "invited":
        return f" until {member.expires}"
    if member.software and member.software != SOFTWARE:
        return f" ({member.software} when it joined, {SOFTWARE} here)"
    return ""


def _shown(member: Member) -> dict[str, str]:
    has_joined = member.status in ("waiting", "member")
    return {
        "status": member.status,
        "fingerprint": spoken(member.key) if has_joined else "",
        "node_id": member.node_id,
        "software": member.software,
        "expires": member.expires,
        "changed": member.changed,
    }
