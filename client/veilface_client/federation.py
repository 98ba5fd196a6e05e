"""Joining a federation, and what an organisation knows of it afterwards.

HOME/federation.json      {"name", "organisation", "address", "coordinator"}
HOME/node/ca.crt          who vouches for the coordinator's address; no other authority is asked
HOME/node/node.key        by which the node shows itself to Flower
HOME/training/            the key by which replies are signed, and the coordinator's

Keys are made here and stay here. What a join writes is the same each time, so one whose answer was
lost is simply made again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from veilface_client.home_layout import training_folder
from veilface_client.identity import make_identity, trust_coordinator
from veilface_client.node.keys import create_node_key
from veilface_client.node.reaching import AnswerLost, body_of, connected
from veilface_common import typed_json
from veilface_common.command import plain
from veilface_common.crypto.signing import VerifyKey
from veilface_common.errors import ArtifactError, ConfigError, FederationError
from veilface_common.files import PUBLIC, write_atomically
from veilface_common.invitation import Invitation, JoinRequest, parse_invitation

SETTINGS = "federation.json"
NODE = "node"
NODE_KEY = "node.key"
AUTHORITY = "ca.crt"
JOIN = "/veilface/join"
_MAX_ANSWER_BYTES = 1 << 16
_SHOWN = 300  # characters of what a coordinator says, before we know it


@dataclass(frozen=True, kw_only=True)
class Federation:
    """What an organisation belongs to."""

    name: str
    organisation: str
    address: str  # HOST:PORT
    coordinator: str  # PEM, Ed25519


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What was answered, and the keys that people compare by voice."""

    federation: Federation
    status: str  # "waiting" until the coordinator approves
    coordinator: VerifyKey
    organisation: VerifyKey


def join(home: Path, text: str, now: datetime) -> Joined:
    """Ask the coordinator who invited us to be let in.

    Args:
        home: the organisation's folder.
        text: the invitation.
        now: with its zone.

    Raises:
        ArtifactError: the invitation is damaged or was altered, or the answer has no end.
        ConfigError: it is for somebody else, its time is over, or we belong elsewhere already.
        FederationError: the coordinator cannot be reached, or does not let us in.
        KeyFileError: a key that is there cannot be used.
    """
    invitation = parse_invitation(text)
    _verify_fits(home, invitation, now)
    folder = node_folder(home)
    folder.mkdir(mode=0o700, exist_ok=True)
    key = make_identity(training_folder(home))
    request = JoinRequest(
        token=invitation.token,
        organisation=invitation.organisation,
        node_key=create_node_key(folder / NODE_KEY),
        key=key.public.pem.decode(),
    ).signed(key)
    status = _asked(invitation, request)
    federation = Federation(
        name=invitation.federation,
        organisation=invitation.organisation,
        address=invitation.address,
        coordinator=invitation.coordinator,
    )
    write_atomically(folder / AUTHORITY, invitation.ca.encode(), mode=PUBLIC)
    trust_coordinator(training_folder(home), _file_name(invitation), invitation.coordinator_key)
    body = json.dumps(typed_json.to_json(federation), indent=2) + "\n"
    write_atomically(home / SETTINGS, body.encode())
    return Joined(
        federation=federation,
        status=status,
        coordinator=invitation.coordinator_key,
        organisation=key.public,
    )


def load_federation(home: Path) -> Federation:
    """Return what the organisation belongs to.

    Raises:
        ConfigError: nothing yet, or the file is damaged.
    """
    path = home / SETTINGS
    try:
        return typed_json.from_json(Federation, json.loads(path.read_bytes()), SETTINGS)
    except FileNotFoundError:
        raise ConfigError(
            f"expected an organisation that belongs to a federation in {home}, got none",
            hint="veilface join INVITATION",
        ) from None
    except (ArtifactError, ValueError):
        raise ConfigError(f"expected a federation in {path}, got a damaged file") from None


def node_folder(home: Path) -> Path:
    """Return where the node's files lie, as its processes name it: absolute."""
    return home.resolve() / NODE


def _verify_fits(home: Path, invitation: Invitation, now: datetime) -> None:
    from veilface_client.home import load_settings  # noqa: PLC0415 -- brings PyTorch

    name = load_settings(home).name
    if name != invitation.organisation:
        raise ConfigError(
            f"expected an invitation for {name!r}, got one for {invitation.organisation!r}",
            hint="the coordinator invites an organisation under the name of its folder",
        )
    if invitation.has_expired(now):
        raise ConfigError(
            f"expected an invitation that is in force, got one that ended {invitation.expires}",
            hint=f"ask the coordinator for another: veilface-server invite {name}",
        )
    if not (home / SETTINGS).exists():
        return
    known = load_federation(home)
    if known.coordinator != invitation.coordinator:
        raise ConfigError(
            f"expected an invitation to {known.name!r}, got one of another coordinator",
            hint="a folder belongs to one federation; make another with veilface init",
        )


def _asked(invitation: Invitation, request: JoinRequest) -> str:
    """Return the coordinator's word on a request."""
    headers = {"content-type": "application/json"}
    with (
        connected(invitation.address, invitation.ca) as client,
        client.stream("POST", JOIN, content=request.encode(), headers=headers) as answer,
    ):
        content = body_of(answer, _MAX_ANSWER_BYTES)
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise AnswerLost(
            f"expected an answer from {invitation.address}, got HTTP {answer.status_code}",
            hint="is that a Veilface coordinator? If so, make the same join again",
        )
    if answer.is_success:
        return _short(body.get("status"))
    raise FederationError(
        f"{invitation.address} did not let us in: {_short(body.get('error'))}",
        hint=_short(body.get("hint")),
    )


def _file_name(invitation: Invitation) -> str:
    """Return under which name a coordinator's key is kept: only what a file may be called."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", invitation.federation)[:40].strip("-")
    return f"{plain or 'coordinator'}-{invitation.coordinator_key.fingerprint}"


def _short(said: object) -> str:
    """Return what somebody said whom we do not know yet: printable, and not much."""
    return plain(str(said or "nothing")[:_SHOWN])
