"""A receipt of somebody who was forgotten, verified: signed as it stands, and in the log it names.

1. the file is JSON with the fields of a receipt and no other
2. `signature` is that of the log's key over the canonical rest, purpose "receipt"
3. where the log is given: it passes on its own, holds the entry that the receipt names as its
   newest, and up to there one that says that this pseudonym was forgotten or expired
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature

from veilface_audit.log import audit_log
from veilface_audit.verify import AuditFailed, canonical, parse_key

FIELDS = frozenset(
    {
        *("schema", "organisation", "pseudonym", "time", "reason", "epoch_before", "epoch_after"),
        *("generation", "root", "log_sequence", "log_hash", "wal_emptied", "holds", "holds_not"),
        "signature",
    }
)
_DOMAIN = b"veilface\0receipt\0"


@dataclass(frozen=True, kw_only=True)
class ReceiptVerdict:
    """What a receipt says, once it passed."""

    organisation: str
    pseudonym: str
    time: str
    what: str  # forgotten or expired
    in_log: bool  # whether the log was there to compare with


def is_receipt(path: Path) -> bool:
    """Return whether the file is a receipt rather than a database."""
    with path.open("rb") as file:
        return file.read(1) == b"{"


def audit_receipt(path: Path, key: bytes, log: Path | None) -> ReceiptVerdict:
    """Return what a receipt says.

    Args:
        path: the receipt.
        key: the public key of the organisation's log, PEM.
        log: the log, or None to check the signature alone.

    Raises:
        AuditFailed: a rule is broken; the message says which.
    """
    try:
        content = json.loads(path.read_bytes())
        signature = bytes.fromhex(content["signature"])
        found = set(content)
    except (ValueError, KeyError, TypeError) as error:
        raise AuditFailed("expected a receipt as JSON with a signature") from error
    if found != FIELDS:
        raise AuditFailed(f"expected the fields of a receipt, got {sorted(found ^ FIELDS)[0]!r}")
    signed = {name: value for name, value in content.items() if name != "signature"}
    try:
        parse_key(key, "the log's key").verify(signature, _DOMAIN + canonical(signed).encode())
    except (InvalidSignature, ValueError) as error:
        raise AuditFailed("the signature is not that of the log's key over this text") from error
    if log is not None:
        audit_log(log, key, (content["log_sequence"], content["log_hash"]))
        _verify_said(log, content["reason"], content["pseudonym"], content["log_sequence"])
    return ReceiptVerdict(
        organisation=content["organisation"],
        pseudonym=content["pseudonym"],
        time=content["time"],
        what=content["reason"],
        in_log=log is not None,
    )


def _verify_said(log: Path, kind: str, pseudonym: str, newest: int) -> None:
    query = "SELECT body FROM entries WHERE kind = ? AND sequence <= ?"
    with closing(sqlite3.connect(f"{log.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        bodies = [json.loads(body) for (body,) in connection.execute(query, (kind, newest))]
    if not any(body["subject"] == pseudonym for body in bodies):
        raise AuditFailed(f"the log does not say that {pseudonym} was {kind}")
