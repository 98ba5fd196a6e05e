"""A privacy ledger verified from the file alone: chain, signatures, order, epsilon.

This is written apart from the program that keeps the ledger, after its documented format
(docs/ledger.md), so that a mistake there is not repeated here. The rules, in the order they run:

1. the file is SQLite with a table `entries`, and holds at least two entries
2. sequence numbers are 1, 2, 3, ... and each `previous` is the hash before it, zeros at first
3. each `hash` is SHA-256 of what the entry says, and its body is written canonically
4. each signature is that of the given key, or of one that an earlier entry handed over to
5. entry 1 registers the data set with the given key; a policy comes before the first charge
6. every reservation, and every release of figures, keeps to the policy in force; together they keep
   to its epsilon, recomputed here by dp-accounting from all of them, settled or not
7. every settlement is of an open reservation; a release takes everybody once and is never settled
8. every head that others hold is of this chain, and their records are signed by the key given
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

KINDS = ("registered", "policy", "reserve", "settle", "release", "refuse", "key-rotated", "note")
_COLUMNS = ("sequence", "time", "kind", "body", "previous", "hash", "signature")
_EVENT = {"mechanism", "unit", "sample_rate", "noise_multiplier", "steps"}
_ENTRY_DOMAIN = b"veilface ledger entry 1\0"
_ACCEPTED_DOMAIN = b"veilface\0ledger-accepted\0"
_RECORD_DOMAIN = b"veilface\0round-record\0"
_EVALUATION_DOMAIN = b"veilface\0evaluation-record\0"
_SIGNATURE_DOMAIN = b"veilface\0ledger-entry\0"
TOLERANCE = 0.02  # of epsilon, between accountants that agree


class AuditFailed(Exception):  # noqa: N818 -- named for what happened
    """The first entry that fails, and why."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What an auditor can say of a ledger that passed."""

    entries: int
    head: str  # hash of the newest entry, hex
    organisation: str
    unit: str
    delta: float
    limit: float  # the policy's epsilon
    epsilon: float  # the larger of the two below
    epsilon_pld: float
    epsilon_rdp: float
    steps: int  # of training
    released: int  # figures: so many releases
    unsettled: int
    refused: int
    loosened: int  # times that the policy was loosened
    unsafe_random: int  # charges whose noise could be predicted


@dataclass
class _Book:
    """What was read so far."""

    key: Ed25519PublicKey
    organisation: str = ""
    policy: dict[str, Any] = field(default_factory=dict)
    steps: dict[tuple[float, float], int] = field(default_factory=dict)
    charged_under_policy: bool = False  # anything since the policy in force
    open: set[int] = field(default_factory=set)
    released: int = 0
    refused: int = 0
    loosened: int = 0
    unsafe_random: int = 0


def audit(
    ledger: Path, public_key: bytes, round_records: str = "", server_key: bytes | None = None
) -> Verdict:
    """Return the verdict on the ledger in a file.

    Args:
        ledger: the SQLite file; it is not written to.
        public_key: the organisation's first key, PEM, from elsewhere than the ledger.
        round_records: the coordinator's, of rounds and of the evaluation, a JSON object a line,
            whose `ledger_heads` holds of each organisation the head that came with its reply.
        server_key: the coordinator's, PEM; without it the records' signatures are not verified.

    Raises:
        AuditFailed: it does not pass.
    """
    key = parse_key(public_key, "the key given")
    rows = _rows(ledger)
    if len(rows) < 2:
        raise AuditFailed("the file holds no entries")
    book, previous = _Book(key=key), bytes(32)
    for number, row in enumerate(rows, start=1):
        try:
            previous = _verify_entry(number, row, previous, book, public_key)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AuditFailed(f"entry {number}: cannot be read ({error})") from error
    if server_key is not None:
        _verify_signed(round_records, parse_key(server_key, "the coordinator's key"))
    _verify_heads(rows, book.organisation, round_records)
    return _verdict(rows, book)


def epsilons(steps: Mapping[tuple[float, float], int], delta: float) -> tuple[float, float]:
    """Return (PLD, RDP) epsilon of {(sample rate, noise multiplier): steps} at delta."""
    if not steps:
        return 0.0, 0.0
    # It says at every call which orders it leaves out, which only makes its bound looser.
    logging.getLogger("absl").setLevel(logging.ERROR)
    pld, rdp = PLDAccountant(value_discretization_interval=1e-3), RdpAccountant()
    for (rate, noise), count in sorted(steps.items()):
        step: dp_event.DpEvent = dp_event.GaussianDpEvent(noise)
        if rate < 1:
            step = dp_event.PoissonSampledDpEvent(rate, step)
        event = dp_event.SelfComposedDpEvent(step, count)
        pld.compose(event)
        rdp.compose(event)
    return float(pld.get_epsilon(delta)), float(rdp.get_epsilon(delta))


