"""The vault's key under a passphrase, stretched by Argon2id (RFC 9106).

    wrapping key [32] = Argon2id( passphrase, salt [16], memory, iterations, lanes )

A thief of the vault's file can only guess passphrases, each guess at this cost. The passphrase is
taken as UTF-8 in Unicode's composed form (NFC), so that keyboards that spell an umlaut otherwise
give the same key.
"""

from __future__ import annotations

import getpass
import os
import unicodedata
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from veilface_client.key_providers.private_files import read_private
from veilface_client.key_providers.wrapped import (
    Parameters,
    damaged,
    parse_wrapped,
    unwrap_under,
    wrap_under,
)
from veilface_common.crypto.envelope import KEY_BYTES
from veilface_common.errors import ArtifactError, ConfigError, KeyFileError, VaultError
from veilface_common.typed_json import from_json, to_json

VARIABLE = "VEILFACE_PASSPHRASE_FILE"
_SALT_BYTES = 16
_HOW = f"--passphrase-file FILE, or the variable {VARIABLE}"


@dataclass(frozen=True, kw_only=True)
class Argon2Costs:
    """What one guess costs. The limits are what a stored key may ask for."""

    memory_kib: int
    iterations: int
    lanes: int

    def __post_init__(self) -> None:
        """Raise VaultError beyond 1 GiB, 16 iterations or 16 lanes."""
        # A hostile file must not take all memory or the whole day.
        if not (
            1 <= self.lanes <= 16
            and 1 <= self.iterations <= 16
            and 8 * self.lanes <= self.memory_kib <= 1 << 20
        ):
            raise VaultError(
                "expected Argon2id of at most 1 GiB, 16 iterations and 16 lanes, got "
                f"{str(self)[:100]}",
                hint="Veilface writes no such costs: do not trust this file",
            )


# The second recommended option of RFC 9106, 4: the first needs 2 GiB, which ends small machines.
RFC_9106_LOW_MEMORY = Argon2Costs(memory_kib=64 * 1024, iterations=3, lanes=4)
CHEAPEST = Argon2Costs(memory_kib=8, iterations=1, lanes=1)  # for tests alone


class PassphraseProvider:
    """Wraps under a passphrase. It stretches once, however often the vault is wrapped again."""

    kind = "passphrase"

    def __init__(self, passphrase: str, costs: Argon2Costs = RFC_9106_LOW_MEMORY) -> None:
        if not passphrase:
            raise ConfigError("expected a passphrase, got an empty one")
        self._passphrase = unicodedata.normalize("NFC", passphrase).encode()
        self._costs = costs
        self._salt = os.urandom(_SALT_BYTES)
        self._stretched: tuple[Argon2Costs, bytes, bytes] | None = None  # costs, salt, their key

    def wrap(self, key: bytes) -> bytes:
        """Return `key` [32] wrapped; after an `unwrap`, under the same salt."""
        parameters = {**to_json(self._costs), "salt": self._salt.hex()}
        return wrap_under(self._stretch(self._costs, self._salt), self.kind, parameters, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the key [32] that `wrap` was given.

        Raises:
            WrongKey: under another passphrase.
            VaultError: not by a passphrase, damaged, of another format, or costs out of bounds.
        """
        record = parse_wrapped(wrapped, self.kind)
        costs, salt = _parse_parameters(record.parameters)
        key = unwrap_under(self._stretch(costs, salt), record, "is this the vault's passphrase?")
        if costs == self._costs:
            self._salt = salt  # so that the next `wrap` need not stretch again
        return key

    def __repr__(self) -> str:
        """Say what it costs, not what it is."""
        return f"PassphraseProvider({self._costs})"

    def _stretch(self, costs: Argon2Costs, salt: bytes) -> bytes:
        if self._stretched is None or self._stretched[:2] != (costs, salt):
            argon2 = Argon2id(
                salt=salt,
                length=KEY_BYTES,
                iterations=costs.iterations,
                lanes=costs.lanes,
                memory_cost=costs.memory_kib,
            )
            self._stretched = costs, salt, argon2.derive(self._passphrase)
        return self._stretched[2]


def read_passphrase(
    path: Path | None,
    environment: Mapping[str, str] = os.environ,
    ask: Callable[[str], str] = getpass.getpass,
    *,
    new: bool = False,
) -> str:
    """Return the passphrase in a file, or in the one that VEILFACE_PASSPHRASE_FILE names, or ask.

    Never from an argument or a variable itself: others on the machine may read these. A new one is
    asked for twice.

    Raises:
        KeyFileError: the file is missing, open to others, empty or no text.
        ConfigError: none was given, two that differ, or nobody is there to ask.
    """
    if path is None and environment.get(VARIABLE):
        path = Path(environment[VARIABLE])
    if path is None:
        return _asked(ask, new=new)
    passphrase = read_private(path, "a passphrase").removesuffix("\n").removesuffix("\r")
    if not passphrase:
        raise KeyFileError(f"expected a passphrase in {path}, got an empty file")
    return passphrase


def _asked(ask: Callable[[str], str], *, new: bool) -> str:
    try:
        with warnings.catch_warnings():
            # Without a terminal, getpass warns and would show what is typed.
            warnings.simplefilter("error", getpass.GetPassWarning)
            passphrase = ask("Passphrase of the vault: ")
            if new and ask("The same again: ") != passphrase:
                raise ConfigError("expected the same passphrase twice, got two that differ")
    except (EOFError, getpass.GetPassWarning):
        raise ConfigError("expected a passphrase, got nobody to ask for it", hint=_HOW) from None
    if not passphrase:
        raise ConfigError("expected a passphrase, got an empty one", hint=_HOW)
    return passphrase


def _parse_parameters(parameters: Parameters) -> tuple[Argon2Costs, bytes]:
    """Return costs and salt. Raises VaultError when they are not as `wrap` writes them."""
    try:
        salt = bytes.fromhex(str(parameters["salt"]))
        costs = from_json(Argon2Costs, parameters)
    except (ArtifactError, KeyError, ValueError):
        raise damaged() from None
    if len(salt) != _SALT_BYTES:
        raise damaged()
    return costs, salt
