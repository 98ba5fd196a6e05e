"""What an access log can say: who did what to which pseudonym, and with what outcome.

A name has no place in it. Every field but `reason`, and every string in `details`, is of a fixed
form; those two are short, so that nobody writes a person's story into them by accident.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from veilface_client.roles import ROLES, Role
from veilface_common.budget.entries import canonical
from veilface_common.errors import ConfigError

Kind = Literal[
    "enrolled",
    "added",  # a template of somebody who is enrolled
    "verified",
    "identified",
    "forgotten",
    "expired",
    "exported",
    "consent-changed",
    "migrated",
    "calibrated",
    "threshold-loosened",
    "vault-rotated",
    "recovered",
    "user-added",
    "user-removed",
    "user-failed",  # a token or passphrase that nobody has
    "refused",  # a permission or a limit
    "alert",
    "restored",
    "note",
]
Outcome = Literal["done", "match", "no-match", "known", "unknown", "refused", "failed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
FREQUENT: frozenset[str] = frozenset({"verified", "identified"})  # vouched for by a checkpoint
MAX_TEXT = 200
MAX_DETAILS = 16
Detail = str | int | float

_USER = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_SUBJECT = re.compile(r"[0-9a-f]{32}")
_ROOT = re.compile(r"[0-9a-f]{64}")
_DETAIL = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that somebody did, or tried to.

    Raises:
        ConfigError: a field is not of its form, when one is made.
    """

    actor: str  # an account's name, or 'terminal'
    role: Role
    outcome: Outcome
    subject: str | None = None  # a person's pseudonym, 32 hex digits; never a name
    reason: str = ""
    second: str = ""  # who consented, where an act takes two
    generation: int | None = None  # of the vault after the act, and
    root: str | None = None  # its Merkle root, 64 hex digits
    details: Mapping[str, Detail] = field(default_factory=dict)  # figures that anybody may read

    def __post_init__(self) -> None:
        for name, value in (("actor", self.actor), ("second", self.second or "nobody")):
            _verify(name, _matches(_USER, value), "an account's name")
        _verify("role", self.role in ROLES, "a known role")
        _verify("outcome", self.outcome in OUTCOMES, f"one of {', '.join(OUTCOMES)}")
        pseudonym = self.subject is None or _matches(_SUBJECT, self.subject)
        _verify("subject", pseudonym, "a pseudonym of 32 hex digits")
        _verify("reason", is_short_text(self.reason), f"at most {MAX_TEXT} printable characters")
        both = type(self.generation) is int and self.generation >= 0 and _matches(_ROOT, self.root)
        neither = self.generation is None and self.root is None
        _verify("generation", both or neither, "a number and the root of 64 hex digits, or neither")
        _verify(
            "details",
            isinstance(self.details, Mapping)
            and len(self.details) <= MAX_DETAILS
            and all(_matches(_DETAIL, name) for name in self.details)
            and all(_is_detail(value) for value in self.details.values()),
            f"at most {MAX_DETAILS} figures and short texts under names such as 'photographs'",
        )

    def content(self) -> dict[str, object]:
        """Return what an entry's body says of it."""
        return asdict(self)


def verify_kind(kind: str, event: Event) -> None:
    """Do nothing if such an entry may tell of such an event.

    Raises:
        ConfigError: the kind is unknown, or what nobody signs at once would name a root: it could
            be forged to bless an older vault.
    """
    if kind not in KINDS:
        raise ConfigError(f"expected a known kind of entry, got {kind!r}")
    if kind in FREQUENT and event.root is not None:
        raise ConfigError(f"expected no root in an entry of the kind {kind}")


def is_short_text(value: object) -> bool:
    """Return whether it is a text of one line that is short enough for the log."""
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()


def body_of(event: Event) -> str:
    """Return the body of an entry."""
    return canonical(event.content())


def _matches(form: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


def _is_detail(value: object) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is int or is_short_text(value)


def _verify(name: str, holds: bool, expected: str) -> None:  # noqa: FBT001 -- the condition itself
    if not holds:
        raise ConfigError(f"expected {name} of a log entry to be {expected}")  # never what it was
