"""Invitations and answers to them: whole, signed, and the same on both sides."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from veilface_common.crypto.signing import SigningKey
from veilface_common.errors import ArtifactError, ConfigError, KeyFileError, SignatureError
from veilface_common.invitation import (
    PREFIX,
    Invitation,
    JoinRequest,
    parse_invitation,
    parse_join,
    spoken,
    verify_name,
)

COORDINATOR, ORGANISATION, STRANGER = (SigningKey.from_seed(bytes([i]) * 32) for i in (1, 2, 3))
END = datetime(2026, 1, 8, tzinfo=UTC)
INVITATION = Invitation(
    federation="clinics",
    address="fed.example.org:8443",
    organisation="ada",
    token="0" * 32,
    expires=END.isoformat(),
    ca="CA",
    coordinator=COORDINATOR.public.pem.decode(),
).signed(COORDINATOR)


def node_key(curve: ec.EllipticCurve) -> str:
    """Return a new public key as an OpenSSH line."""
    key = ec.generate_private_key(curve).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def request() -> JoinRequest:
    """Return an answer to the invitation, signed."""
    return JoinRequest(
        token=INVITATION.token,
        organisation="ada",
        node_key=node_key(ec.SECP384R1()),
        key=ORGANISATION.public.pem.decode(),
    ).signed(ORGANISATION)


def test_an_invitation_survives_a_mail_program() -> None:
    """What is read is what was written, however its line was broken."""
    text = INVITATION.encode()
    broken = "\n".join(text[i : i + 70] for i in range(0, len(text), 70))
    assert parse_invitation(broken) == INVITATION


def test_an_altered_invitation_is_rejected() -> None:
    """Another address, or another authority, under the coordinator's name."""
    for change in ({"address": "evil.example.org:8443"}, {"ca": "EVIL"}, {"token": "1" * 32}):
        with pytest.raises(SignatureError):
            parse_invitation(replace(INVITATION, **change).encode())


def test_a_strangers_invitation_reads_aloud_as_a_strangers() -> None:
    """Who signs anew in his own name changes what is compared by voice."""
    forged = replace(INVITATION, coordinator=STRANGER.public.pem.decode()).signed(STRANGER)
    read = parse_invitation(forged.encode()).coordinator_key
    assert spoken(read) != spoken(COORDINATOR.public)
    assert spoken(read) == spoken(STRANGER.public)


@pytest.mark.parametrize("text", ["", "hello", PREFIX, PREFIX + "!!", PREFIX + "e30=", "x" * 99999])
def test_what_is_no_invitation_is_refused(text: str) -> None:
    """One error, whatever the text is."""
    with pytest.raises(ArtifactError):
        parse_invitation(text)


def test_a_field_more_is_refused() -> None:
    """Nothing rides along unsigned."""
    body = json.loads(base64.urlsafe_b64decode(INVITATION.encode().removeprefix(PREFIX)))
    content = base64.urlsafe_b64encode(json.dumps(body | {"more": "x"}).encode()).decode()
    with pytest.raises(ArtifactError):
        parse_invitation(PREFIX + content)


def test_an_invitation_expires() -> None:
    """At its time it is over, not a second later."""
    assert INVITATION.has_expired(END)
    assert not INVITATION.has_expired(END - timedelta(seconds=1))


def test_an_answer_is_bound_to_its_key() -> None:
    """Nobody can put another node's key, or another name, under an organisation's signature."""
    asked = request()
    assert parse_join(asked.encode()) == asked
    for change in (
        {"node_key": node_key(ec.SECP384R1())},
        {"organisation": "bob"},
        {"key": STRANGER.public.pem.decode()},
    ):
        with pytest.raises(SignatureError):
            parse_join(replace(asked, **change).encode())


def test_a_node_key_of_another_kind_is_refused() -> None:
    """Flower's own curve or none."""
    weak = replace(request(), node_key=node_key(ec.SECP256R1())).signed(ORGANISATION)
    with pytest.raises(KeyFileError):
        parse_join(weak.encode())


@pytest.mark.parametrize(
    "name", ["", " ada", "a/b", "a\\b", "..", ".a", "a\nb", "a=1", "a,b", "x" * 65]
)
def test_names_that_would_mean_something_else_are_refused(name: str) -> None:
    """A name stands in paths, lists and log lines."""
    with pytest.raises(ConfigError):
        verify_name(name)


def test_usual_names_are_names() -> None:
    """With spaces, digits and letters of any script."""
    for name in ("ada", "St. Mary's 2", "北京医院", "x" * 64):
        verify_name(name)


def test_what_is_read_aloud_is_frozen() -> None:
    """Two releases of Veilface must show one key alike."""
    assert spoken(COORDINATOR.public) == "3475 0f98 bd59 fcfc 946d a45a aabe 933b"
    assert COORDINATOR.public.fingerprint == "34750f98bd59fcfc"


@pytest.mark.parametrize(
    "change",
    [
        {"federation": "clinics\x1b[2J\x1b[H"},
        {"address": "fed.example.org:8443/x?"},
        {"address": "a b:1"},
        {"address": "fed.example.org"},
    ],
)
def test_what_would_steer_a_terminal_or_a_url_is_refused(change: dict[str, str]) -> None:
    """Its signer may be anybody, and what is shown of it stands above the keys to be compared."""
    hostile = replace(INVITATION, **change).signed(COORDINATOR)
    with pytest.raises(ConfigError):
        parse_invitation(hostile.encode())


def test_a_node_key_in_other_words_is_refused() -> None:
    """With a comment behind it, another member's key would not look like that member's."""
    asked = request()
    for line in (asked.node_key + " mine", asked.node_key + "\nmore", asked.node_key + " "):
        with pytest.raises(KeyFileError):
            parse_join(replace(asked, node_key=line).signed(ORGANISATION).encode())


def test_a_request_that_json_alone_takes_is_refused() -> None:
    """Half a surrogate pair, which nothing can sign, and brackets without end: from a stranger."""
    body = json.loads(request().encode()) | {"software": "\ud800"}
    for content in (json.dumps(body).encode(), b"[" * 30000):
        with pytest.raises(ArtifactError):
            parse_join(content)
