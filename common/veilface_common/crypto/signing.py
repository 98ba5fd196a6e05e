"""Ed25519 (RFC 8032): who wrote this, and is it what was written.

Every signature is over a purpose and a message, so that one made for a ledger can never be shown
as one of a model:  sign( b"veilface" NUL purpose NUL message ).

Keys are PEM files as OpenSSL reads them: PKCS #8, mode 0600, and SubjectPublicKeyInfo.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from veilface_common.errors import KeyFileError, SignatureError
from veilface_common.files import PUBLIC, write_atomically

Purpose = Literal[
    "ledger-entry",
    "ledger-accepted",
    "round-record",
    "evaluation-record",
    "log-entry",
    "log-accepted",
    "receipt",
    "request",
    "reply",
    "invitation",
    "join",
    "release",
]


@dataclass(frozen=True)
class VerifyKey:
    """The public half: it checks what the other half signed."""

    _key: Ed25519PublicKey

    def verify(self, purpose: Purpose, message: bytes, signature: bytes) -> None:
        """Do nothing if `signature` is this key's, for this purpose and message.

        Raises:
            SignatureError: it is not.
        """
        try:
            self._key.verify(signature, _signed(purpose, message))
        except InvalidSignature:
            raise SignatureError(f"expected the signature of key {self.fingerprint}") from None

    @property
    def pem(self) -> bytes:
        """The key as PEM."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        """A short name of the key: the first 16 hex digits of SHA-256 over its 32 bytes."""
        raw = self._key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return hashlib.sha256(raw).hexdigest()[:16]


@dataclass(frozen=True)
class SigningKey:
    """The private half; its 32 bytes are shown by nothing here."""

    _key: Ed25519PrivateKey

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """Return the key of a 32-byte seed: `secrets.token_bytes(32)`, or fixed in a test."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, purpose: Purpose, message: bytes) -> bytes:
        """Return the signature, 64 bytes; the same message always gives the same."""
        return self._key.sign(_signed(purpose, message))

    @property
    def public(self) -> VerifyKey:
        """The half to hand out."""
        return VerifyKey(self._key.public_key())

    def __repr__(self) -> str:
        """Say which key it is, not what it is."""
        return f"SigningKey({self.public.fingerprint})"


def save_signing_key(path: Path, key: SigningKey) -> None:
    """Write the private half for its owner alone (0600), and `.pub` beside it for everybody."""
    private = key._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # noqa: SLF001 -- this module's own
    write_atomically(path, private)
    write_atomically(path.with_suffix(".pub"), key.public.pem, mode=PUBLIC)


def load_signing_key(path: Path) -> SigningKey:
    """Return the private half in a file.

    Raises:
        KeyFileError: there is none, it is no Ed25519 key, or others may read it.
    """
    content = _read(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFileError(f"expected {path} to be for its owner alone", hint=f"chmod 600 {path}")
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"expected an Ed25519 private key in {path}")
    return SigningKey(key)


def load_verify_key(path: Path) -> VerifyKey:
    """Return the public half in a file.

    Raises:
        KeyFileError: there is none, or it is no Ed25519 key.
    """
    return parse_verify_key(_read(path), str(path))


def parse_verify_key(pem: bytes, where: str = "the key") -> VerifyKey:
    """Return the public half in PEM. Raises KeyFileError when it is not one."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"expected an Ed25519 public key in {where}")
    return VerifyKey(key)


def _signed(purpose: Purpose, message: bytes) -> bytes:
    return b"veilface\0" + purpose.encode() + b"\0" + message


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"expected a key in {path}: {error.strerror}") from error
