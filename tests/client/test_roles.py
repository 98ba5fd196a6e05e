"""Who may do what, and whose token is in force."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from veilface_client.roles import (
    ACTS,
    PERMISSIONS,
    ROLES,
    TERMINAL,
    TWO_PEOPLE,
    Act,
    Actor,
    verify_may,
)
from veilface_client.tokens import Users
from veilface_common.errors import AccessDenied, ConfigError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Values:
    """What a vault keeps sealed, in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def secret(self, name: str) -> bytes | None:
        return self.kept.get(name)

    def set_secret(self, name: str, value: bytes) -> None:
        self.kept[name] = value


def actor(role: str, name: str = "a") -> Actor:
    return next(Actor(name=name, role=known) for known in ROLES if known == role)


def test_every_act_is_somebody_s() -> None:
    """No act is left without a role but the terminal's, and every role is in the table."""
    assert set(PERMISSIONS) == set(ROLES)
    assert {act for role in ROLES[:-1] for act in PERMISSIONS[role]} == set(ACTS)


def test_an_administrator_does_not_match_faces() -> None:
    """Keys and users are in other hands than faces are."""
    for act in ("verify", "identify", "explain", "enrol", "people", "export-person", "export-all"):
        assert act not in PERMISSIONS["administrator"]
        assert act not in PERMISSIONS["auditor"]
    assert not PERMISSIONS["operator"] & {"people", "export-person", "export-all", "forget"}


@pytest.mark.parametrize("role", [role for role in ROLES if role != "terminal"])
@pytest.mark.parametrize("act", ACTS)
def test_the_table_is_what_is_enforced(role: str, act: Act) -> None:
    """Exactly the acts of the table are let through."""
    second = actor(role, "b")
    if act in PERMISSIONS[actor(role).role]:
        verify_may(actor(role), act, second)
    else:
        with pytest.raises(AccessDenied, match="expected somebody who may"):
            verify_may(actor(role), act, second)


@pytest.mark.parametrize("act", sorted(TWO_PEOPLE))
def test_nobody_is_two_people(act: Act) -> None:
    """The second person is another one, and may do it as well."""
    first = next(actor(role) for role in ROLES if act in PERMISSIONS[role])
    for second in (None, first, actor("operator", "b")):
        with pytest.raises(AccessDenied, match="second person"):
            verify_may(first, act, second)
    with pytest.raises(AccessDenied, match="second person"):
        verify_may(TERMINAL, act)
    verify_may(TERMINAL, act, Actor(name="b", role=first.role))


def test_a_scope_takes_from_a_role_and_adds_nothing() -> None:
    """A token for verify alone does not identify; no scope makes an operator forget people."""
    door = Actor(name="door", role="operator", scopes=frozenset({"verify", "forget"}))
    verify_may(door, "verify")
    for act in ("identify", "forget"):
        with pytest.raises(AccessDenied):
            verify_may(door, act)  # type: ignore[arg-type]


def test_a_token_is_its_holder_s_until_it_ends() -> None:
    """Shown once, kept as a digest, ended by time or by hand."""
    values = Values()
    users = Users(values)
    token = users.add("door-3", "operator", NOW, days=10, scopes=("verify",))
    held = users.actor(token, NOW + timedelta(days=9))
    assert (held.name, held.role, held.scopes) == ("door-3", "operator", frozenset({"verify"}))
    assert token.encode() not in b"".join(values.kept.values())
    assert token.rsplit("_", 1)[1].encode() not in b"".join(values.kept.values())
    with pytest.raises(AccessDenied, match="in force"):
        users.actor(token, NOW + timedelta(days=10))
    users.remove("door-3")
    with pytest.raises(AccessDenied, match="in force"):
        users.actor(token, NOW)


@pytest.mark.parametrize("change", [lambda t: t + "a", lambda t: t[:-1], lambda _: "", str.upper])
def test_a_token_that_was_changed_is_nobody_s(change: object) -> None:
    """Every character counts."""
    users = Users(Values())
    token = users.add("a", "auditor", NOW)
    assert callable(change)
    with pytest.raises(AccessDenied):
        users.actor(change(token), NOW)


def test_a_planted_account_needs_the_sealed_key() -> None:
    """A digest that was made without the key admits nobody."""
    values, other = Values(), Values()
    token = Users(other).add("thief", "administrator", NOW)
    Users(values).add("a", "auditor", NOW)
    values.kept["users"] = other.kept["users"]
    with pytest.raises(AccessDenied):
        Users(values).actor(token, NOW)


@pytest.mark.parametrize(
    ("name", "role", "days", "scopes"),
    [
        ("Mr Li", "operator", 1, ()),
        ("a", "terminal", 1, ()),
        ("a", "king", 1, ()),
        ("a", "operator", 0, ()),
        ("a", "operator", 400, ()),
        ("a", "operator", 1, ("fly",)),
        ("taken", "operator", 1, ()),
    ],
)
def test_accounts_that_are_not_made(
    name: str, role: str, days: int, scopes: tuple[str, ...]
) -> None:
    """A bad account is refused, and nothing is kept of it."""
    users = Users(Values())
    users.add("taken", "auditor", NOW)
    with pytest.raises(ConfigError):
        users.add(name, role, NOW, days=days, scopes=scopes)
    assert [user.name for user in users.all()] == ["taken"]
