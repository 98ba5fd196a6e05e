"""One change of the vault: everything that it touches, verified before and sealed after.

The change, the new root, the next generation and the entry for the access log are one transaction:
either all of it is on disk or nothing. The entry waits in the outbox, sealed, until the caller
says that the log holds it; after a crash in between it is handed out again, so the log's writer
must skip a generation that the log holds already.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, replace
from typing import Literal

from veilface_client.vault import blocks, segments
from veilface_client.vault.epochs import Epoch, State, write_state
from veilface_client.vault.roots import root_of
from veilface_client.vault.sealed_values import reseal_values
from veilface_common.budget.entries import canonical
from veilface_common.errors import ArtifactError, VaultError
from veilface_common.typed_json import from_json, to_json

Action = Literal[
    "create",
    "enrol",
    "add",
    "update",
    "touch",
    "erase",
    "rotate",
    "recovery",
    "drop",
    "secret",
    "restore",
]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the access log should hold of a change; nobody's name is in it."""

    action: Action
    generation: int
    epoch: int
    root: str
    pseudonyms: tuple[str, ...] = ()


class Change:
    """A change that is being made, inside a transaction."""

    def __init__(self, connection: sqlite3.Connection, epoch: Epoch, state: State) -> None:
        self.connection = connection
        self.epoch = epoch  # under which everything is sealed at the end
        self.pseudonyms: list[str] = []
        self._opened = epoch
        self._state = state
        self._blocks: dict[int, blocks.Block] = {}
        self._people: set[int] = set()  # positions whose rows are digested again
        self._templates: set[int] = set()  # blocks whose segments are made again
        self._last_template: int | None = None
        self._entry: Entry | None = None

    @property
    def entry(self) -> Entry:
        """What the access log should hold, once the change is finished."""
        assert self._entry is not None
        return self._entry

    def next_position(self) -> int:
        """Return the place of a new person; it begins a new block where the last is full."""
        (last,) = self.connection.execute("SELECT max(position) FROM people").fetchone()
        position = 0 if last is None else last + 1
        block = position // blocks.SLOTS
        query = "SELECT 1 FROM key_blocks WHERE block = ?"
        if self.connection.execute(query, (block,)).fetchone() is None:
            self._blocks.setdefault(block, blocks.Block(number=block))
        return position

    def next_template(self) -> int:
        """Return a number for a template that none had before."""
        if self._last_template is None:
            row = self.connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = 'templates'"
            ).fetchone()
            self._last_template = 0 if row is None else row[0]
        self._last_template += 1
        return self._last_template

    def block(self, number: int) -> blocks.Block:
        """Return a block, to be changed in place; it is verified when first asked for."""
        if number not in self._blocks:
            self._blocks[number] = blocks.open_block(self.connection, self._opened, number)
        return self._blocks[number]

    def adopt(self, block: blocks.Block) -> None:
        """Take a block as it is given: what is restored has no digests yet."""
        self._blocks[block.number] = block

    def find(self, person: bytes) -> tuple[blocks.PersonRow, bytes]:
        """Return a person's row, verified, and key.

        Raises:
            VaultError: there is no such person, or the rows are altered.
        """
        row = blocks.find_person(self.connection, person)
        if row is None:
            raise unknown_person()
        block = self.block(row.block)
        blocks.verify_person(self.connection, row, block)
        return row, block.key(row.slot)

    def digest_again(self, position: int, *, templates: bool) -> None:
        """Say that a person's row changed, and whether the templates did."""
        self._people.add(position)
        self.block(position // blocks.SLOTS)
        if templates:
            self._templates.add(position // blocks.SLOTS)

    def forget(self, row: blocks.PersonRow) -> None:
        """Remove a person's rows and key; the key-encryption key must be new at the end."""
        self.connection.execute("DELETE FROM templates WHERE position = ?", (row.position,))
        self.connection.execute("DELETE FROM people WHERE position = ?", (row.position,))
        self.block(row.block).clear(row.slot)
        self._templates.add(row.block)

    def finish(self, action: Action, generation: int | None = None) -> None:
        """Seal and digest what was touched; write state and outbox. Call it once, at the end."""
        for position in self._people:
            row = blocks.person_at(self.connection, position)
            if row is not None:
                digest = blocks.digest_of(self.connection, row)
                self.block(row.block).put_digest(row.slot, digest)
        for number, block in self._blocks.items():
            self._write(number, block)
        if self.epoch != self._opened:
            blocks.reseal_blocks(self.connection, self._opened, self.epoch)
            reseal_values(self.connection, self._opened, self.epoch)
            self._reseal_outbox()
        state = replace(
            self._state,
            epoch=self.epoch.number,
            generation=generation or self._state.generation + 1,
            root=root_of(self.connection),
        )
        write_state(self.connection, self.epoch, state)
        self._entry = Entry(
            action=action,
            generation=state.generation,
            epoch=state.epoch,
            root=state.root,
            pseudonyms=tuple(self.pseudonyms),
        )
        self._post(state.generation, canonical(to_json(self._entry)).encode())

    def _write(self, number: int, block: blocks.Block) -> None:
        if number in self._templates:
            segments.write_segments(self.connection, self.epoch.organisation, block)
        if block.is_empty:
            blocks.remove_block(self.connection, number)
        else:
            blocks.write_block(self.connection, self.epoch, block)

    def _post(self, generation: int, content: bytes) -> None:
        # Sealed: else whoever can write the file could have the log say and sign anything.
        sealed = self.epoch.seal(content, "outbox", generation)
        self.connection.execute("INSERT INTO outbox VALUES (?, ?)", (generation, sealed))

    def _reseal_outbox(self) -> None:
        rows = self.connection.execute("SELECT generation, sealed FROM outbox").fetchall()
        self.connection.execute("DELETE FROM outbox")
        for generation, sealed in rows:
            self._post(generation, self._opened.unseal(sealed, "outbox", generation))


def pending_entries(connection: sqlite3.Connection, epoch: Epoch) -> list[Entry]:
    """Return the entries in the outbox, oldest first. Raises VaultError when one is altered."""
    rows = connection.execute("SELECT generation, sealed FROM outbox ORDER BY generation")
    return [_parse(epoch.unseal(sealed, "outbox", generation)) for generation, sealed in rows]


def _parse(content: bytes) -> Entry:
    try:
        return from_json(Entry, json.loads(content), "an entry of the outbox")
    except (ValueError, ArtifactError):
        raise VaultError("expected an entry that this release can read, got another") from None


def unknown_person() -> VaultError:
    """Return the error for a person who is not in the vault."""
    return VaultError("expected a person of this vault, got one who is not in it")
