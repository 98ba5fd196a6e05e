"""People go: forgotten at their wish, erased when they are due, given what is kept of them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from veilface_client import home
from veilface_client.access_events import Kind
from veilface_client.recognition.desk import Desk
from veilface_client.roles import Actor
from veilface_client.vault import Template
from veilface_common import typed_json
from veilface_common.budget.entries import canonical
from veilface_common.crypto.signing import VerifyKey
from veilface_common.errors import ArtifactError, SignatureError
from veilface_common.files import write_atomically

SCHEMA = 1
_HOLDS = (
    "The key under which this person's record and templates were sealed is overwritten, their rows "
    "are removed, and all other people's keys are sealed under a new key. What is left in this "
    "vault's file cannot be opened."
)
_HOLDS_NOT = (
    "It does not prove that no copy exists elsewhere. Whoever holds a copy of the vault from "
    "before this moment and can unwrap its key as it was wrapped then ({how}) can still open it. "
    "Erase such copies."
)
_HOW = {
    "passphrase": "the passphrase",
    "key-file": "the key file",
    "pkcs11": "the token",
}


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What was done when a person was forgotten; no name is in it."""

    organisation: str
    pseudonym: str
    time: str
    reason: str  # "forgotten" or "expired"
    epoch_before: int
    epoch_after: int
    generation: int
    root: str
    log_sequence: int
    log_hash: str
    wal_emptied: bool
    holds: str = _HOLDS
    holds_not: str = _HOLDS_NOT
    signature: str = ""  # Ed25519 of the log's key over all of the above, hex


def forget(desk: Desk, actor: Actor, name: str) -> Receipt:
    """Erase a person and return the receipt, which is also kept in the organisation's folder.

    Raises:
        AccessDenied: they may not.
        DataError: nobody of that name is enrolled.
        VaultError, LogError: it could not be done or written down.
    """
    desk.verify_may(actor, "forget")
    return _erase(desk, actor, [desk.person(name)], "forgotten")[0]


def expire(desk: Desk, actor: Actor) -> list[Receipt]:
    """Erase everybody whose retention date has come, and return their receipts.

    Raises:
        AccessDenied: they may not.
        VaultError, LogError: it could not be done or written down.
    """
    desk.verify_may(actor, "expire")
    due = desk.vault.due(desk.clock().date())
    return _erase(desk, actor, due, "expired") if due else []


def export_person(
    desk: Desk, actor: Actor, name: str, card: str | None = None
) -> dict[str, object]:
    """Return all that is kept of a person (GDPR articles 15 and 20), as JSON takes it.

    Templates and crops of a holder are left out without the card, and that is said.

    Raises:
        AccessDenied: they may not.
        DataError: nobody of that name is enrolled.
        WrongKey: the card is another's.
    """
    desk.verify_may(actor, "export-person")
    found = _exported(desk, desk.person(name), card)
    subject = str(found["pseudonym"])
    desk.write("exported", actor, "done", subject=subject)
    return found


def export_all(desk: Desk, actor: Actor, second: Actor | None) -> list[dict[str, object]]:
    """Return all that is kept of everybody. It takes two people.

    Raises:
        AccessDenied: they may not, or a second person is missing.
    """
    desk.verify_may(actor, "export-all", second)
    found = [_exported(desk, person, None) for person in list(desk.names().values())]
    details = {"persons": len(found)}
    desk.write("exported", actor, "done", reason="everybody", second=second, details=details)
    return found


def verify_receipt(content: Mapping[str, object], key: VerifyKey) -> Receipt:
    """Return a receipt once the key of the organisation's log vouches for it.

    Raises:
        ArtifactError: it is no receipt.
        SignatureError: it was altered, or another key signed it.
    """
    receipt = typed_json.from_json(Receipt, content, "the receipt")
    try:
        signature = bytes.fromhex(receipt.signature)
    except ValueError:
        raise ArtifactError("expected a signature in hex in the receipt") from None
    if dict(content) != receipt_to_json(receipt):
        raise SignatureError("expected the fields of a receipt, got others")
    key.verify("receipt", _signed_part(receipt), signature)
    return receipt


def receipt_to_json(receipt: Receipt) -> dict[str, object]:
    """Return a receipt as it is handed out."""
    return {"schema": SCHEMA, **typed_json.to_json(receipt)}


def _erase(desk: Desk, actor: Actor, people: Sequence[str], kind: Kind) -> list[Receipt]:
    with desk.changes:
        done = desk.vault.erase(*people)
        desk.settle(actor, kind=kind)
        desk.left(people)
        head = desk.log.head
    receipts = []
    for pseudonym in done.pseudonyms:
        receipt = Receipt(
            organisation=desk.settings.name,
            pseudonym=pseudonym,
            time=desk.clock().isoformat(timespec="seconds"),
            reason=kind,
            epoch_before=done.epoch_before,
            epoch_after=done.epoch_after,
            generation=done.generation,
            root=done.root,
            log_sequence=head.sequence,
            log_hash=head.hash,
            wal_emptied=done.is_truncated,
            holds_not=_HOLDS_NOT.format(how=_HOW.get(desk.settings.key.kind, "its key")),
        )
        signed = _signed(desk, receipt)
        _keep(desk.folder / home.RECEIPTS / f"{pseudonym}.json", signed)
        receipts.append(signed)
    return receipts


def _signed(desk: Desk, receipt: Receipt) -> Receipt:
    signature = desk.signing_key.sign("receipt", _signed_part(receipt))
    fields = typed_json.to_json(receipt) | {"signature": signature.hex()}
    return typed_json.from_json(Receipt, fields, "the receipt")


def _signed_part(receipt: Receipt) -> bytes:
    content = receipt_to_json(receipt)
    del content["signature"]
    return canonical(content).encode()


def _keep(path: Path, receipt: Receipt) -> None:
    text = json.dumps(receipt_to_json(receipt), indent=2) + "\n"
    write_atomically(path, text.encode())


def _exported(desk: Desk, person: str, card: str | None) -> dict[str, object]:
    record = desk.vault.record(person)
    is_closed = record.mode == "holder" and card is None
    kept = [] if is_closed else desk.vault.templates(person, card)
    crops = [] if is_closed else desk.vault.templates(person, card, "crop")
    return {
        "schema": SCHEMA,
        "organisation": desk.settings.name,
        "pseudonym": desk.vault.pseudonym(person),
        "record": typed_json.to_json(record),
        "templates": [_described(template) for template in kept],
        "crops": [
            {"alignment": crop.form.alignment, "png": base64.b64encode(_png(crop)).decode()}
            for crop in crops
        ],
        "left_out": "templates and crops: they open only with the card" if is_closed else "",
    }


def _described(template: Template) -> dict[str, object]:
    """Say what a template is. Its numbers stay: they would let others pass for the person."""
    form = template.form
    return {"model": form.model, "alignment": form.alignment, "dimension": form.shape[0]}


def _png(crop: Template) -> bytes:
    content = io.BytesIO()
    Image.fromarray(crop.array).save(content, format="PNG")
    return content.getvalue()
