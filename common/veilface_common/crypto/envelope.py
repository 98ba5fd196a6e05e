"""AES-256-GCM (NIST SP 800-38D): what is sealed can be read and changed by nobody without the key.

    sealed = nonce [12] || ciphertext || tag [16]

There is nothing to choose. Nonces are random, so one key may seal 2^32 messages (SP 800-38D, 8.3);
a person's data key seals a handful. A counter would be worse: a restored snapshot would count the
same numbers again.

GCM does not commit to its key: sealed bytes can be made that open under two keys. So `key_id`
stands beside what a key sealed, and is compared before anything is decrypted.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from veilface_common.errors import VaultError

KEY_BYTES, NONCE_BYTES, KEY_ID_BYTES = 32, 12, 16


def seal(key: bytes, plain: bytes, associated: bytes, nonce: bytes | None = None) -> bytes:
    """Return `plain` sealed under `key` [32] and bound to `associated`.

    The nonce [12] is given in tests of the format alone: a nonce used twice with one key tells the
    difference of the two texts and lets others forge.
    """
    nonce = os.urandom(NONCE_BYTES) if nonce is None else nonce
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"expected a nonce of {NONCE_BYTES} bytes, got {len(nonce)}")
    return nonce + _cipher(key).encrypt(nonce, plain, associated)


def unseal(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """Return what was sealed under this `key` [32] and bound to this `associated`.

    Raises:
        VaultError: it was not, or was altered since; which of these, nobody can tell.
    """
    cipher = _cipher(key)
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):  # the second: too short to hold a nonce
        raise VaultError("expected sealed bytes that open, got altered or foreign ones") from None


def derive(key: bytes, purpose: str, context: bytes = b"") -> bytes:
    """Return the key [32] for one purpose below `key` [32]; it tells nothing of any other key.

    HKDF-SHA256 (RFC 5869) without salt, info = "veilface" NUL purpose NUL context.
    """
    if "\0" in purpose:
        raise ValueError("expected a purpose without a zero byte: it ends at one")
    _check(key)
    info = b"veilface\0" + purpose.encode() + b"\0" + context
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


def key_id(key: bytes) -> bytes:
    """Return the name [16] of `key` [32], which may be seen by all and commits to the key."""
    return derive(key, "key id")[:KEY_ID_BYTES]


def associated(purpose: str, *fields: bytes | str | int) -> bytes:
    """Return the bytes that bind a sealed text to its purpose and place.

    Each part, the purpose first, is its type (`p`, `b`, `s` or `i`), its length in 4 bytes, big
    endian, and itself: text in UTF-8, a number in decimal. No two lists give the same bytes.
    """
    return _part(b"p", purpose.encode()) + b"".join(map(_field, fields))


def _field(field: bytes | str | int) -> bytes:
    if isinstance(field, bytes):
        return _part(b"b", field)
    if isinstance(field, str):
        return _part(b"s", field.encode())
    if isinstance(field, bool):
        raise TypeError("expected bytes, text or a number, got a bool")
    return _part(b"i", b"%d" % field)


def _part(tag: bytes, content: bytes) -> bytes:
    return tag + len(content).to_bytes(4, "big") + content


def _cipher(key: bytes) -> AESGCM:
    _check(key)
    return AESGCM(key)


def _check(key: bytes) -> None:
    """Refuse the 16 and 24 bytes that AES would take as well."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"expected a key of {KEY_BYTES} bytes, got {len(key)}")
