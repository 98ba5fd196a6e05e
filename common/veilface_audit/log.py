"""An access log verified from the file alone: chain, signatures, and that no name can hide in it.

This is written apart from the program that keeps the log, after its documented format
(docs/access-log.md). The rules, in the order they run:

1. the file is SQLite with a table `entries`
2. sequence numbers are 1, 2, 3, ... and each `previous` is the hash before it, zeros at first
3. each `hash` is SHA-256 of what the entry says, and its body is written canonically
4. entry 1, and no other, opens the log, with the given key
5. every kind but `verified` and `identified` is signed, by the given key or by one that an earlier
   entry handed over to; of those two at most 100 follow one another
6. times are UTC; every body has the fields of its kind and no other, each of its form
7. the generation of the vault never falls, and only a signed entry names one
8. the head that somebody remembers is of this chain
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from veilface_audit.verify import AuditFailed, canonical, parse_key

UNSIGNED = ("verified", "identified")
KINDS = (
    *("opened", "checkpoint", "key-rotated", *UNSIGNED, "enrolled", "added", "forgotten"),
    *("expired", "exported", "consent-changed", "migrated", "calibrated", "threshold-loosened"),
    *("vault-rotated", "recovered", "user-added", "user-removed", "user-failed", "refused"),
    *("alert", "restored", "note"),
)
MOST_UNSIGNED = 100
SCHEMA = 1
_COLUMNS = ("sequence", "time", "kind", "body", "previous", "hash", "signature")
_ENTRY_DOMAIN = b"veilface log entry 1\0"
_SIGNATURE_DOMAIN = b"veilface\0log-entry\0"
_ACCEPTED_DOMAIN = b"veilface\0log-accepted\0"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
_USER = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_ROLES = "operator|enroller|privacy-officer|auditor|administrator|terminal"
_OUTCOMES = "done|match|no-match|known|unknown|refused|failed"
_FORMS: Mapping[str, re.Pattern[str]] = {
    "actor": _USER,
    "role": re.compile(_ROLES),
    "outcome": re.compile(_OUTCOMES),
    "second": re.compile(rf"|{_USER.pattern}"),
}
_EVENT = {*_FORMS, "subject", "reason", "generation", "root", "details"}
_FIELDS = {
    "opened": {"organisation", "public_key", "schema"},
    "checkpoint": set(),
    "key-rotated": _EVENT | {"accepted", "public_key"},
}
_ACCEPTED = re.compile(r"|[0-9a-f]{128}")
_DETAIL = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, kw_only=True)
class LogVerdict:
    """What an auditor can say of an access log that passed."""

    entries: int
    head: str  # hash of the newest entry, hex
    organisation: str
    counts: dict[str, dict[str, int]]  # {kind: {outcome or '': how many}}
    unsigned: int  # newest entries that no signature covers yet
    generation: int | None  # of the vault, the newest
    root: str | None  # the vault's Merkle root at that generation
    clock_set_back: int  # times that an entry is older than the one before it


@dataclass
class _Book:
    """What was read so far."""

    key: Ed25519PublicKey
    last: bytes = bytes(32)
    time: str = ""
    entries: int = 0
    organisation: str = ""
    unsigned: int = 0
    generation: int | None = None
    root: str | None = None
    clock_set_back: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


def is_log(path: Path) -> bool:
    """Return whether the first entry of a file is that of an access log."""
    try:
        return next(_rows(path), {}).get("kind") == "opened"
    except AuditFailed:
        return False


def audit_log(path: Path, public_key: bytes, remembered: tuple[int, str] | None) -> LogVerdict:
    """Return the verdict on the access log in a file.

    Args:
        path: the SQLite file; it is not written to.
        public_key: the log's first key, PEM, from elsewhere than the log.
        remembered: sequence number and hash, hex, of an entry that somebody saw before; without
            one, entries that were cut off the end are not missed.

    Raises:
        AuditFailed: it does not pass.
    """
    book = _Book(key=parse_key(public_key, "the key given"))
    held = remembered is None
    for number, row in enumerate(_rows(path), start=1):
        try:
            _verify_entry(number, row, book, public_key)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise AuditFailed(f"entry {number}: cannot be read ({error})") from error
        held = held or remembered == (number, book.last.hex())
    if not book.entries:
        raise AuditFailed("the file holds no entries")
    if remembered is not None and not held:
        raise AuditFailed(
            f"entry {remembered[0]}: was another when its hash was noted, or the log was cut off"
        )
    return LogVerdict(
        entries=book.entries,
        head=book.last.hex(),
        organisation=book.organisation,
        counts=book.counts,
        unsigned=book.unsigned,
        generation=book.generation,
        root=book.root,
        clock_set_back=book.clock_set_back,
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    # Without a -wal file nobody has the log open, and it can be read where nothing may be written.
    is_open = path.with_name(path.name + "-wal").exists()
    uri = f"{path.resolve().as_uri()}?mode=ro{'' if is_open else '&immutable=1'}"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            found = connection.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM entries ORDER BY sequence"  # noqa: S608 -- constants
            )
            for row in found:
                yield dict(zip(_COLUMNS, row, strict=True))
    except (sqlite3.Error, OSError) as error:
        raise AuditFailed(f"the file cannot be read as an access log: {error}") from error


def _verify_entry(number: int, row: Mapping[str, Any], book: _Book, public_key: bytes) -> None:
    kind, body = row["kind"], json.loads(row["body"])
    if row["sequence"] != number:
        raise AuditFailed(f"entry {number}: missing, the next one is {row['sequence']}")
    if row["previous"] != book.last:
        raise AuditFailed(f"entry {number}: does not follow from the entry before it")
    if canonical(body) != row["body"] or _hash(row) != row["hash"]:
        raise AuditFailed(f"entry {number}: altered after it was written")
    if kind not in KINDS:
        raise AuditFailed(f"entry {number}: of unknown kind {kind!r}")
    if (kind == "opened") != (number == 1):
        raise AuditFailed(f"entry {number}: the log must be opened first, and once")
    _verify_signed(number, row, book)
    _verify_body(number, kind, body)
    if kind == "opened":
        _open(body, book, public_key)
    if kind == "key-rotated":
        book.key = _accepted_key(number, body, book.last)
    _take_root(number, kind, body, book)
    if not _TIME.fullmatch(row["time"]):
        raise AuditFailed(f"entry {number}: its time is not written as UTC")
    book.clock_set_back += row["time"] < book.time
    book.time, book.last, book.entries = row["time"], row["hash"], number
    outcomes = book.counts.setdefault(kind, {})
    outcome = body.get("outcome", "")
    outcomes[outcome] = outcomes.get(outcome, 0) + 1


def _verify_signed(number: int, row: Mapping[str, Any], book: _Book) -> None:
    if row["kind"] in UNSIGNED:
        book.unsigned += 1
        if book.unsigned > MOST_UNSIGNED:
            raise AuditFailed(f"entry {number}: a signed checkpoint should stand before it")
        if row["signature"] != b"":
            raise AuditFailed(f"entry {number}: of a kind that is not signed, and signed")
        return
    book.unsigned = 0
    try:
        book.key.verify(row["signature"], _SIGNATURE_DOMAIN + row["hash"])
    except InvalidSignature:
        raise AuditFailed(f"entry {number}: not signed by the organisation's key") from None


def _verify_body(number: int, kind: str, body: Mapping[str, Any]) -> None:
    """Refuse what the format does not have: it is where a name could hide."""
    fields = _FIELDS.get(kind, _EVENT)
    if set(body) != fields:
        raise AuditFailed(f"entry {number}: expected the fields {', '.join(sorted(fields))}")
    wrong = [name for name in fields & _EVENT if not _has_form(name, body[name])]
    if wrong:
        raise AuditFailed(f"entry {number}: its {min(wrong)} is not of the documented form")
    if (body.get("generation") is None) != (body.get("root") is None):
        raise AuditFailed(f"entry {number}: names a generation without a root, or the reverse")


def _has_form(name: str, value: Any) -> bool:
    if name in _FORMS:
        return isinstance(value, str) and _FORMS[name].fullmatch(value) is not None
    match name:
        case "subject" | "root":
            length = 32 if name == "subject" else 64
            return value is None or re.fullmatch(f"[0-9a-f]{{{length}}}", value) is not None
        case "generation":
            return value is None or (type(value) is int and value >= 0)
        case "reason":
            return _is_short_text(value)
    return (
        len(value) <= 16
        and all(_DETAIL.fullmatch(key) for key in value)
        and all(_is_short_text(item) or _is_number(item) for item in value.values())
    )


def _is_short_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 200 and value.isprintable()


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _open(body: Mapping[str, Any], book: _Book, public_key: bytes) -> None:
    if _named_key(1, body) != parse_key(public_key, "the key given"):
        raise AuditFailed("entry 1: names another key than the one given")
    if not _is_short_text(body["organisation"]) or body["schema"] != SCHEMA:
        raise AuditFailed("entry 1: its organisation or schema is not of the documented form")
    book.organisation = body["organisation"]


def _accepted_key(number: int, body: Mapping[str, Any], previous: bytes) -> Ed25519PublicKey:
    """Return the next key, which must have signed the hash of the entry before."""
    key = _named_key(number, body)
    try:
        key.verify(bytes.fromhex(body["accepted"]), _ACCEPTED_DOMAIN + previous)
    except InvalidSignature:
        raise AuditFailed(f"entry {number}: the next key did not accept the log") from None
    return key


def _named_key(number: int, body: Mapping[str, Any]) -> Ed25519PublicKey:
    """Return the key that an entry names, without any text around it, which PEM allows."""
    key = parse_key(body["public_key"].encode(), f"entry {number}")
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if body["public_key"] != pem.decode() or not _ACCEPTED.fullmatch(body.get("accepted", "")):
        raise AuditFailed(f"entry {number}: names a key in another form than the documented one")
    return key


def _take_root(number: int, kind: str, body: Mapping[str, Any], book: _Book) -> None:
    generation = body.get("generation")
    if generation is None:
        return
    if kind in UNSIGNED:
        raise AuditFailed(f"entry {number}: names a root of the vault without a signature")
    if book.generation is not None and generation < book.generation:
        raise AuditFailed(
            f"entry {number}: the vault's generation falls from {book.generation} to {generation}"
        )
    book.generation, book.root = generation, body["root"]


def _hash(row: Mapping[str, Any]) -> bytes:
    said = {name: row[name] for name in ("body", "kind", "sequence", "time")}
    text = canonical({**said, "previous": row["previous"].hex()})
    return sha256(_ENTRY_DOMAIN + text.encode()).digest()
