"""The key-encryption key in force, and the state that it vouches for.

A vault has one key-encryption key at a time, random, its number the epoch. Every erasure starts a
new epoch: the old key, which opened the erased person's key, is then nowhere, and whatever else
still holds that person's sealed bytes (an old page, a remapped sector, a backup) stays closed.
`meta` holds:

    key            the key as the provider wraps it       key-id   its name, compared before its use
    recovery       the key as wrapped for the recovery key, of which nobody here has more than
    recovery-lock  the public half, sealed under the key: each new epoch is wrapped for it again
    state          {"epoch":E,"generation":G,"organisation":O,"root":HEX}
    state-seal     AES-256-GCM of nothing, under the key, over the state: a key holder wrote it

The state's root is that of the Merkle tree over the key blocks' leaves. An old copy of the whole
file agrees with itself: only the access log, which holds every generation and root, can tell.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from dataclasses import dataclass, field

from veilface_client.key_providers import KeyProvider, provider_kind
from veilface_client.key_providers.recovery import RecoveryLock
from veilface_client.vault.store import FORMAT
from veilface_common.budget.entries import canonical
from veilface_common.crypto import envelope
from veilface_common.errors import ArtifactError, VaultError, WrongKey
from veilface_common.typed_json import from_json, to_json


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A key-encryption key, its number and whose it is."""

    organisation: str
    number: int
    key: bytes = field(repr=False)

    def next(self) -> Epoch:
        """Return an epoch with a new random key."""
        key = secrets.token_bytes(envelope.KEY_BYTES)
        return Epoch(organisation=self.organisation, number=self.number + 1, key=key)

    def place(self, purpose: str, *fields: bytes | str | int) -> bytes:
        """Return what binds something sealed under this key to its place."""
        bound = FORMAT, self.organisation, self.number
        return envelope.associated(purpose, *bound, *fields)

    def seal(self, plain: bytes, purpose: str, *fields: bytes | str | int) -> bytes:
        """Return `plain` sealed under this key."""
        return envelope.seal(self.key, plain, self.place(purpose, *fields))

    def unseal(self, sealed: bytes, purpose: str, *fields: bytes | str | int) -> bytes:
        """Return what `seal` was given. Raises VaultError when it is altered or of elsewhere."""
        return envelope.unseal(self.key, sealed, self.place(purpose, *fields))


@dataclass(frozen=True, kw_only=True)
class State:
    """Which version of the vault this is."""

    organisation: str
    epoch: int
    generation: int  # counts the changes
    root: str  # of the Merkle tree, hex


def read_meta(connection: sqlite3.Connection, name: str) -> bytes | None:
    """Return a value of `meta`, if it is there."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else row[0]


def write_meta(connection: sqlite3.Connection, name: str, value: bytes) -> None:
    """Put a value into `meta`."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def read_state(connection: sqlite3.Connection) -> State:
    """Return the state as it is written, not yet vouched for. Raises VaultError if damaged."""
    return parse_state(read_meta(connection, "state") or b"")


def parse_state(content: bytes) -> State:
    """Return a state as `write_state` wrote it. Raises VaultError if damaged."""
    try:
        return from_json(State, json.loads(content), "the state")
    except (ValueError, ArtifactError):
        raise VaultError(
            "expected the vault's state, got damaged bytes", hint="restore it from a backup"
        ) from None


def write_state(connection: sqlite3.Connection, epoch: Epoch, state: State) -> None:
    """Write the state, vouched for by the key."""
    text = canonical(to_json(state)).encode()
    write_meta(connection, "state", text)
    write_meta(connection, "state-seal", epoch.seal(b"", "state", text))


def open_epoch(connection: sqlite3.Connection, provider: KeyProvider) -> Epoch:
    """Return the epoch in force, opened by `provider`.

    Raises:
        WrongKey: another passphrase, key, token or recovery key wrapped it.
        VaultError: another kind of provider did, or it is damaged.
    """
    wrapped = _wrapped_for(connection, provider)
    key = provider.unwrap(wrapped)
    if envelope.key_id(key) != read_meta(connection, "key-id"):
        raise WrongKey(
            "expected the key of this vault, got another vault's",
            hint="were files of two vaults or backups mixed?",
        )
    state = read_state(connection)
    return Epoch(organisation=state.organisation, number=state.epoch, key=key)


def _wrapped_for(connection: sqlite3.Connection, provider: KeyProvider) -> bytes:
    name = "recovery" if provider.kind == "recovery" else "key"
    wrapped = read_meta(connection, name)
    if wrapped is None:
        raise VaultError(
            f"expected a key wrapped by {provider.kind}, got a vault without one",
            hint="no recovery shares were made for it" if name == "recovery" else None,
        )
    if name == "key" and provider_kind(wrapped) != provider.kind:
        raise VaultError(
            f"expected a {provider.kind} to open the vault, got one that needs a "
            f"{provider_kind(wrapped)}"
        )
    return wrapped


def write_epoch(
    connection: sqlite3.Connection, new: Epoch, provider: KeyProvider, old: Epoch | None
) -> None:
    """Wrap a new epoch's key for the provider, and for the recovery key if there is one.

    Raises:
        VaultError: the provider is the recovery key, which cannot be the only one.
    """
    if provider.kind == "recovery":
        raise VaultError(
            "expected a key provider of every day, got the recovery key",
            hint="rotate to a new passphrase, key file or token first",
        )
    write_meta(connection, "key", provider.wrap(new.key))
    write_meta(connection, "key-id", envelope.key_id(new.key))
    sealed = read_meta(connection, "recovery-lock")
    if old is not None and sealed is not None:
        write_recovery(connection, new, RecoveryLock(old.unseal(sealed, "recovery lock")))


def write_recovery(connection: sqlite3.Connection, epoch: Epoch, lock: RecoveryLock | None) -> None:
    """Let the recovery key of this lock open the vault, in place of any before; None: no one's."""
    connection.execute("DELETE FROM meta WHERE name IN ('recovery', 'recovery-lock')")
    if lock is not None:
        # Sealed: whoever can write the file would otherwise have the next key wrapped for a lock
        # of their own.
        write_meta(connection, "recovery-lock", epoch.seal(lock.public, "recovery lock"))
        write_meta(connection, "recovery", lock.wrap(epoch.key))
