"""Who may join: once, with an invitation, in time, with keys of one's own."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.server.coordinator_parts import NOW, asks_to_join, made_home

from veilface_common.errors import AccessDenied, ArtifactError, ConfigError
from veilface_common.invitation import JoinRequest
from veilface_server.home import Home
from veilface_server.register import MEMBERS, Member, change, invited, joined, load_members, waiting

END = NOW + timedelta(days=7)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return a coordinator's folder in which ada is invited by the token `first`."""
    home = made_home(tmp_path / "federation")
    invite(home, "ada", "first")
    return home


def invite(home: Home, name: str, token: str) -> Member:
    return change(home, name, lambda known: invited(known, name, token, END, NOW))


def join(home: Home, request: JoinRequest, now: object = NOW) -> Member:
    return change(home, request.organisation, lambda known: joined(known, request, now))  # type: ignore[arg-type]


def test_who_answers_waits_until_approved(home: Home) -> None:
    """Joining alone makes nobody a member, and its keys are kept as they came."""
    request = asks_to_join("ada", "first")
    assert join(home, request).status == "waiting"
    found = load_members(home.folder)["ada"]
    assert (found.key.pem.decode(), found.node_key) == (request.key, request.node_key)
    assert waiting({"ada": found}, "ada") == found


def test_the_token_itself_is_not_kept(home: Home) -> None:
    """Who reads the register can invite nobody."""
    assert "first" not in (home.folder / MEMBERS).read_text()


def test_an_answer_that_was_lost_may_be_sent_again(home: Home) -> None:
    """The same request gives the same member; the reply to the first may have been lost."""
    request = asks_to_join("ada", "first")
    assert join(home, request) == join(home, request)


def test_a_used_invitation_is_refused(home: Home) -> None:
    """A thief who comes second is told; one who comes first is seen when keys are compared."""
    join(home, asks_to_join("ada", "first"))
    with pytest.raises(AccessDenied, match="used already"):
        join(home, asks_to_join("ada", "first", seed=b"\2" * 32))


def test_a_guessed_token_and_a_foreign_name_are_refused(home: Home) -> None:
    """A token is for one name."""
    invite(home, "bob", "second")
    for request in (asks_to_join("ada", "guess"), asks_to_join("bob", "first")):
        with pytest.raises(AccessDenied, match="that stands"):
            join(home, request)
    assert {m.status for m in load_members(home.folder).values()} == {"invited"}


def test_an_expired_invitation_is_refused(home: Home) -> None:
    """At its end, not after."""
    request = asks_to_join("ada", "first")
    with pytest.raises(AccessDenied, match="expired"):
        join(home, request, END)
    assert join(home, request, END - timedelta(seconds=1)).status == "waiting"


def test_another_release_is_refused_and_may_try_again(home: Home) -> None:
    """The invitation still stands after the organisation has changed its software."""
    with pytest.raises(ConfigError, match="veilface 9"):
        join(home, asks_to_join("ada", "first", software="veilface 9.9"))
    assert join(home, asks_to_join("ada", "first")).status == "waiting"


def test_keys_of_another_member_are_refused(home: Home) -> None:
    """Otherwise one organisation could answer for two."""
    join(home, asks_to_join("ada", "first"))
    invite(home, "bob", "second")
    with pytest.raises(ConfigError, match="of another"):
        join(home, asks_to_join("bob", "second"))


def test_a_member_is_not_invited_again_by_mistake(home: Home) -> None:
    """Its keys would be lost; removed, it may be."""
    join(home, asks_to_join("ada", "first"))
    with pytest.raises(ConfigError, match="has joined"):
        invite(home, "ada", "again")
    change(home, "ada", lambda known: replace(known["ada"], status="removed", token=""))
    with pytest.raises(AccessDenied):
        join(home, asks_to_join("ada", "first"))
    assert invite(home, "ada", "again").status == "invited"


def test_a_new_invitation_ends_the_old_one(home: Home) -> None:
    """Only the last one stands."""
    invite(home, "ada", "second")
    with pytest.raises(AccessDenied):
        join(home, asks_to_join("ada", "first"))
    assert join(home, asks_to_join("ada", "second")).status == "waiting"


def test_one_token_lets_one_of_many_in(home: Home) -> None:
    """Twelve at once: the lock leaves no gap between looking and writing."""
    requests = [asks_to_join("ada", "first", seed=bytes([i]) * 32) for i in range(1, 13)]
    let_in = []

    def attempt(request: JoinRequest) -> None:
        with contextlib.suppress(AccessDenied):
            let_in.append(join(home, request).key_pem)

    threads = [threading.Thread(target=attempt, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert let_in == [load_members(home.folder)["ada"].key_pem]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"ada": 1}', '{"ada": {"status": "owner", "key": ""}}']
)
def test_a_damaged_register_is_told(home: Home, content: str) -> None:
    """Never read as an empty one."""
    (home.folder / MEMBERS).write_text(content)
    with pytest.raises(ArtifactError):
        load_members(home.folder)
