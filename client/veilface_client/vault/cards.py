"""The key of a person's templates: the organisation's alone, or with a secret on a card.

Of a holder, who carries a secret [32] on a card, templates and crops are sealed under

    HKDF(secret, info = "holder" || key in the slot)

so that the organisation alone cannot open them. The record is not, since consent and retention
must be kept without the card. The slot's key outlives every new key-encryption key, so the card
does too; once the slot is erased, the card opens nothing.
"""

from __future__ import annotations

import base64
from hashlib import sha256

from veilface_client.vault.records import Record
from veilface_common.crypto import envelope
from veilface_common.errors import WrongKey

_CHECK_BYTES = 3


def template_key(record: Record, key: bytes, card: str | None) -> bytes:
    """Return the key [32] of a person's templates, from the slot's key and, of a holder, the card.

    Raises:
        WrongKey: the person's card is needed, and none was given, or another's, or mistyped.
    """
    if record.mode == "organisation":
        return key
    if card is None:
        raise WrongKey(
            "expected the secret on this person's card, got none",
            hint="this person's templates open only with the card or QR code",
        )
    found = holder_key(key, parse_card(card))
    if envelope.key_id(found).hex() != record.card_id:
        raise WrongKey("expected this person's card, got another")
    return found


def holder_key(key: bytes, secret: bytes) -> bytes:
    """Return the key [32] of a holder's templates, from the slot's key and the card's secret."""
    return envelope.derive(secret, "holder", key)


def pseudonym(key: bytes) -> str:
    """Return the person's name in logs, 32 hex digits: without the key it names nobody."""
    return envelope.derive(key, "pseudonym")[:16].hex()


def card_text(secret: bytes) -> str:
    """Return a secret [32] for a card or QR code: 14 groups of 4 letters and digits, checked."""
    text = base64.b32encode(secret + sha256(secret).digest()[:_CHECK_BYTES]).decode()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def parse_card(text: str) -> bytes:
    """Return the secret [32] on a card. Raises WrongKey when it is mistyped."""
    try:
        content = base64.b32decode("".join(text.split()).replace("-", ""), casefold=True)
    except ValueError:
        content = b""
    secret, check = content[: envelope.KEY_BYTES], content[envelope.KEY_BYTES :]
    if len(content) != envelope.KEY_BYTES + _CHECK_BYTES or not _checks(secret, check):
        raise WrongKey("expected 14 groups of 4 characters from a card, got mistyped ones")
    return secret


def _checks(secret: bytes, check: bytes) -> bool:
    return sha256(secret).digest()[:_CHECK_BYTES] == check
