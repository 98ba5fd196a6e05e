"""What the vault keeps of a person beside the face, and how it is sealed.

Canonical JSON, padded with spaces to a multiple of 256 bytes, under the person's key, which stands
in a slot of a key block (see `blocks`); bound to format, organisation and person.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from veilface_client.vault.store import FORMAT
from veilface_common.budget.entries import canonical
from veilface_common.crypto import envelope
from veilface_common.errors import ConfigError, VaultError
from veilface_common.typed_json import to_json

Mode = Literal["organisation", "holder"]

PADDED_BYTES = 256
MOST_BYTES = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of a person beside the face; dates as YYYY-MM-DD, times as ISO 8601."""

    name: str
    purpose: str
    legal_basis: str
    consent_version: str
    consent_time: str
    retention_date: str  # due for erasure from this day on
    created: str
    last_use: str | None = None
    mode: Mode = "organisation"
    card_id: str | None = None  # of a holder; the vault fills it in

    def __post_init__(self) -> None:
        """Raise ConfigError for a date or time that is none."""
        for day in (self.retention_date, self.last_use):
            _check_time(date.fromisoformat, day, "a date as YYYY-MM-DD")
        for moment in (self.consent_time, self.created):
            _check_time(datetime.fromisoformat, moment, "a time as ISO 8601")

    def is_due(self, today: date) -> bool:
        """Say whether the person must be erased by now."""
        return date.fromisoformat(self.retention_date) <= today


def _check_time(parse: Callable[[str], object], text: str | None, expected: str) -> None:
    try:
        if text is not None:
            parse(text)
    except ValueError:
        raise ConfigError(f"expected {expected}, got {str(text)[:40]!r}") from None


def seal_record(
    key: bytes, organisation: str, person: bytes, record: Record, nonce: bytes | None = None
) -> bytes:
    """Return a person's record, sealed; its size tells the length in steps of 256 bytes.

    Raises:
        ConfigError: it holds more than 16 KiB.
    """
    plain = canonical(to_json(record)).encode()
    if len(plain) > MOST_BYTES:
        raise ConfigError(f"expected a record of at most {MOST_BYTES} bytes, got more")
    padded = plain.ljust(-(-len(plain) // PADDED_BYTES) * PADDED_BYTES)
    return envelope.seal(key, padded, _place(organisation, person), nonce)


def unseal_record(key: bytes, organisation: str, person: bytes, sealed: bytes) -> Record:
    """Return a person's record. Raises VaultError when it is altered or another's."""
    plain = envelope.unseal(key, sealed, _place(organisation, person))
    try:
        return Record(**json.loads(plain))  # what is sealed under this key, we wrote
    except (TypeError, ValueError, ConfigError):
        raise VaultError(
            "expected a record that this release can read, got another",
            hint="open the vault with the newest release that wrote to it",
        ) from None


def _place(organisation: str, person: bytes) -> bytes:
    return envelope.associated("record", FORMAT, organisation, person)