def _rows(ledger: Path) -> list[dict[str, Any]]:
    try:
        connection = sqlite3.connect(f"{ledger.resolve().as_uri()}?mode=ro", uri=True)
        try:
            found = connection.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM entries ORDER BY sequence"  # noqa: S608 -- constants
            ).fetchall()
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise AuditFailed(f"the file cannot be read as a ledger: {error}") from error
    return [dict(zip(_COLUMNS, row, strict=True)) for row in found]


def _verify_entry(
    number: int, row: Mapping[str, Any], previous: bytes, book: _Book, public_key: bytes
) -> bytes:
    if row["sequence"] != number:
        raise AuditFailed(f"entry {number}: missing, the next one is {row['sequence']}")
    if row["previous"] != previous:
        raise AuditFailed(f"entry {number}: does not follow from the entry before it")
    body = json.loads(row["body"])
    if canonical(body) != row["body"] or _hash(row) != row["hash"]:
        raise AuditFailed(f"entry {number}: altered after it was written")
    try:
        book.key.verify(row["signature"], _SIGNATURE_DOMAIN + row["hash"])
    except InvalidSignature:
        raise AuditFailed(f"entry {number}: not signed by the organisation's key") from None
    if row["kind"] not in KINDS:
        raise AuditFailed(f"entry {number}: of unknown kind {row['kind']!r}")
    if (row["kind"] == "registered") != (number == 1):
        raise AuditFailed(f"entry {number}: the data set must be registered first, and once")
    if row["kind"] == "key-rotated":
        book.key = _accepted_key(number, body, previous)
    _apply(number, row["kind"], body, book, public_key)
    return bytes(row["hash"])


def _accepted_key(number: int, body: Mapping[str, Any], previous: bytes) -> Ed25519PublicKey:
    """Return the next key, which must have signed the hash of the entry before."""
    key = parse_key(body["public_key"].encode(), f"entry {number}")
    try:
        key.verify(bytes.fromhex(body["accepted"]), _ACCEPTED_DOMAIN + previous)
    except InvalidSignature:
        raise AuditFailed(f"entry {number}: the next key did not accept the ledger") from None
    return key


def _apply(number: int, kind: str, body: Mapping[str, Any], book: _Book, public_key: bytes) -> None:
    match kind:
        case "registered":
            if parse_key(body["public_key"].encode(), "entry 1") != parse_key(
                public_key, "the key given"
            ):
                raise AuditFailed("entry 1: names another key than the one given")
            book.organisation = str(body["organisation"])
        case "policy":
            _take_policy(number, body, book)
        case "reserve":
            _reserve(number, body, book)
        case "release":
            _release(number, body, book)
        case "settle":
            if body["reservation"] not in book.open:
                raise AuditFailed(f"entry {number}: settles what is not open")
            book.open.remove(body["reservation"])
        case "refuse":
            book.refused += 1


def _take_policy(number: int, body: Mapping[str, Any], book: _Book) -> None:
    policy, old = dict(body["policy"]), book.policy
    if old and policy["unit"] != old["unit"]:
        raise AuditFailed(f"entry {number}: changes the unit of the ledger")
    loosened = bool(old) and (
        any(policy[name] > old[name] for name in ("epsilon", "delta", "max_sample_rate"))
        or policy["max_steps_per_round"] > old["max_steps_per_round"]
        or policy["min_noise_multiplier"] < old["min_noise_multiplier"]
    )
    if loosened != body["loosened"]:
        raise AuditFailed(f"entry {number}: does not say that the policy was loosened")
    _verify_limit(f"entry {number}: before it, ", book)  # of the policy that ends here
    book.loosened += loosened
    book.policy = policy


def _reserve(number: int, body: Mapping[str, Any], book: _Book) -> None:
    rate, noise, steps = _charged(number, body, book)
    policy = book.policy
    if not (0 < rate <= policy["max_sample_rate"] and noise >= policy["min_noise_multiplier"]):
        raise AuditFailed(f"entry {number}: samples more, or adds less noise, than the policy says")
    if type(steps) is not int or not 1 <= steps <= policy["max_steps_per_round"]:
        raise AuditFailed(f"entry {number}: {steps!r} steps where the policy allows fewer")
    _add(rate, noise, steps, body, book)
    book.open.add(number)


