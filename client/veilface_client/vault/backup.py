"""Backups in two parts, which belong in two places.

    templates   people, forms, templates: sealed under people's keys. May be kept for long.
    keys        key blocks and values, and their key as wrapped. Make one after each erasure,
                and destroy those before.

Neither opens without the other. From older templates and newer keys, everybody comes back who was
in the vault at both times; people erased in between do not, for the newer keys hold none of
theirs. Who kept keys from before an erasure, and what unwraps them, can still open that person's
old templates.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from veilface_client.key_providers import KeyProvider
from veilface_client.vault import blocks, store
from veilface_client.vault.arrays import Form, array_place, forms_of
from veilface_client.vault.blocks import Block, PersonRow
from veilface_client.vault.changes import Change
from veilface_client.vault.epochs import Epoch, State, open_epoch, parse_state, read_state
from veilface_client.vault.people import record_of
from veilface_common.crypto import envelope
from veilface_common.errors import VaultError
from veilface_common.files import sync_folder

TEMPLATES = store.META + store.PEOPLE
KEYS = store.META + store.KEYS


@dataclass(frozen=True, kw_only=True)
class Restored:
    """Who came back, and who did not."""

    people: int
    erased_since: int  # no key is left of them, or it is another's
    without_rows: int  # enrolled after the templates were saved: these must come again
    templates_lost: int  # of those who came back


def back_up(vault: Path, templates: Path, keys: Path) -> int:
    """Write both parts, of one moment, while the vault is in use; return its generation.

    Raises:
        VaultError: one is there already, or cannot be written; then neither is.
    """
    drafts = _draft_of(templates), _draft_of(keys)
    try:
        for draft, tables in zip(drafts, (TEMPLATES, KEYS), strict=True):
            store.create_file(draft, tables)
        with (
            store.translated(vault),
            _attached(store.connect(vault), *drafts) as connection,
            store.reading(connection),
        ):
            generation = read_state(connection).generation
            for statement in _COPY:
                connection.execute(statement)
        for draft, path in zip(drafts, (templates, keys), strict=True):
            draft.replace(path)
            sync_folder(path.parent)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)
    return generation


def restore(
    templates: Path, keys: Path, vault: Path, provider: KeyProvider, after: int = 0
) -> Restored:
    """Make a vault from both parts, digested anew, with an entry for the access log that says so.

    Args:
        templates: that part.
        keys: that part.
        vault: where the vault comes; nothing is there.
        provider: of the key that was in force when `keys` was made.
        after: the newest generation that the access log holds; the vault's will be greater.

    Raises:
        WrongKey: the provider's passphrase, key or token is another.
        VaultError: a part is missing, damaged or the other's, or the vault cannot be written.
    """
    _verify_part(templates, TEMPLATES)
    _verify_part(keys, KEYS)
    draft = _draft_of(vault)
    try:
        store.create_file(draft, store.TABLES)
        with (
            store.translated(vault),
            _attached(store.connect(draft, wal=False), templates, keys) as connection,
            store.writing(connection),
        ):
            for statement in _TAKE:
                connection.execute(statement)
            epoch, state = open_epoch(connection, provider), read_state(connection)
            _verify_pair(connection, state)
            restored = _rebuild(connection, epoch, state, after)
        draft.replace(vault)
        sync_folder(vault.parent)
    finally:
        draft.unlink(missing_ok=True)
    return restored


_COPY = (
    "INSERT INTO templates_part.meta SELECT * FROM main.meta WHERE name = 'state'",
    *(
        f"INSERT INTO templates_part.{table} SELECT * FROM main.{table}"  # noqa: S608 -- ours
        for table in ("people", "forms", "templates")
    ),
    "INSERT INTO keys_part.meta SELECT * FROM main.meta",
    "INSERT INTO keys_part.key_blocks SELECT * FROM main.key_blocks",
    "INSERT INTO keys_part.sealed_values SELECT * FROM main.sealed_values",
)
_TAKE = (
    "INSERT INTO main.meta SELECT * FROM keys_part.meta",
    "INSERT INTO main.key_blocks SELECT * FROM keys_part.key_blocks",
    "INSERT INTO main.sealed_values SELECT * FROM keys_part.sealed_values",
    *(
        f"INSERT INTO main.{table} SELECT * FROM templates_part.{table}"  # noqa: S608 -- ours
        for table in ("people", "forms", "templates")
    ),
)


def _draft_of(path: Path) -> Path:
    """Return the name beside `path` under which a part or vault is made."""
    if path.exists():
        raise VaultError(f"expected nothing at {path} yet, got a file", hint="choose another name")
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    return draft


def _verify_part(path: Path, tables: str) -> None:
    store.connect(path, tables, wal=False).close()


@contextmanager
def _attached(
    connection: sqlite3.Connection, templates: Path, keys: Path
) -> Iterator[sqlite3.Connection]:
    """Give a connection that sees both parts, and is closed at the end."""
    try:
        for path, name in ((templates, "templates_part"), (keys, "keys_part")):
            uri = f"{path.resolve().as_uri()}?mode=rw"
            connection.execute(f"ATTACH ? AS {name}", (uri,))
        yield connection
    finally:
        connection.close()


def _verify_pair(connection: sqlite3.Connection, state: State) -> None:
    text = connection.execute("SELECT value FROM templates_part.meta WHERE name = 'state'")
    found = parse_state((text.fetchone() or (b"",))[0])
    if found.organisation != state.organisation:
        raise VaultError("expected two parts of one organisation's vault, got parts of two")


def _rebuild(connection: sqlite3.Connection, epoch: Epoch, state: State, after: int) -> Restored:
    """Drop what does not open, and digest the rest; return what became of everybody."""
    change = Change(connection, epoch, state)
    forms = forms_of(connection)
    everybody = connection.execute("SELECT position FROM people").fetchall()
    kept: set[int] = set()
    without_rows = templates_lost = 0
    for (number,) in connection.execute("SELECT block FROM key_blocks").fetchall():
        block = blocks.unseal_block(connection, epoch, number)
        change.adopt(block)
        rows = [row for row in blocks.rows_of(connection, number) if _opens(epoch, row, block)]
        for row in rows:
            templates_lost += _drop_closed(connection, epoch, row, block.key(row.slot), forms)
            change.digest_again(row.position, templates=True)
        without_rows += block.clear_all_but({row.slot for row in rows})
        kept.update(row.position for row in rows)
    gone = [(position,) for (position,) in everybody if position not in kept]
    connection.executemany("DELETE FROM templates WHERE position = ?", gone)
    connection.executemany("DELETE FROM people WHERE position = ?", gone)
    change.finish("restore", max(state.generation, after) + 1)
    return Restored(
        people=len(kept),
        erased_since=len(gone),
        without_rows=without_rows,
        templates_lost=templates_lost,
    )


def _opens(epoch: Epoch, row: PersonRow, block: Block) -> bool:
    try:
        record_of(epoch, row, block.key(row.slot))
    except VaultError:
        return False
    return True


def _drop_closed(
    connection: sqlite3.Connection, epoch: Epoch, row: PersonRow, key: bytes, forms: dict[int, Form]
) -> int:
    """Remove a person's templates and crops that are damaged; say how many."""
    lost = []
    query = "SELECT template, form, digest, sealed FROM templates WHERE position = ?"
    for number, form, digest, sealed in connection.execute(query, (row.position,)):
        place = array_place(epoch.organisation, row.person, number, forms[form])
        try:
            if row.mode == "organisation":  # a holder's need the card
                envelope.unseal(key, sealed, place)
            is_lost = sha256(sealed).digest() != digest
        except VaultError:
            is_lost = True
        if is_lost:
            lost.append((number,))
    connection.executemany("DELETE FROM templates WHERE template = ?", lost)
    return len(lost)
