"""Key blocks: the keys of 256 people sealed as one, and the digests that tie their rows to it.

    keys    [257 * 32]   of slot 0, ..., of slot 255, of the block's segments; free slots are zero
    digests [256 * 32]   of the person in slot 0, ..., in slot 255; free slots are zero

A new key-encryption key thus costs one seal for 256 people. What a block vouches for, from below:

    template   SHA-256(sealed)
    person     SHA-256(position || person || mode || SHA-256(record) ||
                       (number || form || digest of the template)*)
    content    SHA-256(digests || (form || digest of the segment)*)
    leaf       RFC 6962 leaf over block || epoch || SHA-256(sealed keys) || content

with numbers in 8 bytes, big endian, and the mode in 12, filled with zeros. A person's change costs
one block, and the root over the leaves. Before a block is changed it is verified: nobody's
alteration is written into a new root.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Set
from dataclasses import dataclass, field
from hashlib import sha256

from veilface_client.vault import merkle
from veilface_client.vault.epochs import Epoch
from veilface_client.vault.records import Mode
from veilface_common.crypto.envelope import KEY_BYTES
from veilface_common.errors import VaultError

SLOTS = 256
_SEGMENTS = SLOTS  # the place of their key
_FREE = bytes(KEY_BYTES)
_HINT = "veilface vault check says what is affected; restore a backup"


@dataclass(frozen=True, kw_only=True)
class PersonRow:
    """A person's row."""

    position: int
    person: bytes
    mode: Mode
    record: bytes  # sealed

    @property
    def block(self) -> int:
        """The key block that holds the person's key."""
        return self.position // SLOTS

    @property
    def slot(self) -> int:
        """The place of the person's key in the block."""
        return self.position % SLOTS


@dataclass(kw_only=True)
class Block:
    """An open block, to be changed in place and written again."""

    number: int
    keys: bytearray = field(default_factory=lambda: bytearray((SLOTS + 1) * KEY_BYTES), repr=False)
    digests: bytearray = field(default_factory=lambda: bytearray(SLOTS * KEY_BYTES))

    def key(self, slot: int) -> bytes:
        """Return the key [32] in a slot. Raises VaultError when it is free."""
        key = bytes(self.keys[_at(slot)])
        if key == _FREE:  # nothing is ever sealed under it
            raise altered(self.number)
        return key

    @property
    def segment_key(self) -> bytes:
        """The key [32] of the block's segments. Raises VaultError when there is none."""
        return self.key(_SEGMENTS)

    @segment_key.setter
    def segment_key(self, key: bytes) -> None:
        self.keys[_at(_SEGMENTS)] = key

    def is_free(self, slot: int) -> bool:
        """Say whether nobody's key is in a slot."""
        return self.keys[_at(slot)] == _FREE

    def put(self, slot: int, key: bytes) -> None:
        """Put a person's key [32] into a slot."""
        self.keys[_at(slot)] = key

    def clear(self, slot: int) -> None:
        """Destroy a person's key and digest."""
        self.keys[_at(slot)] = self.digests[_at(slot)] = _FREE

    def digest(self, slot: int) -> bytes:
        """Return the digest [32] of the person in a slot."""
        return bytes(self.digests[_at(slot)])

    def clear_all_but(self, slots: Set[int]) -> int:
        """Destroy the keys in all other slots; say how many there were."""
        others = [n for n in range(SLOTS) if n not in slots and not self.is_free(n)]
        for slot in others:
            self.clear(slot)
        return len(others)

    @property
    def is_empty(self) -> bool:
        """Whether nobody's key is in the block."""
        return not any(self.keys[: SLOTS * KEY_BYTES])

    def put_digest(self, slot: int, digest: bytes) -> None:
        """Put the digest [32] of the person in a slot."""
        self.digests[_at(slot)] = digest


def _at(slot: int) -> slice:
    return slice(slot * KEY_BYTES, (slot + 1) * KEY_BYTES)


def open_block(connection: sqlite3.Connection, epoch: Epoch, number: int) -> Block:
    """Return a block, verified up to its leaf.

    Raises:
        VaultError: it is missing, or its keys, digests or segments are altered.
    """
    block = unsafe_open_block(connection, epoch, number)
    row = connection.execute(
        "SELECT epoch, leaf, sealed FROM key_blocks WHERE block = ?", (number,)
    ).fetchone()
    sealed_in, leaf, sealed = row
    content = content_of(connection, number, bytes(block.digests))
    if leaf != leaf_of(number, sealed_in, sealed, content):
        raise altered(number)
    return block


def unsafe_open_block(connection: sqlite3.Connection, epoch: Epoch, number: int) -> Block:
    """Return a block of which only the keys are vouched for. Raises VaultError if they are not."""
    block = unseal_block(connection, epoch, number)
    row = connection.execute(
        "SELECT digests FROM block_digests WHERE block = ?", (number,)
    ).fetchone()
    if row is None or len(row[0]) != SLOTS * KEY_BYTES:
        raise altered(number)
    block.digests = bytearray(row[0])
    return block


def unseal_block(connection: sqlite3.Connection, epoch: Epoch, number: int) -> Block:
    """Return a block with its keys alone. Raises VaultError when they are altered or missing."""
    row = connection.execute("SELECT sealed FROM key_blocks WHERE block = ?", (number,)).fetchone()
    if row is None:
        raise VaultError(f"expected key block {number}, got none", hint=_HINT)
    keys = _unseal(epoch, number, row[0])
    if len(keys) != (SLOTS + 1) * KEY_BYTES:
        raise altered(number)
    return Block(number=number, keys=keys)