def _release(number: int, body: Mapping[str, Any], book: _Book) -> None:
    """Charge for figures; what the policy says of steps of training does not speak of them."""
    rate, noise, steps = _charged(number, body, book)
    if (rate, steps) != (1, 1) or type(steps) is not int:
        raise AuditFailed(f"entry {number}: releases figures as another event than one full step")
    if not noise >= book.policy["min_noise_multiplier"]:
        raise AuditFailed(f"entry {number}: releases figures with less noise than the policy says")
    _add(rate, noise, steps, body, book)
    book.released += 1


def _charged(number: int, body: Mapping[str, Any], book: _Book) -> tuple[Any, Any, Any]:
    """Return sample rate, noise multiplier and steps of a charge for the policy's unit."""
    event, policy = body["event"], book.policy
    if set(event) != _EVENT or event["mechanism"] != "poisson-subsampled-gaussian":
        raise AuditFailed(f"entry {number}: reserves for an unknown mechanism")
    if not policy or event["unit"] != policy["unit"]:
        raise AuditFailed(f"entry {number}: reserves for another unit than the policy's")
    return event["sample_rate"], event["noise_multiplier"], event["steps"]


def _add(rate: float, noise: float, steps: int, body: Mapping[str, Any], book: _Book) -> None:
    book.steps[float(rate), float(noise)] = book.steps.get((float(rate), float(noise)), 0) + steps
    book.charged_under_policy = True
    book.unsafe_random += body["context"].get("random") != "operating-system"


def _verify_signed(round_records: str, key: Ed25519PublicKey) -> None:
    for number, line in enumerate(round_records.splitlines(), start=1):
        try:
            record = json.loads(line)
            signature = bytes.fromhex(record.pop("signature"))
            domain = _EVALUATION_DOMAIN if "scores" in record else _RECORD_DOMAIN
            key.verify(signature, domain + canonical(record).encode())
        except (InvalidSignature, ValueError, KeyError, TypeError, AttributeError):
            raise AuditFailed(
                f"line {number} of the round records is not signed by the coordinator's key"
            ) from None


def _verify_heads(rows: list[dict[str, Any]], organisation: str, round_records: str) -> None:
    for line in round_records.splitlines():
        try:
            record = json.loads(line)
            head = record["ledger_heads"].get(organisation)
            sequence, digest = (head["sequence"], head["hash"]) if head else (0, "")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AuditFailed("the coordinator's round records cannot be read") from error
        if head and not (1 <= sequence <= len(rows) and rows[sequence - 1]["hash"].hex() == digest):
            raise AuditFailed(
                f"entry {sequence}: the coordinator's round {record.get('round')} holds another, "
                "or the ledger was rolled back"
            )


def _verify_limit(where: str, book: _Book) -> tuple[float, float]:
    """Return both epsilons; what was reserved under the policy in force must fit it."""
    if not book.charged_under_policy:
        return epsilons(book.steps, book.policy["delta"]) if book.policy else (0.0, 0.0)
    pld, rdp = epsilons(book.steps, book.policy["delta"])
    if max(pld, rdp) > book.policy["epsilon"] * (1 + TOLERANCE):
        raise AuditFailed(
            f"{where}epsilon {max(pld, rdp):.4g} was reserved in all, "
            f"the policy allows {book.policy['epsilon']:g}"
        )
    book.charged_under_policy = False
    return pld, rdp


def _verdict(rows: list[dict[str, Any]], book: _Book) -> Verdict:
    policy = book.policy
    if not policy:
        raise AuditFailed("no entry records a policy")
    pld, rdp = _verify_limit("", book)
    return Verdict(
        entries=len(rows),
        head=rows[-1]["hash"].hex(),
        organisation=book.organisation,
        unit=policy["unit"],
        delta=policy["delta"],
        limit=policy["epsilon"],
        epsilon=max(pld, rdp),
        epsilon_pld=pld,
        epsilon_rdp=rdp,
        steps=sum(book.steps.values()) - book.released,
        released=book.released,
        unsettled=len(book.open),
        refused=book.refused,
        loosened=book.loosened,
        unsafe_random=book.unsafe_random,
    )


def canonical(value: object) -> str:
    """Return the one way in which an entry's JSON is written."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _hash(row: Mapping[str, Any]) -> bytes:
    said = {name: row[name] for name in ("body", "kind", "sequence", "time")}
    text = canonical({**said, "previous": row["previous"].hex()})
    return hashlib.sha256(_ENTRY_DOMAIN + text.encode()).digest()


def parse_key(pem: bytes, where: str) -> Ed25519PublicKey:
    """Return the key in PEM. Raises AuditFailed when it is not one."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError) as error:
        raise AuditFailed(f"{where}: expected an Ed25519 public key as PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise AuditFailed(f"{where}: expected an Ed25519 key, got another kind")
    return key
