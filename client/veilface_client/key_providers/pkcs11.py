"""The vault's key under an AES key in a PKCS #11 token: a smart card, a USB token, an HSM.

The token's key is made in the token and never leaves it, so a thief of every file here has nothing
without the token, and a key that the token destroys is gone for whoever kept an old backup.

    sealed = C_EncryptInit/C_Encrypt( CKM_AES_GCM, nonce [12], associated, key [32] )

The token is asked once for each unlock. The id of the wrapping key is its CKA_ID, 16 random bytes
from when it was made, as nothing can be derived from a key that does not come out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilface_client.key_providers.private_files import read_private
from veilface_client.key_providers.wrapped import damaged, parse_wrapped, unwrap_with, wrap_with
from veilface_common.crypto.envelope import KEY_BYTES, KEY_ID_BYTES, NONCE_BYTES
from veilface_common.errors import ConfigError, KeyFileError, VaultError, WrongKey

try:
    import pkcs11
    from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, MechanismFlag, ObjectClass
except ImportError:
    raise ConfigError(
        "expected python-pkcs11 for a key in a token, got none",
        hint="pip install 'veilface[pkcs11]'",
    ) from None


@dataclass(frozen=True, kw_only=True)
class Token:
    """Where the wrapping key is. The module is code that runs here: its path is the operator's."""

    module: Path  # the vendor's PKCS #11 library
    label: str  # of the token
    key_label: str = "veilface"


class Pkcs11Provider:
    """Wraps under a key that stays in its token."""

    kind = "pkcs11"

    def __init__(self, token: Token, pin: str) -> None:
        self._token = token
        self._pin = pin

    def wrap(self, key: bytes) -> bytes:
        """Return `key` [32] wrapped.

        Raises:
            WrongKey: the token refused the PIN.
            VaultError: the token or its key is not there, or it refused to encrypt.
        """
        parameters = {"key": self._token.key_label, "token": self._token.label}
        with _wrapping_key(self._token, self._pin) as wrapping_key:
            cipher = _TokenCipher(wrapping_key)
            return wrap_with(cipher.seal, wrapping_key.id, self.kind, parameters, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the key [32] that `wrap` was given.

        Raises:
            WrongKey: another token's key wrapped it, or the token refused the PIN.
            VaultError: not by a token, damaged, of another format, or the token is not there.
        """
        record = parse_wrapped(wrapped, self.kind)
        with _wrapping_key(self._token, self._pin) as wrapping_key:
            cipher = _TokenCipher(wrapping_key)
            return unwrap_with(cipher.unseal, wrapping_key.id, record, "is this the vault's token?")

    def __repr__(self) -> str:
        """Say which key it is; the PIN is not shown."""
        return f"Pkcs11Provider({self._token})"


def create_token_key(token: Token, pin: str) -> None:
    """Make an AES-256 key inside the token that it will never give out.

    Raises:
        ConfigError: the token's library cannot be loaded.
        WrongKey: the token refused the PIN.
        VaultError: there is a key of this label already, or the token cannot make one.
    """
    with _session(token, pin, writable=True) as session:
        search = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: token.key_label}
        if any(session.get_objects(search)):
            raise VaultError(
                f"expected no key {token.key_label} in token {token.label} yet, got one",
                hint="choose another label: a key once replaced is lost",
            )
        session.generate_key(
            KeyType.AES,
            8 * KEY_BYTES,
            id=os.urandom(KEY_ID_BYTES),
            label=token.key_label,
            store=True,
            capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
            template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
        )


def read_pin(path: Path) -> str:
    """Return the PIN in a file.

    Raises:
        KeyFileError: the file is missing, open to others or empty.
    """
    pin = read_private(path, "a PIN").strip()
    if not pin:
        raise KeyFileError(f"expected a PIN in {path}, got an empty file")
    return pin


@dataclass(frozen=True)
class _TokenCipher:
    """What `envelope` does, done by the token."""

    _key: Any  # a SecretKey; that it encrypts and decrypts, it says at run time alone

    def seal(self, plain: bytes, associated: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        how = GCMParams(nonce, associated)
        return nonce + bytes(
            self._key.encrypt(plain, mechanism=Mechanism.AES_GCM, mechanism_param=how)
        )

    def unseal(self, sealed: bytes, associated: bytes) -> bytes:
        nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        how = GCMParams(nonce, associated)
        try:
            return bytes(self._key.decrypt(rest, mechanism=Mechanism.AES_GCM, mechanism_param=how))
        except pkcs11.PKCS11Error:  # tokens disagree which: EncryptedDataInvalid, GeneralError, ...
            raise damaged() from None


@contextmanager
def _wrapping_key(token: Token, pin: str) -> Iterator[pkcs11.Key]:
    with _session(token, pin) as session:
        key = session.get_key(ObjectClass.SECRET_KEY, KeyType.AES, label=token.key_label)
        if len(key.id) != KEY_ID_BYTES:
            raise VaultError(
                f"expected key {token.key_label} to have an id of {KEY_ID_BYTES} bytes, "
                f"got {len(key.id)}",
                hint="let Veilface make the key: its id must be its alone",
            )
        yield key


@contextmanager
def _session(token: Token, pin: str, *, writable: bool = False) -> Iterator[pkcs11.Session]:
    """Give an open session; what the token complains of becomes one of our errors."""
    try:
        library = pkcs11.lib(str(token.module))
    except pkcs11.PKCS11Error:
        raise ConfigError(f"expected a PKCS #11 library in {token.module}, got none") from None
    try:
        with library.get_token(token_label=token.label).open(rw=writable, user_pin=pin) as session:
            yield session
    except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange):
        raise WrongKey(
            f"expected the PIN of token {token.label}, got another",
            hint="most tokens lock themselves after a few wrong ones",
        ) from None
    except pkcs11.NoSuchKey:
        raise VaultError(
            f"expected key {token.key_label} in token {token.label}, got none"
        ) from None
    except pkcs11.NoSuchToken:
        raise VaultError(
            f"expected token {token.label}, got none", hint="is it plugged in?"
        ) from None
    except pkcs11.PKCS11Error as error:
        reason = type(error).__name__
        raise VaultError(f"expected token {token.label} to do its work, got {reason}") from None
