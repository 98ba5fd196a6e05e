"""Answering an invitation: to whom keys are shown, what is kept, and what each failure says."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from veilface_client.federation import Joined, join, load_federation
from veilface_client.home import Settings, save_settings
from veilface_client.identity import load_coordinators
from veilface_client.node.reaching import (
    AnswerLost,
    Unreachable,
    WrongAuthority,
    verify_clock,
)
from veilface_common.crypto.signing import SigningKey
from veilface_common.errors import ArtifactError, ConfigError, FederationError, SignatureError
from veilface_common.invitation import Invitation, parse_join
from veilface_common.processes import free_port
from veilface_server.authority import CA, LINK, LINK_KEY, make_authority, renew_link_certificate

NOW = datetime(2026, 1, 2, tzinfo=UTC)
COORDINATOR = SigningKey.from_seed(bytes(32))


class Coordinator:
    """Answers as it is told, over TLS, and keeps what it was sent."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        make_authority(folder, "test", datetime.now(UTC))
        renew_link_certificate(folder, "127.0.0.1", datetime.now(UTC))
        self.authority = (folder / CA).read_text()
        self.status, self.answer = 200, json.dumps({"status": "waiting"})
        self.heard: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.heard.append(self.rfile.read(int(self.headers["content-length"])))
                if outer.status:
                    self.send_response(outer.status)
                    self.end_headers()
                    self.wfile.write(outer.answer.encode())

            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / LINK, folder / LINK_KEY)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def invitation(self, **changes: str) -> Invitation:
        port = self.server.server_address[1]
        made = Invitation(
            federation="test .. fed",
            address=f"127.0.0.1:{port}",
            organisation="shop",
            token="t" * 32,
            expires=(NOW + timedelta(days=7)).isoformat(),
            ca=self.authority,
            coordinator=COORDINATOR.public.pem.decode(),
        )
        return replace(made, **changes).signed(COORDINATOR)


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    """One that lets everybody in."""
    made = Coordinator(tmp_path / "coordinator")
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An organisation's folder, as far as a join looks."""
    folder = tmp_path / "shop"
    folder.mkdir()
    save_settings(folder, Settings(name="shop", model="00"))
    return folder


def asked(home: Path, invitation: Invitation) -> Joined:
    return join(home, invitation.encode(), NOW)


def test_join_shows_public_keys_and_keeps_what_the_invitation_says(
    coordinator: Coordinator, home: Path
) -> None:
    """The coordinator gets two public keys under a signature, and no private one."""
    joined = asked(home, coordinator.invitation())
    assert joined.status == "waiting"
    [body] = coordinator.heard
    request = parse_join(body)
    assert request.organisation_key == joined.organisation
    assert b"PRIVATE" not in body
    assert load_federation(home) == joined.federation
    assert (home / "node" / "ca.crt").read_text() == coordinator.authority
    assert load_coordinators(home / "training") == {
        COORDINATOR.public.fingerprint: COORDINATOR.public
    }
    names = {path.name for path in (home / "training" / "coordinators").iterdir()}
    assert names == {f"test-fed-{COORDINATOR.public.fingerprint}.pub"}


def test_join_whose_answer_was_lost_is_made_again_with_the_same_keys(
    coordinator: Coordinator, home: Path
) -> None:
    """The coordinator knows the keys by then."""
    coordinator.status = 0
    with pytest.raises(AnswerLost):
        asked(home, coordinator.invitation())
    coordinator.status = 200
    asked(home, coordinator.invitation())
    first, second = coordinator.heard
    assert first == second


def test_refusal_says_the_coordinators_reason_and_nothing_is_kept(
    coordinator: Coordinator, home: Path
) -> None:
    """A used invitation, for one; what was said is shown without tricks for the terminal."""
    coordinator.status = 403
    coordinator.answer = json.dumps({"error": "used \x1b[2J already", "hint": "ask"})
    with pytest.raises(FederationError, match=r"did not let us in: used  \[2J already") as caught:
        asked(home, coordinator.invitation())
    assert caught.value.hint == "ask"
    assert not (home / "federation.json").exists()


def test_answer_without_end_is_not_read(coordinator: Coordinator, home: Path) -> None:
    """Whoever invites us may send what our memory does not hold, or a knot that JSON cannot."""
    coordinator.answer = json.dumps({"status": "w" * (1 << 20)})
    with pytest.raises(ArtifactError, match="at most"):
        asked(home, coordinator.invitation())
    coordinator.answer = "[" * 50_000
    with pytest.raises(AnswerLost):
        asked(home, coordinator.invitation())
    assert not (home / "federation.json").exists()


@pytest.mark.parametrize("date", ["soon", "", "Thu, 01 Jan 2026 00:00:00 -0000"])
def test_a_date_that_is_none_stops_no_node(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, date: str
) -> None:
    """A proxy on the way writes what it likes; Flower then says what it thinks of the clock."""
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda *_: date)
    address = coordinator.invitation().address
    assert verify_clock(address, coordinator.authority) is None


def test_coordinator_of_another_authority_hears_nothing(
    coordinator: Coordinator, home: Path, tmp_path: Path
) -> None:
    """Somebody who answers at the right address with a certificate of their own."""
    make_authority(tmp_path, "other", datetime.now(UTC))
    other = (tmp_path / CA).read_text()
    with pytest.raises(WrongAuthority):
        asked(home, coordinator.invitation(ca=other))
    assert not coordinator.heard


def test_coordinator_that_is_away(coordinator: Coordinator, home: Path) -> None:
    """One line with what to look at."""
    with pytest.raises(Unreachable) as caught:
        asked(home, coordinator.invitation(address=f"127.0.0.1:{free_port()}"))
    assert "firewall" in (caught.value.hint or "")


def test_altered_invitation_is_refused(coordinator: Coordinator, home: Path) -> None:
    """Another address under the coordinator's signature, for one."""
    altered = replace(coordinator.invitation(), address="127.0.0.1:1")
    with pytest.raises(SignatureError):
        asked(home, altered)
    assert not coordinator.heard


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"organisation": "other"}, "an invitation for 'shop', got one for 'other'"),
        ({"expires": NOW.isoformat()}, "in force"),
    ],
)
def test_invitation_that_does_not_fit_is_refused_before_anybody_is_asked(
    coordinator: Coordinator, home: Path, change: dict[str, str], says: str
) -> None:
    """It is for somebody else, or its time is over."""
    with pytest.raises(ConfigError, match=says):
        asked(home, coordinator.invitation(**change))
    assert not coordinator.heard


def test_folder_that_belongs_to_another_coordinator_does_not_change_sides(
    coordinator: Coordinator, home: Path
) -> None:
    """Its budget and its keys are one federation's."""
    asked(home, coordinator.invitation())
    other = SigningKey.from_seed(bytes([1] * 32))
    pem = other.public.pem.decode()
    with pytest.raises(ConfigError, match="another coordinator"):
        join(home, replace(coordinator.invitation(), coordinator=pem).signed(other).encode(), NOW)


def test_invitation_broken_by_a_mail_program_is_read(coordinator: Coordinator, home: Path) -> None:
    """Lines of 60 characters."""
    text = coordinator.invitation().encode()
    broken = "\n".join(text[at : at + 60] for at in range(0, len(text), 60))
    assert join(home, broken, NOW).status == "waiting"
