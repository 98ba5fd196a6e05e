"""Who belongs to the federation: SERVER/members.json, whole or absent, changed under a lock.

    invited --join--> waiting --approve--> member --remove--> removed --invite--> invited ...

{NAME: {"status", "token": SHA-256 of the invitation's, "expires", "node_key": OpenSSH line,
        "key": PEM, "node_id": Flower's, "software", "changed": ISO 8601}}

Rules of a join, in the order in which `joined` applies them:

1. the request is signed by the key inside it (`parse_join`)
2. an invitation with that name and token stands; who tries others learns no more than that
3. it was not used; the same request again gets the same answer, since the first may have been lost
4. it has not expired
5. the software is the same as the coordinator's: bundles are approved by release
6. neither key is another member's
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from veilface_common.crypto.signing import VerifyKey, parse_verify_key
from veilface_common.errors import AccessDenied, ArtifactError, ConfigError
from veilface_common.files import write_atomically
from veilface_common.invitation import SOFTWARE, JoinRequest, verify_name
from veilface_common.locks import held
from veilface_server.home import Home

Status = Literal["invited", "waiting", "member", "removed"]
MEMBERS = "members.json"
_LOCK = "members.lock"


@dataclass(frozen=True, kw_only=True)
class Member:
    """An organisation, as the coordinator knows it; texts are empty where nothing is known yet."""

    name: str
    status: Status
    token: str = ""  # SHA-256 of the invitation's, hex
    expires: str = ""  # of the invitation, ISO 8601
    node_key: str = ""  # an OpenSSH line
    key_pem: str = ""
    node_id: str = ""  # Flower's, decimal
    software: str = ""
    changed: str = ""  # the status, ISO 8601

    @property
    def key(self) -> VerifyKey:
        """By which the organisation signs.

        Raises:
            KeyFileError: it has not joined yet.
        """
        return parse_verify_key(self.key_pem.encode(), f"what is known of {self.name!r}")


def load_members(home: Path) -> dict[str, Member]:
    """Return every organisation that was ever invited, by name, sorted.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = home / MEMBERS
    try:
        body = json.loads(path.read_bytes())
        found = {name: _member(name, entry) for name, entry in sorted(body.items())}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise ArtifactError(f"expected members in {path}, got a damaged file") from error
    return found


def change(home: Home, name: str, step: Callable[[Mapping[str, Member]], Member]) -> Member:
    """Put what `step` returns in the place of the member `name`, and return it.

    `step` gets all members and runs under the lock; when it raises, nothing changes.
    """
    with held(home.folder / _LOCK):
        members = load_members(home.folder)
        changed = step(members)
        members[name] = changed
        body = {known: _body(member) for known, member in sorted(members.items())}
        content = (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()
        write_atomically(home.folder / MEMBERS, content)
    return changed


def invited(
    members: Mapping[str, Member], name: str, token: str, expires: datetime, now: datetime
) -> Member:
    """Return the member that a new invitation makes; one that stands is replaced.

    Raises:
        ConfigError: the name cannot be one, or its organisation has joined already.
    """
    verify_name(name)
    known = members.get(name)
    if known is not None and known.status in ("waiting", "member"):
        raise ConfigError(
            f"expected a new name, got {name!r}, which has joined ({known.status})",
            hint=f"veilface-server remove {name!r}, to invite it anew",
        )
    return Member(
        name=name,
        status="invited",
        token=token_digest(token),
        expires=expires.isoformat(),
        changed=now.isoformat(),
    )


def joined(members: Mapping[str, Member], request: JoinRequest, now: datetime) -> Member:
    """Return the member that an organisation's request makes, waiting to be approved.

    Raises:
        AccessDenied: no invitation stands for it, or its time is over.
        ConfigError: its software is another, or its keys are another member's.
    """
    known = members.get(request.organisation)
    digest = token_digest(request.token)
    if known is None or not known.token or not hmac.compare_digest(known.token, digest):
        raise AccessDenied(
            f"expected an invitation of {request.organisation!r} that stands, got none",
            hint="ask the coordinator for a new one; each is for one name and used once",
        )
    if known.status != "invited":
        same = (known.key_pem, known.node_key) == (request.key, request.node_key)
        if same and known.status in ("waiting", "member"):
            return known
        raise AccessDenied(
            f"the invitation of {request.organisation!r} was used already",
            hint="if it was not by you, tell the coordinator; else ask for a new one",
        )
    if now >= datetime.fromisoformat(known.expires):
        raise AccessDenied(
            f"the invitation of {request.organisation!r} expired at {known.expires}",
            hint="ask the coordinator for a new one, and look at your clock",
        )
    if request.software != SOFTWARE:
        raise ConfigError(
            f"expected {SOFTWARE} at the organisation, got {request.software[:60]!r}",
            hint="both sides need the same release",
        )
    for other in members.values():
        if other.name != known.name and _shares_a_key(other, request):
            raise ConfigError("expected keys of the organisation's own, got those of another")
    return replace(
        known,
        status="waiting",
        node_key=request.node_key,
        key_pem=request.key,
        software=request.software,
        changed=now.isoformat(),
    )


def waiting(members: Mapping[str, Member], name: str) -> Member:
    """Return the member `name` that waits to be approved.

    Raises:
        ConfigError: it does not.
    """
    known = find(members, name)
    if known.status != "waiting":
        hint = "it has not answered its invitation" if known.status == "invited" else None
        raise ConfigError(f"expected {name!r} to wait for approval, got {known.status}", hint=hint)
    return known


def find(members: Mapping[str, Member], name: str) -> Member:
    """Return the member `name`. Raises ConfigError when there is none."""
    if name not in members:
        known = ", ".join(members) or "none"
        raise ConfigError(f"expected a member, got {name!r}", hint=f"members: {known}")
    return members[name]


def token_digest(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _shares_a_key(member: Member, request: JoinRequest) -> bool:
    return member.key_pem == request.key or member.node_key == request.node_key


def _body(member: Member) -> dict[str, str]:
    body = asdict(member)
    body["key"] = body.pop("key_pem")
    del body["name"]
    return body


def _member(name: str, entry: Mapping[str, str]) -> Member:
    settings = {str(key): str(value) for key, value in entry.items()}
    settings["key_pem"] = settings.pop("key")
    if settings["status"] not in get_args(Status):
        raise ValueError(settings["status"])
    return Member(name=name, **settings)  # type: ignore[arg-type]
