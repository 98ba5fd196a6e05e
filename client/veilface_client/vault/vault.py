"""The vault: one file of people, each sealed under a key that dies with the person.

See `store` for the tables, `epochs` for the keys, `blocks` for what ties rows to the root. A
`Vault` may be used from several threads, and several processes may hold the same file: each sees
what the others committed, and opens the key again after another started a new epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Self

from veilface_client.key_providers import KeyProvider
from veilface_client.key_providers.recovery import RecoveryKey
from veilface_client.vault import blocks, cards, store
from veilface_client.vault.arrays import Kind, Sample, Template
from veilface_client.vault.backup import back_up
from veilface_client.vault.changes import Change, Entry, pending_entries
from veilface_client.vault.check import Finding, check
from veilface_client.vault.epochs import (
    Epoch,
    State,
    read_state,
    write_epoch,
    write_recovery,
)
from veilface_client.vault.people import (
    Enrolled,
    Newcomer,
    Person,
    all_records,
    enrol_person,
    forms_by_position,
    insert_arrays,
    open_arrays,
    open_person,
    raw_person,
    record_of,
    replace_record,
)
from veilface_client.vault.records import Record
from veilface_client.vault.roots import verify_state
from veilface_client.vault.sealed_values import read_value, write_value
from veilface_client.vault.segments import Segment, load_segments
from veilface_client.vault.session import Session
from veilface_common.crypto import envelope
from veilface_common.errors import VaultError
from veilface_common.files import sync_folder


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """What an erasure or a new key-encryption key did: the matter of a receipt."""

    generation: int
    root: str
    epoch_before: int
    epoch_after: int
    pseudonyms: tuple[str, ...]
    is_truncated: bool  # False: a reader kept the WAL; the next change or start empties it


class Vault:
    """An unlocked vault."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @classmethod
    def unlock(cls, path: Path, provider: KeyProvider) -> Self:
        """Open a vault, and finish an erasure that was cut off.

        Raises:
            WrongKey: the provider's passphrase, key or token is another vault's.
            VaultError: it is missing, damaged, altered or of another format.
        """
        return cls(Session(path, provider))

    @classmethod
    def unsafe_unlock(cls, path: Path, provider: KeyProvider) -> Self:
        """Open a vault even if its state was altered, for `check` to say what is."""
        return cls(Session(path, provider, verify=False))

    def close(self) -> None:
        """Close the file; what was acknowledged is written down."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def state(self) -> State:
        """Generation, epoch and root, as they are in the file now."""
        with self.session.reading() as view:
            return read_state(view.connection)

    def pending(self) -> list[Entry]:
        """Return what the access log is not known to hold, oldest first."""
        with self.session.reading() as view:
            entries = pending_entries(view.connection, view.epoch)
        return [entry for entry in entries if entry.generation > self.session.acknowledged]

    def acknowledge(self, generation: int) -> None:
        """Say that the access log holds the entries up to `generation`.

        It reaches the disk with the next change: after a crash an entry may come again.
        """
        self.session.acknowledged = max(self.session.acknowledged, generation)

    def enrol(self, record: Record, samples: Sequence[Sample]) -> Enrolled:
        """Add a person; on disk when this returns."""
        return self.enrol_all([Newcomer(record=record, samples=samples)])[0]

    def enrol_all(self, newcomers: Iterable[Newcomer]) -> list[Enrolled]:
        """Add people, all or none; on disk when this returns.

        Raises:
            VaultError: the vault was altered, or cannot be written.
        """
        with self.session.changing("enrol") as change:
            enrolled = [enrol_person(change, newcomer) for newcomer in newcomers]
            change.pseudonyms += [one.pseudonym for one in enrolled]
        return enrolled

    def add(self, person: str, samples: Sequence[Sample], card: str | None = None) -> None:
        """Add templates and crops to a person's.

        Raises:
            WrongKey: a holder's card is needed, and none was given or another's.
            VaultError: there is no such person, or the vault was altered or cannot be written.
        """
        with self.session.changing("add") as change:
            row, key = change.find(raw_person(person))
            record = record_of(change.epoch, row, key)
            insert_arrays(change, row, cards.template_key(record, key, card), samples)
            change.pseudonyms.append(cards.pseudonym(key))

    def drop_model(self, model: str) -> int:
        """Remove all templates that a model made, once others took their place; say how many."""
        with self.session.changing("drop") as change:
            rows = change.connection.execute(
                "SELECT t.template, p.person FROM templates t JOIN people p USING (position) "
                "JOIN forms f USING (form) WHERE f.kind = 'template' AND f.model = ?",
                (model,),
            ).fetchall()
            for person in {person for _, person in rows}:
                row, _ = change.find(person)
                change.digest_again(row.position, templates=True)
            change.connection.executemany(
                "DELETE FROM templates WHERE template = ?", [(number,) for number, _ in rows]
            )
        return len(rows)

    def people(self) -> list[Person]:
        """Return everybody.

        Raises:
            VaultError: a record is altered.
        """
        with self.session.reading() as view:
            forms = forms_by_position(view.connection)
            return [
                Person(
                    person=row.person.hex(), record=record, forms=tuple(forms.get(row.position, ()))
                )
                for row, record in all_records(view)
            ]

    def find(self, name: str) -> list[str]:
        """Return the people of this name; it opens every record."""
        with self.session.reading() as view:
            return [row.person.hex() for row, record in all_records(view) if record.name == name]

    def due(self, today: date) -> list[str]:
        """Return the people whose retention date has come."""
        with self.session.reading() as view:
            return [row.person.hex() for row, record in all_records(view) if record.is_due(today)]

    def record(self, person: str) -> Record:
        """Return a person's record. Raises VaultError for nobody, or when it is altered."""
        with self.session.reading() as view:
            row, key = open_person(view, person)
            return record_of(view.epoch, row, key)

    def pseudonym(self, person: str) -> str:
        """Return a person's name in logs. Raises VaultError for nobody."""
        with self.session.reading() as view:
            return cards.pseudonym(open_person(view, person)[1])

    def templates(
        self, person: str, card: str | None = None, kind: Kind = "template"
    ) -> list[Template]:
        """Return a person's templates or crops.

        Raises:
            WrongKey: a holder's card is needed, and none was given or another's.
            VaultError: there is no such person, or something is altered, missing or put back.
        """
        with self.session.reading() as view:
            row, key = open_person(view, person)
            key = cards.template_key(record_of(view.epoch, row, key), key, card)
            return open_arrays(view, row, key, kind)

    def segments(self, model: str) -> Iterator[Segment]:
        """Yield the templates by one model of all people who may be identified, verified.

        Raises:
            VaultError: something is altered, missing or put back.
        """
        with self.session.reading() as view:
            verify_state(view.connection, view.epoch)
            yield from load_segments(view.connection, view.epoch, model)

    def update(self, person: str, record: Record) -> None:
        """Replace a person's record; mode and card stay as they are."""
        with self.session.changing("update") as change:
            change.pseudonyms.append(cards.pseudonym(replace_record(change, person, record)))

    def touch(self, last_use: Mapping[str, date]) -> None:
        """Write the day of the last use of some people; those erased meanwhile are left out."""
        with self.session.changing("touch") as change:
            for person, day in last_use.items():
                row = blocks.find_person(change.connection, raw_person(person))
                if row is not None:
                    key = change.block(row.block).key(row.slot)
                    record = record_of(change.epoch, row, key)
                    replace_record(change, person, replace(record, last_use=day.isoformat()))

    def erase(self, *people: str) -> Erasure:
        """Destroy people's keys and rows, and start a new epoch for all others.

        Raises:
            VaultError: one is not in the vault, or it was altered or cannot be written.
        """
        with self.session.changing("erase") as change:
            before = change.epoch
            for person in people:
                row, key = change.find(raw_person(person))
                change.pseudonyms.append(cards.pseudonym(key))
                change.forget(row)
            _start_epoch(change, self.session.provider)
        return self._erasure(change, before)

    def rotate(self, provider: KeyProvider | None = None) -> Erasure:
        """Start a new epoch, wrapped by a new provider if one is given.

        Raises:
            VaultError: the vault was altered or cannot be written.
        """
        provider = provider or self.session.provider
        with self.session.changing("rotate") as change:
            before = change.epoch
            _start_epoch(change, provider)
        self.session.provider = provider
        return self._erasure(change, before)

    def set_recovery(self, recovery: bytes | None) -> None:
        """Let a recovery key [32] open the vault too, in place of any before; None: no one.

        It starts a new epoch: with the shares of the one before, nothing opens any more.
        """
        with self.session.changing("recovery") as change:
            _start_epoch(change, self.session.provider)
            lock = RecoveryKey(recovery).lock if recovery is not None else None
            write_recovery(change.connection, change.epoch, lock)

    def secret(self, name: str) -> bytes | None:
        """Return a value that `set_secret` kept, if there is one. Raises VaultError if altered."""
        with self.session.reading() as view:
            verify_state(view.connection, view.epoch)
            return read_value(view.connection, view.epoch, name)

    def set_secret(self, name: str, value: bytes) -> None:
        """Keep a small value under a name, which can be read without the key."""
        with self.session.changing("secret") as change:
            write_value(change.connection, change.epoch, name, value)

    def check(self, generation: int | None = None, root: str | None = None) -> list[Finding]:
        """Open everything and return what is wrong, with what to do; nothing is changed.

        Without the newest generation and root that the access log holds, an older copy of the whole
        file passes.
        """
        return check(self.session, generation, root)

    def back_up(self, templates: Path, keys: Path) -> int:
        """Write the backup's two parts while others go on, and return its generation."""
        return back_up(self.session.path, templates, keys)

    def _erasure(self, change: Change, before: Epoch) -> Erasure:
        return Erasure(
            generation=change.entry.generation,
            root=change.entry.root,
            epoch_before=before.number,
            epoch_after=change.entry.epoch,
            pseudonyms=change.entry.pseudonyms,
            is_truncated=self.session.is_truncated,
        )


def create_vault(path: Path, organisation: str, provider: KeyProvider) -> Vault:
    """Make a vault with nobody in it and open it; a crash leaves a whole one or none.

    Raises:
        VaultError: there is one already, or it cannot be written.
    """
    if path.exists():
        raise VaultError(f"expected no vault at {path} yet, got one", hint="unlock it")
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    store.create_file(draft, store.TABLES)
    nobody = State(organisation=organisation, epoch=0, generation=0, root="")
    epoch = Epoch(organisation=organisation, number=0, key=bytes(envelope.KEY_BYTES)).next()
    with store.translated(path):
        connection = store.connect(draft, wal=False)
        try:
            with store.writing(connection):
                write_epoch(connection, epoch, provider, old=None)
                Change(connection, epoch, nobody).finish("create")
        finally:
            connection.close()
        draft.rename(path)
        sync_folder(path.parent)
    return Vault.unlock(path, provider)


def _start_epoch(change: Change, provider: KeyProvider) -> None:
    old = change.epoch
    change.epoch = old.next()
    write_epoch(change.connection, change.epoch, provider, old)
