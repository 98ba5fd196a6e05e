"""What an organisation keeps on paper: receipts, the budget of its federation, the text of consent.

DIR/consent/en.txt            the organisation's own text, in place of ours; zh.txt likewise
DIR/consent/VERSION.txt       every text that people were shown, for as long as the folder lives

The version of a text is its language and the first 12 hex digits of its SHA-256: a record then
names the very words that a person agreed to, and nobody can change them afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from veilface_client.account import LEDGER, PUBLIC_KEY
from veilface_client.home import RECEIPTS, VAULT
from veilface_client.home_layout import training_folder
from veilface_client.prometheus import service_text
from veilface_client.recognition.desk import Desk
from veilface_client.roles import Act, Actor
from veilface_common.budget.report import read_report, to_json
from veilface_common.crypto.signing import load_verify_key
from veilface_common.errors import ConfigError, DataError
from veilface_common.files import write_atomically
from veilface_common.page import package_text

CONSENT = "consent"
LANGUAGES = ("en", "zh")
_MAX_TEXT = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class ConsentText:
    """What a person agrees to, in one language."""

    version: str
    text: str


def receipts(desk: Desk, actor: Actor) -> list[dict[str, object]]:
    """Return the receipts of people who were forgotten, the newest first; no name is in them.

    Raises:
        AccessDenied: they may neither forget people nor read the log.
        DataError: a receipt is damaged.
    """
    act: Act = "forget" if actor.may("forget") else "log"
    desk.verify_may(actor, act)
    found = []
    for path in (desk.folder / RECEIPTS).glob("*.json"):
        try:
            found.append(dict(json.loads(path.read_bytes())))
        except ValueError:
            raise DataError(f"expected a receipt in {path.name}, got a damaged file") from None
    return sorted(found, key=lambda receipt: str(receipt.get("time")), reverse=True)


def budget(desk: Desk, actor: Actor) -> dict[str, object] | None:
    """Return what the federation's ledger adds up to, or None where nothing is trained.

    Raises:
        AccessDenied: they may not.
        LedgerError: it is damaged or altered.
        KeyFileError: its public key is missing or damaged.
    """
    desk.verify_may(actor, "budget")
    ledger = training_folder(desk.folder) / LEDGER
    if not ledger.is_file():
        return None
    key = load_verify_key(ledger.with_name(PUBLIC_KEY))
    return to_json(read_report(ledger, key, desk.clock().isoformat(timespec="seconds")))


def log_counts(desk: Desk, actor: Actor) -> Mapping[str, Mapping[str, int]]:
    """Return {kind of entry: {outcome: how many}}, '' for a kind without. Raises AccessDenied."""
    desk.verify_may(actor, "log")
    return desk.log.counts()


def metrics(desk: Desk, actor: Actor) -> bytes:
    """Return the service's figures in Prometheus' text format; see `prometheus` for what they hide.

    Raises:
        AccessDenied: they may not.
        LedgerError, KeyFileError: the federation's ledger cannot be read.
    """
    desk.verify_may(actor, "metrics")
    size = (desk.folder / VAULT).stat().st_size
    return service_text(training_folder(desk.folder), desk.log.counts(), size)


def consent_texts(desk: Desk) -> Mapping[str, ConsentText]:
    """Return {language: the text that people are shown}.

    Raises:
        ConfigError: the organisation's own text is empty, too long, or not UTF-8.
    """
    found = {}
    for language in LANGUAGES:
        own = desk.folder / CONSENT / f"{language}.txt"
        given = _read(own.read_bytes()) if own.is_file() else _default(language)
        text = given.replace("{organisation}", desk.settings.name)
        text = text.replace("{days}", str(desk.settings.retention_days))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        found[language] = ConsentText(version=f"{language}-{digest}", text=text)
    return found


def keep_consent_texts(desk: Desk) -> Mapping[str, ConsentText]:
    """Return {language: the text that people are shown}, once a copy of each is kept.

    Raises:
        ConfigError: as `consent_texts` does.
    """
    folder = desk.folder / CONSENT
    folder.mkdir(mode=0o700, exist_ok=True)
    texts = consent_texts(desk)
    for shown in texts.values():
        path = folder / f"{shown.version}.txt"
        if not path.exists():
            write_atomically(path, shown.text.encode())
    return texts


def _default(language: str) -> str:
    return package_text("veilface_client", f"web/consent/{language}.txt").strip()


def _read(content: bytes) -> str:
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(content) > _MAX_TEXT:
        raise ConfigError(f"expected a text of consent of 1 to {_MAX_TEXT} bytes of UTF-8")
    return text
