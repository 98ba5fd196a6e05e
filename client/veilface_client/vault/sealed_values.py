"""Small things that belong to the vault and to nobody in it, each under a name, sealed.

    CREATE TABLE sealed_values (name TEXT PRIMARY KEY, sealed BLOB)

They are the last leaf of the Merkle tree, so that an older one cannot be put back unseen:

    leaf = RFC 6962 leaf over "values" || SHA-256(name || 0x00 || sealed)*
"""

from __future__ import annotations

import sqlite3
from hashlib import sha256

from veilface_client.vault import merkle
from veilface_client.vault.epochs import Epoch

_PURPOSE = "value"


def values_leaf(connection: sqlite3.Connection) -> bytes:
    """Return the leaf [32] of all values as they are stored."""
    rows = connection.execute("SELECT name, sealed FROM sealed_values ORDER BY name")
    digests = (sha256(name.encode() + b"\0" + sealed).digest() for name, sealed in rows)
    return merkle.leaf_hash(b"values" + b"".join(digests))


def read_value(connection: sqlite3.Connection, epoch: Epoch, name: str) -> bytes | None:
    """Return what was written under a name, if anything. Raises VaultError when it is altered."""
    query = "SELECT sealed FROM sealed_values WHERE name = ?"
    row = connection.execute(query, (name,)).fetchone()
    return None if row is None else epoch.unseal(row[0], _PURPOSE, name)


def write_value(connection: sqlite3.Connection, epoch: Epoch, name: str, value: bytes) -> None:
    """Keep `value` under a name, in place of any before."""
    sealed = epoch.seal(value, _PURPOSE, name)
    connection.execute("INSERT OR REPLACE INTO sealed_values VALUES (?, ?)", (name, sealed))


def reseal_values(connection: sqlite3.Connection, old: Epoch, new: Epoch) -> None:
    """Seal all values under the new key. Raises VaultError when one is altered."""
    for name, sealed in connection.execute("SELECT name, sealed FROM sealed_values").fetchall():
        write_value(connection, new, name, old.unseal(sealed, _PURPOSE, name))
