"""What is passed by hand before two sides know each other, and the answer to it.

    invitation   "veilface-invitation:" and base64url of JSON, signed by the coordinator
    join         JSON, signed by the organisation

Both are signed by a key that stands inside: the signature holds the parts together and says nothing
about who wrote them. That is for voices: each side reads the other's key aloud as it is shown here,
and the other compares. The coordinator's signature covers the certificate authority, the
organisation's covers its node's key, so that one comparison in each direction is enough.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from importlib.metadata import version
from typing import Any, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)

from veilface_common.address import split_address
from veilface_common.budget.entries import canonical
from veilface_common.crypto.signing import Purpose, SigningKey, VerifyKey, parse_verify_key
from veilface_common.errors import ArtifactError, ConfigError, KeyFileError, SignatureError

PREFIX = "veilface-invitation:"
MAX_BYTES = 1 << 15  # of either, as text
MAX_NAME = 64
SOFTWARE = f"veilface {version('veilface')}"
_GROUPS, _GROUP = 8, 4


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """What an organisation needs to know to join, and the token that lets it do so once."""

    federation: str
    address: str  # HOST:PORT
    organisation: str
    token: str
    expires: str  # ISO 8601, UTC
    ca: str  # PEM: who vouches for the address
    coordinator: str  # PEM, Ed25519
    signature: str = ""  # hex

    @property
    def coordinator_key(self) -> VerifyKey:
        """By which the coordinator signs."""
        return parse_verify_key(self.coordinator.encode(), "the invitation")

    def signed(self, key: SigningKey) -> Invitation:
        """Return the invitation with the coordinator's signature."""
        return replace(self, signature=key.sign("invitation", _body(self)).hex())

    def encode(self) -> str:
        """Return it as one line of text."""
        content = json.dumps(asdict(self), separators=(",", ":")).encode()
        return PREFIX + base64.urlsafe_b64encode(content).decode()

    def has_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return now >= datetime.fromisoformat(self.expires)


@dataclass(frozen=True, kw_only=True)
class JoinRequest:
    """An organisation's answer: its two public keys, under the token that it was given."""

    token: str
    organisation: str
    node_key: str  # an OpenSSH line, ECDSA on P-384: by which its node shows itself to Flower
    key: str  # PEM, Ed25519: by which the organisation signs
    software: str = SOFTWARE
    signature: str = ""  # hex

    @property
    def organisation_key(self) -> VerifyKey:
        """By which the organisation signs."""
        return parse_verify_key(self.key.encode(), "the request to join")

    def signed(self, key: SigningKey) -> JoinRequest:
        """Return the request with the organisation's signature."""
        return replace(self, signature=key.sign("join", _body(self)).hex())

    def encode(self) -> bytes:
        """Return it as it is sent."""
        return json.dumps(asdict(self)).encode()


def parse_invitation(text: str) -> Invitation:
    """Return the invitation in a text, after its signature was checked.

    Raises:
        ArtifactError: it is none, it is damaged, or it was altered (SignatureError).
        ConfigError: a name or the address in it cannot be one. Whoever signed it may have meant
            them for a terminal.
    """
    text = "".join(text.split())  # mail programs break lines
    damaged = ArtifactError(
        f"expected an invitation, a line that begins with {PREFIX!r}, got something else",
        hint="copy the whole of it, or name the file that holds it",
    )
    if not text.startswith(PREFIX) or len(text) > MAX_BYTES:
        raise damaged
    try:
        content = base64.b64decode(text.removeprefix(PREFIX), altchars=b"-_", validate=True)
    except ValueError:
        raise damaged from None
    found = _parsed(Invitation, content, "the invitation")
    _verify(found.coordinator_key, "invitation", found)
    try:
        has_zone = datetime.fromisoformat(found.expires).tzinfo is not None
    except ValueError:
        has_zone = False
    if not has_zone:
        raise ArtifactError(f"expected a time with its zone, got {found.expires[:40]!r}")
    verify_name(found.federation)
    verify_name(found.organisation)
    split_address(found.address)
    return found


def parse_join(content: bytes) -> JoinRequest:
    """Return the request in the body of a POST, after its signature was checked.

    Raises:
        ArtifactError: it is none, it is damaged, or it was altered (SignatureError, KeyFileError).
        ConfigError: the name cannot be one of an organisation.
    """
    found = _parsed(JoinRequest, content, "the request to join")
    _verify(found.organisation_key, "join", found)
    verify_name(found.organisation)
    key = parse_node_key(found.node_key)
    if found.node_key != key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode():
        # With a comment behind it, another member's key would pass as one of its own.
        raise KeyFileError("expected a node's key alone on its line, got more")
    return found


def parse_node_key(line: str) -> ec.EllipticCurvePublicKey:
    """Return the public key in an OpenSSH line. Raises KeyFileError when it is not on P-384."""
    try:
        key = load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise KeyFileError("expected a node's key as an OpenSSH line, ECDSA on P-384, got another")
    return key


def verify_name(name: str) -> None:
    """Do nothing if an organisation may be called so: it stands in files, lists and log lines.

    Raises:
        ConfigError: it may not.
    """
    fits = name.isprintable() and name == name.strip() and 0 < len(name) <= MAX_NAME
    if not fits or re.search(r'[/\\,="]', name) or name.startswith("."):
        raise ConfigError(
            f"expected a name of 1 to {MAX_NAME} printable characters, got {name[:80]!r}",
            hint='without / \\ , = " and with no . before it',
        )


def spoken(key: VerifyKey) -> str:
    """Return a key as it is read aloud: 128 bits of SHA-256 over its 32 bytes, in groups.

    The first four groups are `VerifyKey.fingerprint`.
    """
    loaded = load_pem_public_key(key.pem)
    digest = hashlib.sha256(loaded.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()
    return " ".join(digest[_GROUP * i : _GROUP * (i + 1)] for i in range(_GROUPS))


T = TypeVar("T", Invitation, JoinRequest)


def _body(value: Invitation | JoinRequest) -> bytes:
    body = asdict(value)
    del body["signature"]
    return canonical(body).encode()


def _parsed(kind: type[T], content: bytes, where: str) -> T:
    if len(content) > MAX_BYTES:
        raise ArtifactError(f"expected at most {MAX_BYTES} bytes in {where}, got {len(content)}")
    try:
        body: Any = json.loads(content)
        json.dumps(body, ensure_ascii=False).encode()  # no half of a surrogate pair is signed
    except (ValueError, RecursionError):
        raise ArtifactError(f"expected {where} as it was written, got a damaged one") from None
    names = {entry.name for entry in fields(kind)}
    if not isinstance(body, dict) or set(body) != names:
        raise ArtifactError(
            f"expected {where} with {', '.join(sorted(names))}, got other content",
            hint="both sides need the same release of Veilface",
        )
    if not all(isinstance(value, str) for value in body.values()):
        raise ArtifactError(f"expected text in every field of {where}")
    return kind(**body)


def _verify(key: VerifyKey, purpose: Purpose, value: Invitation | JoinRequest) -> None:
    try:
        signature = bytes.fromhex(value.signature)
    except ValueError:
        raise SignatureError(f"expected a signature in hex, got {value.signature[:40]!r}") from None
    key.verify(purpose, _body(value), signature)
