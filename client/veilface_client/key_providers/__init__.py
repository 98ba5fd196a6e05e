"""What opens the vault: a passphrase, a key file, a token, or shares of a recovery key.

A vault has one key-encryption key, random and never stored as it is. A provider wraps it into bytes
that the vault stores, and unwraps them once when the vault is unlocked; see docs/keys.md.
"""

from __future__ import annotations

from typing import Protocol

from veilface_client.key_providers.wrapped import parse_wrapped


class KeyProvider(Protocol):
    """Wraps one key of 32 bytes. What a provider shows of itself holds no secret."""

    kind: str  # "passphrase", "key-file", "pkcs11" or "recovery"

    def wrap(self, key: bytes) -> bytes:
        """Return `key` [32] wrapped: canonical JSON, as `wrapped.py` describes it."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the key [32] that `wrap` was given.

        Raises:
            WrongKey: another passphrase, key or token wrapped it.
            VaultError: another kind of provider did, or it is damaged, or of another format.
        """


def provider_kind(wrapped: bytes) -> str:
    """Return which kind of provider a wrapped key needs.

    Raises:
        VaultError: it is damaged, or of another format.
    """
    return parse_wrapped(wrapped).kind
