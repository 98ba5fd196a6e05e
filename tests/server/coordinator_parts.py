"""A coordinator's folder, and organisations that answer its invitations."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from veilface_common.crypto.signing import SigningKey
from veilface_common.invitation import JoinRequest
from veilface_server.home import Home, Settings, create_home

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SETTINGS = Settings(name="clinics", address="fed.example.org:8443", listen="127.0.0.1:8443")


def made_home(folder: Path) -> Home:
    """Return a new coordinator's folder."""
    return create_home(folder, SETTINGS, NOW)


def new_node_key() -> ec.EllipticCurvePrivateKey:
    """Return the key of a node."""
    return ec.generate_private_key(ec.SECP384R1())


def asks_to_join(
    name: str,
    token: str,
    node: ec.EllipticCurvePrivateKey | None = None,
    seed: bytes = b"\1" * 32,
    **other: str,
) -> JoinRequest:
    """Return an organisation's answer to its invitation."""
    key = SigningKey.from_seed(seed)
    public = (node or new_node_key()).public_key()
    return JoinRequest(
        token=token,
        organisation=name,
        node_key=public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
        key=key.public.pem.decode(),
        **other,
    ).signed(key)
