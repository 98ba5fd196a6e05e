"""Shares of a recovery key: any three of five people together open the vault, no two can.

The vault's key is wrapped a second time, for a random recovery key. That key is split by Shamir's
scheme into shares of 33 English words (SLIP-39), which are shown once and stored nowhere. So to
wrap, as each erasure does again, must need no secret: it is HPKE (RFC 9180, base mode).

    public = X25519 of derive( recovery key [32], "recovery" )
    sealed = HPKE( X25519, HKDF-SHA256, AES-256-GCM ) for public, info = associated

Were the recovery key kept in the vault instead, whoever unlocks it once could open every older
backup without asking anybody, and with it the people who were erased since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from shamir_mnemonic import MnemonicError, Share, combine_mnemonics, generate_mnemonics

from veilface_client.key_providers.wrapped import damaged, parse_wrapped, unwrap_with, wrap_with
from veilface_common.crypto.envelope import KEY_BYTES, derive, key_id
from veilface_common.errors import ConfigError, VaultError

_KIND = "recovery"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_MOST_SHARES = 16  # SLIP-39's


@dataclass(frozen=True)
class RecoveryLock:
    """The public half, which wraps. Whoever could replace it would get the vault's next key.

    So the vault keeps it sealed, and never takes it from a wrapped key.
    """

    public: bytes  # [32]

    def wrap(self, key: bytes) -> bytes:
        """Return `key` [32] wrapped for the recovery key."""
        recipient = X25519PublicKey.from_public_bytes(self.public)

        def seal(plain: bytes, associated: bytes) -> bytes:
            return _SUITE.encrypt(plain, recipient, associated)

        return wrap_with(seal, key_id(self.public), _KIND, {}, key)


class RecoveryKey:
    """Both halves: `secrets.token_bytes(32)` when the vault is made, `combine` when it is lost."""

    kind = _KIND

    def __init__(self, key: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(derive(key, "recovery"))

    @property
    def lock(self) -> RecoveryLock:
        """The half that wraps without the secret."""
        return RecoveryLock(self._private.public_key().public_bytes_raw())

    def wrap(self, key: bytes) -> bytes:
        """Return `key` [32] wrapped."""
        return self.lock.wrap(key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the key [32] that `wrap` was given.

        Raises:
            WrongKey: for another recovery key.
            VaultError: not for a recovery key, damaged, or of another format.
        """

        def unseal(sealed: bytes, associated: bytes) -> bytes:
            try:
                return _SUITE.decrypt(sealed, self._private, associated)
            except (InvalidTag, ValueError):  # the second: its public half is no point
                raise damaged() from None

        record = parse_wrapped(wrapped, self.kind)
        hint = "are these the shares of this vault?"
        return unwrap_with(unseal, key_id(self.lock.public), record, hint)

    def __repr__(self) -> str:
        """Say which key it is, not what it is."""
        return f"RecoveryKey({key_id(self.lock.public).hex()})"


def split(key: bytes, threshold: int = 3, shares: int = 5) -> list[str]:
    """Return `shares` lines of words, of which any `threshold` give `key` [32] back.

    Raises:
        ConfigError: not 2 <= threshold <= shares <= 16.
    """
    if not 2 <= threshold <= shares <= _MOST_SHARES:
        raise ConfigError(
            f"expected 2 to {_MOST_SHARES} shares and a threshold from 2 to their number, "
            f"got {threshold} of {shares}"
        )
    if len(key) != KEY_BYTES:
        raise ValueError(f"expected a key of {KEY_BYTES} bytes, got {len(key)}")
    mnemonics: list[str] = generate_mnemonics(1, [(threshold, shares)], key)[0]
    return mnemonics


def combine(mnemonics: Sequence[str]) -> bytes:
    """Return the key [32] that the shares were split from; more than enough are welcome.

    Raises:
        VaultError: a share is mistyped or not ours, they are of different keys, or too few.
    """
    shares = [_parse(number, words) for number, words in enumerate(mnemonics, start=1)]
    if len({(share.common_parameters(), share.member_threshold) for share in shares}) > 1:
        raise VaultError(
            "expected shares of one recovery key, got shares of several",
            hint="shares of one key begin with the same three words",
        )
    distinct = list({share.index: share for share in shares}.values())
    needed = distinct[0].member_threshold if distinct else 2
    if len(distinct) < needed:
        raise VaultError(f"expected {needed} different recovery shares, got {len(distinct)}")
    try:
        key: bytes = combine_mnemonics([share.mnemonic() for share in distinct[:needed]])
    except MnemonicError:
        raise VaultError("expected recovery shares that fit, got one that was altered") from None
    return key


def _parse(number: int, words: str) -> Share:
    """Return a share. Its words are secret: errors name it by its place."""
    try:
        share = Share.from_mnemonic(words)
    except MnemonicError:
        raise VaultError(
            f"expected a recovery share, got a mistyped one as number {number}",
            hint="check its words: each share has 33",
        ) from None
    # SLIP-39 also knows groups of shares, other lengths, and stretching that takes an hour.
    if (share.group_count, share.iteration_exponent, len(share.value)) != (1, 1, KEY_BYTES):
        raise VaultError(f"expected a share that Veilface wrote, got another as number {number}")
    return share
