"""The chain of an access log: which entry may follow which, and who vouches for all of them.

    hash_n = SHA-256( "veilface log entry 1" NUL canonical JSON of
                      {"body", "kind", "previous": hex of hash_{n-1}, "sequence", "time"} )
    signature_n = Ed25519 of the organisation over hash_n, purpose "log-entry"; none in 'verified'
                  and 'identified'

Rules, in the order in which `followed` applies them:

1. sequence numbers count up from 1 without a gap; `previous` is the hash before (zeros at first)
2. `hash` is the hash of what the entry says
3. the first entry, and only it, opens the log
4. at most `CHECKPOINT_EVERY` entries follow one another unsigned; a signed one, if nothing else a
   'checkpoint', then vouches for them: a signature covers all that comes before it
5. the log's key is replaced only by an entry that the old key signs and the new one accepts
6. the generation of the vault never falls
7. the newest signature of each key is the key's: older ones cover nothing that it does not. Only
   `verify_signatures` looks at every one, as the auditor does
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from veilface_client.access_events import FREQUENT, KINDS
from veilface_common.budget.entries import FIRST_PREVIOUS, Entry, Head, canonical, entry_hash
from veilface_common.crypto.signing import SigningKey, VerifyKey, parse_verify_key
from veilface_common.errors import KeyFileError, LogError, SignatureError

CHECKPOINT_EVERY = 100
SCHEMA = 1
_DOMAIN = b"veilface log entry 1\0"
_OWN_KINDS = frozenset({"opened", "checkpoint", "key-rotated"})
_SIGNED = frozenset(KINDS) - FREQUENT | _OWN_KINDS
_NO_ROOT = '"root":null'  # no string of a body can hold it: its quotes would be escaped
Row = tuple[int, str, str, str, bytes, bytes, bytes]  # of the table's columns, in their order


@dataclass(frozen=True, kw_only=True)
class State:
    """All that the entries so far add up to."""

    head: Head
    key: VerifyKey
    unsigned: int = 0  # entries since the newest signature
    generation: int = -1  # of the vault
    root: str = ""

    @classmethod
    def before_all(cls, key: VerifyKey) -> State:
        """Return the state of a log without an entry, to be signed by `key`."""
        return cls(head=Head(sequence=0, hash=FIRST_PREVIOUS.hex()), key=key)


def followed(state: State, rows: Iterable[Row]) -> State:
    """Return the state after more entries.

    Raises:
        LogError: one of them breaks a rule above; its message says which.
    """
    number, last, unsigned = state.head.sequence, bytes.fromhex(state.head.hash), state.unsigned
    newest: Row | None = None  # of those that are signed
    try:
        for row in rows:
            sequence, time, kind, body, previous, digest, signature = row
            number += 1
            if sequence != number:
                raise LogError(f"log entry {number}: expected next, got entry {sequence}")
            if previous != last:
                raise LogError(f"log entry {number}: it does not follow from the entry before it")
            if entry_hash(number, time, kind, body, previous, _DOMAIN) != digest:
                raise LogError(f"log entry {number}: its text was altered after it was hashed")
            last = digest
            if kind not in FREQUENT:
                unsigned, newest, state = 0, row, _after_signed(state, row)
                continue
            unsigned += 1
            if signature or unsigned > CHECKPOINT_EVERY:
                raise LogError(f"log entry {number}: expected a signed checkpoint before it")
        if newest is not None and newest[2] != "key-rotated":
            verify_signature(state.key, newest)
    except (TypeError, ValueError) as error:  # a column of another type than the table's
        raise LogError(f"log entry {number}: {error}") from error
    return replace(state, head=Head(sequence=number, hash=last.hex()), unsigned=unsigned)


def verify_signature(key: VerifyKey, row: Row) -> None:
    """Do nothing if an entry is signed by `key`. Raises LogError if not."""
    try:
        key.verify("log-entry", row[5], row[6])
    except SignatureError:
        raise LogError(f"log entry {row[0]}: the signature is not the key's") from None


def verify_signatures(key: VerifyKey, rows: Iterable[Row]) -> None:
    """Do nothing if every signature is that of the key in force; `key` signed the first.

    Raises:
        LogError: one is not.
    """
    for row in rows:
        if row[2] not in FREQUENT:
            verify_signature(key, row)
        if row[2] == "key-rotated":
            key = _accepted_key(row)


def next_entry(head: Head, kind: str, body: str, time: str, key: SigningKey) -> Entry:
    """Return the entry that follows `head`, signed if its kind is."""
    sequence, previous = head.sequence + 1, bytes.fromhex(head.hash)
    digest = entry_hash(sequence, time, kind, body, previous, _DOMAIN)
    return Entry(
        sequence=sequence,
        time=time,
        kind=kind,
        body=body,
        previous=previous,
        hash=digest,
        signature=b"" if kind in FREQUENT else key.sign("log-entry", digest),
    )


def row_of(entry: Entry) -> Row:
    """Return an entry as the table holds it."""
    text = (entry.sequence, entry.time, entry.kind, entry.body)
    return (*text, entry.previous, entry.hash, entry.signature)


def opening(organisation: str, key: SigningKey) -> str:
    """Return the body of the first entry."""
    public_key = key.public.pem.decode()
    return canonical({"organisation": organisation, "public_key": public_key, "schema": SCHEMA})


def rotation(head: Head, key: SigningKey, event: Mapping[str, object]) -> str:
    """Return the body of an entry after `head` that hands the log over to `key`."""
    accepted = key.sign("log-accepted", bytes.fromhex(head.hash)).hex()
    public_key = key.public.pem.decode()
    return canonical({**event, "public_key": public_key, "accepted": accepted})


def first_key(row: Row | None) -> VerifyKey:
    """Return the key that the first entry names.

    Raises:
        LogError: there is no first entry of a log.
    """
    try:
        if row is None or row[2] != "opened":
            raise LogError("expected an access log, got a file without its first entry")
        return parse_verify_key(json.loads(row[3])["public_key"].encode())
    except (AttributeError, KeyError, KeyFileError, TypeError, ValueError) as error:
        raise LogError("log entry 1: expected the key of the log") from error


def _after_signed(state: State, row: Row) -> State:
    number, kind, body = row[0], row[2], row[3]
    if kind not in _SIGNED:
        raise LogError(f"log entry {number}: expected a known kind, got {kind!r}")
    if (kind == "opened") != (number == 1):
        raise LogError(f"log entry {number}: expected the log to be opened first, and once")
    if kind == "key-rotated":
        verify_signature(state.key, row)
        state = replace(state, key=_accepted_key(row))
    if kind in ("opened", "checkpoint") or _NO_ROOT in body:
        return state
    try:
        content = json.loads(body)
        generation, root = int(content["generation"]), str(content["root"])
    except (KeyError, TypeError, ValueError) as error:
        raise LogError(f"log entry {number}: expected an event") from error
    if generation < state.generation:
        raise LogError(
            f"log entry {number}: expected the vault's generation {state.generation} or a later "
            f"one, got {generation}"
        )
    return replace(state, generation=generation, root=root)


def _accepted_key(row: Row) -> VerifyKey:
    """Return the next key, which must have signed the hash of the entry before.

    Without that, a stranger's history could hand itself over to an organisation's key.
    """
    try:
        content = json.loads(row[3])
        key = parse_verify_key(content["public_key"].encode())
        key.verify("log-accepted", row[4], bytes.fromhex(content["accepted"]))
    except (KeyError, KeyFileError, SignatureError, TypeError, ValueError) as error:
        raise LogError(f"log entry {row[0]}: the next key did not accept the log") from error
    return key