def write_block(connection: sqlite3.Connection, epoch: Epoch, block: Block) -> None:
    """Seal a block's keys and write its digests; its rows and segments are as they will be."""
    digests = bytes(block.digests)
    connection.execute(
        "INSERT OR REPLACE INTO block_digests VALUES (?, ?)", (block.number, digests)
    )
    content = content_of(connection, block.number, digests)
    connection.execute(
        "INSERT OR REPLACE INTO key_blocks VALUES (?, ?, ?, ?, ?)",
        (block.number, *_sealed_row(epoch, block.number, bytes(block.keys), content)),
    )


def _sealed_row(
    epoch: Epoch, number: int, keys: bytes, content: bytes
) -> tuple[int, bytes, bytes, bytes]:
    sealed = epoch.seal(keys, "key block", number)
    return epoch.number, content, leaf_of(number, epoch.number, sealed, content), sealed


def _unseal(epoch: Epoch, number: int, sealed: bytes) -> bytearray:
    return bytearray(epoch.unseal(sealed, "key block", number))


def remove_block(connection: sqlite3.Connection, number: int) -> None:
    """Remove a block that has nobody left."""
    for table in ("segments", "block_digests", "key_blocks"):
        connection.execute(f"DELETE FROM {table} WHERE block = ?", (number,))  # noqa: S608 -- ours


def reseal_blocks(connection: sqlite3.Connection, old: Epoch, new: Epoch) -> None:
    """Seal every block that is under the old key under the new one.

    Raises:
        VaultError: one was altered; nothing may then be kept of what was done here.
    """
    query = "SELECT block, content, leaf, sealed FROM key_blocks WHERE epoch = ?"
    for number, content, leaf, sealed in connection.execute(query, (old.number,)).fetchall():
        if leaf != leaf_of(number, old.number, sealed, content):
            raise altered(number)
        keys = bytes(_unseal(old, number, sealed))
        connection.execute(
            "UPDATE key_blocks SET epoch = ?, content = ?, leaf = ?, sealed = ? WHERE block = ?",
            (*_sealed_row(new, number, keys, content), number),
        )


def altered(number: int) -> VaultError:
    """Return the error of a block whose rows are not those it was written with."""
    return VaultError(
        f"expected key block {number} and its people as they were written, got altered ones",
        hint=_HINT,
    )


def leaf_of(number: int, epoch: int, sealed: bytes, content: bytes) -> bytes:
    """Return a block's leaf [32] in the Merkle tree."""
    return merkle.leaf_hash(struct.pack(">QQ", number, epoch) + sha256(sealed).digest() + content)


def content_of(connection: sqlite3.Connection, number: int, digests: bytes) -> bytes:
    """Return the digest [32] of a block's people and segments."""
    segments = connection.execute(
        "SELECT form, digest FROM segments WHERE block = ? ORDER BY form", (number,)
    )
    return sha256(digests + b"".join(struct.pack(">Q32s", *row) for row in segments)).digest()


def find_person(connection: sqlite3.Connection, person: bytes) -> PersonRow | None:
    """Return a person's row, if there is one."""
    query = "SELECT position, person, mode, record FROM people WHERE person = ?"
    row = connection.execute(query, (person,)).fetchone()
    return None if row is None else _to_row(row)


def person_at(connection: sqlite3.Connection, position: int) -> PersonRow | None:
    """Return the row at a position, if there is one."""
    query = "SELECT position, person, mode, record FROM people WHERE position = ?"
    row = connection.execute(query, (position,)).fetchone()
    return None if row is None else _to_row(row)


def people_of(connection: sqlite3.Connection, block: Block) -> list[PersonRow]:
    """Return the rows of a block's people by slot.

    Raises:
        VaultError: there is somebody without a key, or a key without its person.
    """
    people = rows_of(connection, block.number)
    if [row.slot for row in people] != [n for n in range(SLOTS) if not block.is_free(n)]:
        raise altered(block.number)
    return people


def rows_of(connection: sqlite3.Connection, number: int) -> list[PersonRow]:
    """Return the rows of a block's people as they are stored."""
    rows = connection.execute(
        "SELECT position, person, mode, record FROM people "
        "WHERE position BETWEEN ? AND ? ORDER BY position",
        (number * SLOTS, (number + 1) * SLOTS - 1),
    )
    return [_to_row(row) for row in rows]


def _to_row(row: tuple[int, bytes, Mode, bytes]) -> PersonRow:
    position, person, mode, record = row
    return PersonRow(position=position, person=person, mode=mode, record=record)


def digest_of(connection: sqlite3.Connection, row: PersonRow) -> bytes:
    """Return the digest [32] of a person's row and templates as they are now."""
    templates = connection.execute(
        "SELECT template, form, digest FROM templates WHERE position = ? ORDER BY template",
        (row.position,),
    )
    head = struct.pack(">Q16s12s", row.position, row.person, row.mode.encode())
    parts = (struct.pack(">QQ32s", *template) for template in templates)
    return sha256(head + sha256(row.record).digest() + b"".join(parts)).digest()


def verify_person(connection: sqlite3.Connection, row: PersonRow, block: Block) -> None:
    """Do nothing if a person's row and templates agree with the block's digest.

    Raises:
        VaultError: a template was removed, added or put back, or the record was.
    """
    if digest_of(connection, row) != block.digest(row.slot):
        raise VaultError(
            "expected a person's rows as they were written, got altered ones", hint=_HINT
        )
