"""The root over all that is in the vault, and whether the state's is that.

The leaves of the Merkle tree are the key blocks' in their order, the forms' and the sealed
values'.
"""

from __future__ import annotations

import sqlite3

from veilface_client.vault import merkle
from veilface_client.vault.arrays import forms_leaf
from veilface_client.vault.epochs import Epoch, State, read_meta, read_state
from veilface_client.vault.sealed_values import values_leaf
from veilface_common.errors import VaultError


def verify_state(connection: sqlite3.Connection, epoch: Epoch) -> State:
    """Return the state once the key vouches for it and the key blocks' leaves agree with it.

    Raises:
        VaultError: somebody without the key wrote it, or changed a leaf.
    """
    state = read_state(connection)
    seal = read_meta(connection, "state-seal") or b""
    try:
        epoch.unseal(seal, "state", read_meta(connection, "state") or b"")
    except VaultError:
        raise _altered("state") from None
    if root_of(connection) != state.root:
        raise _altered("root over key blocks, forms and values")
    return state


def root_of(connection: sqlite3.Connection) -> str:
    """Return the root over the leaves as they are stored, in hex."""
    rows = connection.execute("SELECT leaf FROM key_blocks ORDER BY block")
    return merkle.root(
        [*(leaf for (leaf,) in rows), forms_leaf(connection), values_leaf(connection)]
    ).hex()


def _altered(what: str) -> VaultError:
    return VaultError(
        f"expected the {what} that the key holder wrote, got altered bytes",
        hint="veilface vault check says what is affected; restore a backup",
    )
