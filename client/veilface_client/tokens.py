"""Accounts of people who use the service: tokens of 32 random bytes, shown once.

A token reads `veilface_NUMBER_SECRET`. Kept are its number and HMAC-SHA256 under a key that stands
sealed in the vault, so that whoever can write to the disk cannot make one. The secret is random and
long: no slow hash is needed, and none can be used to keep the service busy.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from veilface_client.roles import ACTS, ROLES, Act, Actor, Role
from veilface_common import typed_json
from veilface_common.errors import AccessDenied, ConfigError

_PREFIX = "veilface"
_SECRET_BYTES = 32
_NUMBER_BYTES = 4
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_KEY, _USERS = "token-key", "users"
MAX_DAYS = 366
Random = Callable[[int], bytes]


class SealedValues(Protocol):
    """Where small secrets are kept: the vault, or a dictionary in a test."""

    def secret(self, name: str) -> bytes | None:
        """Return the value of that name, or None."""
        ...

    def set_secret(self, name: str, value: bytes) -> None:
        """Keep a value, sealed and on disk when this returns."""
        ...


@dataclass(frozen=True, kw_only=True)
class User:
    """One account, as its list shows it."""

    name: str
    role: Role
    scopes: tuple[Act, ...]
    number: str  # of the token, 8 hex digits
    digest: str  # HMAC-SHA256 of the token, hex
    created: str  # ISO 8601, UTC
    expires: str


class Users:
    """The accounts of an organisation's service."""

    def __init__(self, values: SealedValues, random: Random = secrets.token_bytes) -> None:
        self._values = values
        self._random = random

    def add(
        self, name: str, role: str, now: datetime, *, days: int = 90, scopes: tuple[str, ...] = ()
    ) -> str:
        """Add an account and return its token, which is shown nowhere else again.

        Raises:
            ConfigError: the name is taken or none, or role, scopes or days are not allowed.
        """
        users = self.all()
        if not _NAME.fullmatch(name):
            raise ConfigError(
                "expected a user's name of 1 to 40 of a-z, 0-9, dot, dash and underscore",
                hint="a job's name such as door-3 is better than a person's",
            )
        if any(user.name == name for user in users):
            raise ConfigError(
                f"expected a new user, got {name!r} again", hint=f"veilface users remove {name}"
            )
        chosen = _role(role)
        if not 1 <= days <= MAX_DAYS:
            raise ConfigError(f"expected 1 to {MAX_DAYS} days, got {days}")
        unknown = sorted(set(scopes) - set(ACTS))
        if unknown:
            raise ConfigError(f"expected scopes out of {', '.join(ACTS)}, got {unknown[0]!r}")
        number = self._random(_NUMBER_BYTES).hex()
        secret = base64.b32encode(self._random(_SECRET_BYTES)).decode().rstrip("=").lower()
        token = f"{_PREFIX}_{number}_{secret}"
        user = User(
            name=name,
            role=chosen,
            scopes=tuple(act for act in ACTS if not scopes or act in scopes),
            number=number,
            digest=self._digest(token),
            created=_text(now),
            expires=_text(now + timedelta(days=days)),
        )
        self._save((*users, user))
        return token

    def remove(self, name: str) -> None:
        """End an account at once.

        Raises:
            ConfigError: there is none of that name.
        """
        users = self.all()
        left = tuple(user for user in users if user.name != name)
        if len(left) == len(users):
            raise ConfigError(
                f"expected a user's name, got {name!r}", hint="veilface users list shows them"
            )
        self._save(left)

    def all(self) -> tuple[User, ...]:
        """Return every account, ended or not."""
        stored = self._values.secret(_USERS)
        if stored is None:
            return ()
        return tuple(typed_json.from_json(User, item, "a user") for item in json.loads(stored))

    def actor(self, token: str, now: datetime) -> Actor:
        """Return who holds a token.

        Raises:
            AccessDenied: nobody does, or it ended; which of the two is not said.
        """
        digest, found = self._digest(token), None
        for user in self.all():  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(user.digest, digest):
                found = user
        if found is None or _text(now) >= found.expires:
            raise AccessDenied(
                "expected a token that is in force", hint="an administrator makes a new one"
            )
        return Actor(name=found.name, role=found.role, scopes=frozenset(found.scopes))

    def _digest(self, token: str) -> str:
        key = self._values.secret(_KEY)
        if key is None:
            key = self._random(_SECRET_BYTES)
            self._values.set_secret(_KEY, key)
        return hmac.new(key, token.encode(), hashlib.sha256).hexdigest()

    def _save(self, users: tuple[User, ...]) -> None:
        plain = [typed_json.to_json(user) for user in users]
        self._values.set_secret(_USERS, json.dumps(plain, sort_keys=True).encode())


def without_digest(user: User) -> User:
    """Return an account as others may see it."""
    return replace(user, digest="")


def _role(text: str) -> Role:
    for role in ROLES:
        if role == text and role != "terminal":
            return role
    known = ", ".join(role for role in ROLES if role != "terminal")
    raise ConfigError(f"expected a role out of {known}, got {text!r}")


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
