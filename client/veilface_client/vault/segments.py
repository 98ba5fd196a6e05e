"""The templates of a full key block once more, sealed together, so that a gallery loads fast.

Opening 100,000 templates one by one takes four times as long as reading plain rows; most of it is
making a cipher for each person's key. A segment holds all templates of one form of a block's
people (holders are never among them):

    owners [N, 16] || vectors [N, D] float16, little-endian

under a key of its own, which stands in the key block and is new each time the segment is written.
So erasing a person leaves the old segment as closed as the person's own templates. A block that
still takes people in has no segment: its templates are opened one by one.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from veilface_client.vault.arrays import Form, array_place, forms_of
from veilface_client.vault.blocks import (
    SLOTS,
    Block,
    altered,
    open_block,
    people_of,
    verify_person,
)
from veilface_client.vault.epochs import Epoch
from veilface_client.vault.store import FORMAT
from veilface_common.crypto import envelope
from veilface_common.errors import VaultError

OWNER_BYTES = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """Templates with their owners, row by row."""

    owners: NDArray[np.uint8]  # [N, 16]
    vectors: NDArray[np.float16]  # [N, D]

    def to_bytes(self) -> bytes:
        """Return what is sealed."""
        return self.owners.tobytes() + self.vectors.tobytes()


def parse_segment(form: Form, content: bytes) -> Segment:
    """Return what `Segment.to_bytes` wrote."""
    (dimension,) = form.shape
    count, rest = divmod(len(content), OWNER_BYTES + 2 * dimension)
    if rest:
        raise VaultError(f"expected whole templates in a segment, got {rest} bytes more")
    owners = np.frombuffer(content, dtype="u1", count=OWNER_BYTES * count)
    vectors = np.frombuffer(content, dtype="<f2", offset=len(owners))
    return Segment(
        owners=owners.reshape(count, OWNER_BYTES), vectors=vectors.reshape(count, dimension)
    )


def write_segments(connection: sqlite3.Connection, organisation: str, block: Block) -> None:
    """Make the segments of a full block anew from its people's templates, under a new key."""
    connection.execute("DELETE FROM segments WHERE block = ?", (block.number,))
    if block.number >= first_open_block(connection):
        return
    block.segment_key = secrets.token_bytes(envelope.KEY_BYTES)
    for number, form in sorted(template_forms(connection).items()):
        segment = open_templates(connection, organisation, block, (number, form))
        if len(segment.owners):
            place = _place(organisation, block.number, form)
            sealed = envelope.seal(block.segment_key, segment.to_bytes(), place)
            connection.execute(
                "INSERT INTO segments VALUES (?, ?, ?, ?)",
                (block.number, number, sha256(sealed).digest(), sealed),
            )


def first_open_block(connection: sqlite3.Connection) -> int:
    """Return the block into which the next person comes: positions are given in rising order."""
    (last,) = connection.execute("SELECT max(position) FROM people").fetchone()
    return 0 if last is None else int(last + 1) // SLOTS


def open_templates(
    connection: sqlite3.Connection, organisation: str, block: Block, numbered: tuple[int, Form]
) -> Segment:
    """Return a block's templates of one form, opened one by one.

    Raises:
        VaultError: one is altered or another's.
    """
    number, form = numbered
    rows = connection.execute(
        "SELECT p.position, p.person, t.template, t.sealed "
        "FROM people p JOIN templates t ON t.position = p.position "
        "WHERE p.position BETWEEN ? AND ? AND p.mode = 'organisation' AND t.form = ? "
        "ORDER BY p.position, t.template",
        (block.number * SLOTS, (block.number + 1) * SLOTS - 1, number),
    )
    owners, vectors = [], []
    for position, person, template, sealed in rows:
        place = array_place(organisation, person, template, form)
        owners.append(person)
        vectors.append(envelope.unseal(block.key(position % SLOTS), sealed, place))
    return parse_segment(form, b"".join(owners) + b"".join(vectors))


def load_segments(connection: sqlite3.Connection, epoch: Epoch, model: str) -> Iterator[Segment]:
    """Yield all templates that a model made of people who may be identified, block by block.

    Each block is verified up to its leaf, so that nobody is missing unseen.

    Raises:
        VaultError: something is altered, missing or put back.
    """
    forms = {n: form for n, form in template_forms(connection).items() if form.model == model}
    numbers = connection.execute("SELECT block FROM key_blocks ORDER BY block").fetchall()
    first_open = first_open_block(connection)
    for (number,) in numbers:
        block = open_block(connection, epoch, number)
        if number < first_open:
            yield from read_segments(connection, epoch.organisation, block, forms)
            continue
        for row in people_of(connection, block):
            verify_person(connection, row, block)
        for numbered in forms.items():
            yield open_templates(connection, epoch.organisation, block, numbered)


def template_forms(connection: sqlite3.Connection) -> dict[int, Form]:
    """Return the forms of templates by number."""
    return {n: form for n, form in forms_of(connection).items() if form.kind == "template"}


def read_segments(
    connection: sqlite3.Connection, organisation: str, block: Block, forms: Mapping[int, Form]
) -> Iterator[Segment]:
    """Yield a block's segments of some forms. Raises VaultError when one is altered."""
    query = "SELECT form, digest, sealed FROM segments WHERE block = ? ORDER BY form"
    for number, digest, sealed in connection.execute(query, (block.number,)):
        if number not in forms:
            continue
        if sha256(sealed).digest() != digest:
            raise altered(block.number)
        place = _place(organisation, block.number, forms[number])
        yield parse_segment(forms[number], envelope.unseal(block.segment_key, sealed, place))


def _place(organisation: str, number: int, form: Form) -> bytes:
    (dimension,) = form.shape
    made = form.model, form.alignment, dimension, form.dtype
    return envelope.associated("segment", FORMAT, organisation, number, *made)
