"""What is wrong with a vault, and what to do about it: every key, record and template is opened.

Found are: bytes that changed, rows that were swapped, removed, added or put back, people of whom
only a key is left, an older copy of the whole file (by what the access log remembers), and
an erasure whose last traces are still in the WAL. A holder's templates cannot be opened without the
card; they are compared with their digests.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from veilface_client.vault import blocks, people, segments
from veilface_client.vault.arrays import array_place, forms_of
from veilface_client.vault.blocks import Block, PersonRow
from veilface_client.vault.changes import pending_entries
from veilface_client.vault.epochs import read_state
from veilface_client.vault.roots import verify_state
from veilface_client.vault.sealed_values import read_value
from veilface_client.vault.session import Session, View
from veilface_common.crypto import envelope
from veilface_common.errors import VaultError

What = Literal["file", "state", "rolled back", "log", "block", "person", "segment", "wal"]

_RESTORE = "restore the newest backup (veilface vault restore), then check again"
_RENEW = "enrol this person again, or restore the newest backup"
# What damaged rows may raise before anything of ours does
_DAMAGE = (VaultError, sqlite3.Error, TypeError, ValueError, KeyError, struct.error)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong: of what kind, where, what it is, and what to do."""

    what: What
    where: str
    problem: str
    action: str


def check(session: Session, generation: int | None, root: str | None) -> list[Finding]:
    """Return what is wrong.

    Args:
        session: open, verified or not.
        generation: the newest that the access log holds, if it is at hand.
        root: the root that the log holds for it, in hex.
    """
    found: list[Finding] = []
    if not session.is_truncated:
        action = "end the programs that use the vault, then check again"
        found.append(_finding("wal", "the WAL", "an erasure is not finished", action))
    with session.reading() as view:
        found += _guarded("file", "the file", _RESTORE, lambda: _file(view))
        found += _guarded("state", "the state", _RESTORE, lambda: _state(view))
        found += _guarded("log", "the outbox", _RESTORE, lambda: _log(view, generation, root))
        for number in _numbers(view):
            where = f"key block {number}"
            found += _guarded("block", where, _RESTORE, lambda n=number: _block(view, n))  # type: ignore[misc]
    return found


def _finding(what: What, where: str, problem: str, action: str) -> Finding:
    return Finding(what=what, where=where, problem=problem, action=action)


def _guarded(
    what: What, where: str, action: str, look: Callable[[], Iterable[Finding]]
) -> list[Finding]:
    """Return what `look` finds; what stops it is a finding too."""
    found = []
    try:
        for finding in look():
            found.append(finding)  # noqa: PERF402 -- those before the stop are kept
    except _DAMAGE as error:
        found.append(_finding(what, where, str(error), action))
    return found


def _file(view: View) -> Iterator[Finding]:
    for (problem,) in view.connection.execute("PRAGMA integrity_check(20)"):
        if problem != "ok":
            yield _finding("file", "the file", str(problem), _RESTORE)
    for table, *_ in view.connection.execute("PRAGMA foreign_key_check"):
        problem = f"a row of {table} belongs to nobody"
        yield _finding("file", "the file", problem, _RESTORE)


def _state(view: View) -> Iterator[Finding]:
    verify_state(view.connection, view.epoch)
    for (name,) in view.connection.execute("SELECT name FROM sealed_values").fetchall():
        read_value(view.connection, view.epoch, name)
    yield from ()


def _log(view: View, generation: int | None, root: str | None) -> Iterator[Finding]:
    pending = {entry.generation for entry in pending_entries(view.connection, view.epoch)}
    state = read_state(view.connection)
    if generation is None:
        return
    if state.generation < generation:
        problem = f"the log knows generation {generation}, the vault is at {state.generation}"
        action = "an old copy was put back: put the newest there; people erased since are in it"
        yield _finding("rolled back", "the vault", problem, action)
    elif state.generation == generation and root is not None and state.root != root:
        problem = f"generation {generation} has another root in the log"
        action = "somebody with the key wrote history anew: restore a backup, change the key"
        yield _finding("rolled back", "the vault", problem, action)
    elif not set(range(generation + 1, state.generation + 1)) <= pending:
        problem = f"the log ends at generation {generation}, the vault is at {state.generation}"
        action = "the log was cut, or is another vault's: restore the log"
        yield _finding("log", "the access log", problem, action)


def _numbers(view: View) -> list[int]:
    """Return the blocks that there are, or should be."""
    query = (
        f"SELECT block FROM key_blocks UNION SELECT position / {blocks.SLOTS} FROM people "  # noqa: S608 -- a number
        "UNION SELECT block FROM segments UNION SELECT block FROM block_digests"
    )
    try:
        return sorted(number for (number,) in view.connection.execute(query))
    except (sqlite3.Error, TypeError):
        return []  # the file's own check said so


def _block(view: View, number: int) -> Iterator[Finding]:
    block = blocks.unsafe_open_block(view.connection, view.epoch, number)
    where = f"key block {number}"
    yield from _guarded("block", where, _RESTORE, lambda: _leaf(view, number))
    rows = blocks.rows_of(view.connection, number)
    for row in rows:
        where = f"person {row.person.hex()}"
        yield from _guarded("person", where, _RENEW, lambda r=row: _person(view, block, r))  # type: ignore[misc]
    kept = {row.slot for row in rows}
    for slot in range(blocks.SLOTS):
        if slot not in kept and not block.is_free(slot):
            where = f"slot {slot} of key block {number}"
            yield _finding("person", where, "a person was removed without being erased", _RESTORE)
    where = f"segments of key block {number}"
    yield from _guarded("segment", where, _RESTORE, lambda: _segments(view, block))


def _leaf(view: View, number: int) -> Iterator[Finding]:
    blocks.open_block(view.connection, view.epoch, number)
    yield from ()


def _person(view: View, block: Block, row: PersonRow) -> Iterator[Finding]:
    where = f"person {row.person.hex()}"
    if blocks.digest_of(view.connection, row) != block.digest(row.slot):
        problem = "rows were altered, removed, added or put back"
        yield _finding("person", where, problem, _RENEW)
    key = block.key(row.slot)
    people.record_of(view.epoch, row, key)
    forms = forms_of(view.connection)
    query = "SELECT template, form, digest, sealed FROM templates WHERE position = ?"
    for number, form, digest, sealed in view.connection.execute(query, (row.position,)):
        if sha256(sealed).digest() != digest:
            yield _finding("person", where, f"template {number} was altered", _RENEW)
        elif row.mode == "organisation":
            place = array_place(view.epoch.organisation, row.person, number, forms[form])
            envelope.unseal(key, sealed, place)


def _segments(view: View, block: Block) -> Iterator[Finding]:
    if block.number >= segments.first_open_block(view.connection):
        return
    organisation, forms = view.epoch.organisation, segments.template_forms(view.connection)
    held = segments.read_segments(view.connection, organisation, block, forms)
    found = sorted(segment.to_bytes() for segment in held)
    single = (
        segments.open_templates(view.connection, organisation, block, numbered)
        for numbered in forms.items()
    )
    if found != sorted(segment.to_bytes() for segment in single if len(segment.owners)):
        where = f"segments of key block {block.number}"
        yield _finding("segment", where, "other templates than the people's own", _RESTORE)
