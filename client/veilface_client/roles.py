"""Who may do what: one table, and the acts that take two people.

The table is enforced in `recognition`, whatever the door. Whoever administers keys and users may
not match faces, and whoever matches faces may not take any out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from veilface_common.errors import AccessDenied

Role = Literal["operator", "enroller", "privacy-officer", "auditor", "administrator", "terminal"]
Act = Literal[
    "verify",
    "identify",
    "explain",
    "enrol",
    "people",
    "consent",
    "forget",
    "expire",
    "export-person",
    "export-all",
    "log",
    "budget",
    "check",
    "metrics",
    "calibrate",
    "loosen-threshold",
    "migrate",
    "users",
    "keys",
    "recover",
    "backup",
]
ROLES: tuple[Role, ...] = get_args(Role)
ACTS: tuple[Act, ...] = get_args(Act)

PERMISSIONS: Mapping[Role, frozenset[Act]] = {
    "operator": frozenset({"verify", "identify", "explain"}),
    "enroller": frozenset({"enrol", "people"}),
    "privacy-officer": frozenset(
        {"people", "consent", "forget", "expire", "export-person", "export-all", "budget", "check"}
    ),
    "auditor": frozenset({"log", "budget", "check", "metrics"}),
    "administrator": frozenset(
        {
            *("users", "keys", "recover", "backup", "check", "metrics"),
            *("calibrate", "loosen-threshold", "migrate"),
        }
    ),
    # Whoever sits at the terminal unlocked the vault with the organisation's key: forbidding them
    # anything would be a promise that a few lines of Python break.
    "terminal": frozenset(ACTS),
}
TWO_PEOPLE: frozenset[Act] = frozenset({"export-all", "loosen-threshold", "recover"})


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Somebody who asks for something: an account's name, never that of an enrolled person."""

    name: str
    role: Role
    scopes: frozenset[Act] = frozenset(ACTS)  # a token may be for less than its role

    def may(self, act: Act) -> bool:
        """Return whether the table lets them."""
        return act in PERMISSIONS[self.role] & self.scopes


TERMINAL = Actor(name="terminal", role="terminal")
# Who showed a token that nobody has: failures counted against an account, or the terminal, would
# let anybody lock it out.
NOBODY = Actor(name="nobody", role="operator", scopes=frozenset())


def verify_may(actor: Actor, act: Act, second: Actor | None = None) -> None:
    """Do nothing if `actor` may do `act`, with the consent of `second` where it takes two.

    Raises:
        AccessDenied: they may not, or the second person is missing, the same, or may not either.
    """
    if not actor.may(act):
        raise AccessDenied(
            f"expected somebody who may {act}, got the role {actor.role}",
            hint="roles that may: " + ", ".join(_roles_that_may(act)),
        )
    if act not in TWO_PEOPLE:
        return
    if second is None or second.name == actor.name or not second.may(act):
        raise AccessDenied(
            f"expected a second person who may {act}, got none",
            hint="the token of another person of these roles: " + ", ".join(_roles_that_may(act)),
        )


def _roles_that_may(act: Act) -> list[str]:
    return [role for role in ROLES if role != "terminal" and act in PERMISSIONS[role]]
