"""What is done to one person: enrolled, added to, changed, opened."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from veilface_client.vault import blocks, cards
from veilface_client.vault.arrays import (
    Form,
    Kind,
    Sample,
    Template,
    array_place,
    forms_of,
    number_of,
    to_array,
)
from veilface_client.vault.blocks import PersonRow
from veilface_client.vault.changes import Change, unknown_person
from veilface_client.vault.epochs import Epoch
from veilface_client.vault.records import Record, seal_record, unseal_record
from veilface_client.vault.roots import verify_state
from veilface_client.vault.session import View
from veilface_common.crypto import envelope


@dataclass(frozen=True, kw_only=True)
class Newcomer:
    """Somebody to be enrolled."""

    record: Record
    samples: Sequence[Sample]


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """Somebody who was: the vault's own name for the person, 32 hex digits, random."""

    person: str
    pseudonym: str  # in logs
    card: str | None = field(default=None, repr=False)  # a holder's secret, told this once


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody in the vault, and what is kept of the face."""

    person: str
    record: Record
    forms: tuple[Form, ...]  # one for each template and crop


def enrol_person(change: Change, newcomer: Newcomer) -> Enrolled:
    """Add a person."""
    position, person = change.next_position(), secrets.token_bytes(16)
    key, secret = secrets.token_bytes(envelope.KEY_BYTES), None
    record = replace(newcomer.record, card_id=None)
    template_key = key
    if record.mode == "holder":
        secret = secrets.token_bytes(envelope.KEY_BYTES)
        template_key = cards.holder_key(key, secret)
        record = replace(record, card_id=envelope.key_id(template_key).hex())
    sealed = seal_record(key, change.epoch.organisation, person, record)
    row = PersonRow(position=position, person=person, mode=record.mode, record=sealed)
    change.block(row.block).put(row.slot, key)
    change.connection.execute(
        "INSERT INTO people VALUES (?, ?, ?, ?)", (position, person, record.mode, sealed)
    )
    insert_arrays(change, row, template_key, newcomer.samples)
    return Enrolled(
        person=person.hex(),
        pseudonym=cards.pseudonym(key),
        card=cards.card_text(secret) if secret else None,
    )


def insert_arrays(change: Change, row: PersonRow, key: bytes, samples: Sequence[Sample]) -> None:
    """Seal the templates and crops of samples under a person's template key."""
    change.digest_again(row.position, templates=True)
    for form, plain in (array for sample in samples for array in sample.arrays()):
        form_number = number_of(change.connection, form)
        number = change.next_template()
        place = array_place(change.epoch.organisation, row.person, number, form)
        sealed = envelope.seal(key, plain, place)
        change.connection.execute(
            "INSERT INTO templates VALUES (?, ?, ?, ?, ?)",
            (number, row.position, form_number, sha256(sealed).digest(), sealed),
        )


def replace_record(change: Change, person: str, record: Record) -> bytes:
    """Seal a new record for a person, mode and card as before; return the person's key."""
    row, key = change.find(raw_person(person))
    before = record_of(change.epoch, row, key)
    if record.mode != before.mode:
        raise ValueError(f"expected mode {before.mode!r}, got {record.mode!r}")
    record = replace(record, card_id=before.card_id)
    sealed = seal_record(key, change.epoch.organisation, row.person, record)
    change.connection.execute(
        "UPDATE people SET record = ? WHERE position = ?", (sealed, row.position)
    )
    change.digest_again(row.position, templates=False)
    return key


def open_person(view: View, person: str) -> tuple[PersonRow, bytes]:
    """Return a person's row, verified, and key."""
    row = blocks.find_person(view.connection, raw_person(person))
    if row is None:
        raise unknown_person()
    block = blocks.open_block(view.connection, view.epoch, row.block)
    blocks.verify_person(view.connection, row, block)
    return row, block.key(row.slot)


def all_records(view: View) -> Iterator[tuple[PersonRow, Record]]:
    """Yield everybody with their records, verified and opened."""
    verify_state(view.connection, view.epoch)
    for (number,) in view.connection.execute("SELECT block FROM key_blocks").fetchall():
        block = blocks.open_block(view.connection, view.epoch, number)
        for row in blocks.people_of(view.connection, block):
            blocks.verify_person(view.connection, row, block)
            yield row, record_of(view.epoch, row, block.key(row.slot))


def record_of(epoch: Epoch, row: PersonRow, key: bytes) -> Record:
    """Return a person's record. Raises VaultError when it or the row's mode is altered."""
    record = unseal_record(key, epoch.organisation, row.person, row.record)
    if record.mode != row.mode:
        raise blocks.altered(row.block)
    return record


def open_arrays(view: View, row: PersonRow, key: bytes, kind: Kind) -> list[Template]:
    """Return a person's templates or crops, opened with their key."""
    forms, found = forms_of(view.connection), []
    rows = view.connection.execute(
        "SELECT template, form, sealed FROM templates WHERE position = ? ORDER BY template",
        (row.position,),
    )
    for number, form_number, sealed in rows:
        form = forms[form_number]
        if form.kind == kind:
            place = array_place(view.epoch.organisation, row.person, number, form)
            plain = envelope.unseal(key, sealed, place)
            found.append(Template(number=number, form=form, array=to_array(form, plain)))
    return found


def forms_by_position(connection: sqlite3.Connection) -> dict[int, list[Form]]:
    """Return which templates and crops there are of each person."""
    forms, found = forms_of(connection), dict[int, list[Form]]()
    for position, form in connection.execute("SELECT position, form FROM templates"):
        found.setdefault(position, []).append(forms[form])
    return found


def raw_person(person: str) -> bytes:
    """Return the bytes [16] of a person's name in the vault. Raises VaultError for no such name."""
    try:
        return bytes.fromhex(person)
    except ValueError:
        raise unknown_person() from None
