"""The organisation's account of what it released: ledger, signing key, and the replies it bought.

DIR/ledger.db     every charge, see `veilface_common.budget.ledger`
DIR/ledger.key    signs it (Ed25519, 0600)
DIR/ledger.pub    what an auditor verifies it with
DIR/ledger.secret 32 bytes (0600): keys the commitment to the faces and the rows of a fixed head
DIR/reply.bin     the newest reply: a round that is asked for again is not paid for again
DIR/evaluation.bin the newest figures: the same

An organisation with an account trains privately or not at all, and no figure leaves it unpaid.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from veilface_client.data import Faces
from veilface_client.noise import Origin
from veilface_client.organisation import SETTINGS, keeps_account
from veilface_client.private_plan import PrivacyPlan, plan_of
from veilface_common.budget.calibration import evaluation_event
from veilface_common.budget.ledger import Ledger, Registration, Reservation, create_ledger
from veilface_common.budget.policy import Policy
from veilface_common.crypto.signing import SigningKey, load_signing_key, save_signing_key
from veilface_common.errors import LedgerError
from veilface_common.files import write_atomically
from veilface_common.protocol import EvaluateRequest, TrainRequest
from veilface_common.score_histograms import BINS, MATCHINGS, SENSITIVITY

LEDGER = "ledger.db"
KEY = "ledger.key"
PUBLIC_KEY = "ledger.pub"
SECRET = "ledger.secret"  # noqa: S105 -- the name of a file
_SECRET_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Account:
    """An open ledger, and what the organisation keeps beside it."""

    ledger: Ledger
    secret: bytes

    def plan(self, request: TrainRequest) -> PrivacyPlan:
        """Return what the request comes to here.

        Raises:
            BudgetExceeded: it asks for training without privacy; the refusal is an entry.
        """
        private = request.config.privacy
        if private.unit == "none":
            self.ledger.refuse("training without privacy was asked for", _asked(request))
        plan = plan_of(private, self.ledger.registration)
        if not private.releases_figures:
            return plan
        trained = round(plan.units_declared * (1 - private.evaluation_share))
        return replace(plan, units_declared=max(1, trained))

    def reserve(self, request: TrainRequest, plan: PrivacyPlan, origin: Origin) -> Reservation:
        """Charge for a round and return when that is on disk.

        Training that a crash cut off goes on with what it was charged: see `Ledger.resume`.

        Raises:
            BudgetExceeded: the policy does not allow it; the refusal is an entry.
            LedgerError: the ledger cannot be written, or is not what it was.
        """
        resumed = self.ledger.resume(plan.event, request.digest)
        if resumed is not None:
            return resumed
        private = request.config.privacy
        context = _asked(request) | {
            "head": private.head if private.method == "gradient" else "none",
            "method": private.method,
            "images_per_unit": 1 if plan.unit == "image" else private.images_per_unit,
            "max_gradient_norm": plan.max_gradient_norm,
            "random": origin,
            "trained": private.trained if private.method == "gradient" else "projection",
            "units_declared": plan.units_declared,
        }
        return self.ledger.reserve(plan.event, context)

    def release(self, request: EvaluateRequest, origin: Origin) -> Reservation:
        """Charge for figures and return when that is on disk.

        Raises:
            BudgetExceeded: the policy does not allow it, or they are asked for without noise; the
                refusal is an entry.
            LedgerError: the ledger cannot be written, or is not what it was.
        """
        private = request.config.privacy
        if not private.releases_figures:
            self.ledger.refuse("figures without noise were asked for", _asked(request))
        event = evaluation_event(private)
        context = _asked(request) | {
            "bins": BINS,
            "held_out_share": private.evaluation_share,
            "matchings": MATCHINGS,
            "random": origin,
            "sensitivity": SENSITIVITY[event.unit],
            "what": "histograms of scores",
        }
        return self.ledger.release(event, context)


def create_account(
    folder: Path,
    organisation: str,
    faces: Faces,
    policy: Policy,
    *,
    people_declared: int,
    images_declared: int,
) -> None:
    """Start an organisation's account in `folder`; one that is there is left as it is.

    A crash leaves a whole account or none: the ledger, written last, makes it one.

    Args:
        folder: the organisation's.
        organisation: its name.
        faces: the data set that the ledger is for; a keyed digest of them is registered.
        policy: what may be spent on it.
        people_declared: how many people the organisation says it has: public, so not a count.
        images_declared: how many photographs it says it has.

    Raises:
        LedgerError: there is a key, or the settings speak of an account, and its ledger is gone: a
            new one would forget what was spent.
    """
    if (folder / LEDGER).exists():
        return
    if keeps_account(folder):
        raise _removed(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / KEY).exists():
        raise LedgerError(
            f"expected the ledger of {folder / KEY} beside it, got none",
            hint="put it back; remove the key only where nothing was ever trained",
        )
    key = SigningKey.from_seed(secrets.token_bytes(_SECRET_BYTES))
    save_signing_key(folder / KEY, key)
    secret = secrets.token_bytes(_SECRET_BYTES)
    write_atomically(folder / SECRET, secret)
    registration = Registration(
        organisation=organisation,
        commitment=_commitment(secret, faces),
        people_declared=people_declared,
        images_declared=images_declared,
    )
    create_ledger(folder / LEDGER, key, registration, policy)


def open_account(folder: Path, faces: Faces) -> Account | None:
    """Return the account in `folder`, or None for an organisation that keeps none.

    Raises:
        LedgerError: the ledger is damaged, altered, removed, or of other faces than these.
        KeyFileError: its key is missing or open to others.
    """
    if not any((folder / name).exists() for name in (LEDGER, KEY, SECRET)):
        if keeps_account(folder):
            raise _removed(folder)
        return None  # what is left of an account that was removed in part still refuses
    ledger = Ledger(folder / LEDGER, load_signing_key(folder / KEY))
    secret = _read_secret(folder / SECRET)
    if not hmac.compare_digest(ledger.registration.commitment, _commitment(secret, faces)):
        raise LedgerError(
            "expected the faces that the ledger was started for, got others",
            hint="a ledger is kept for each data set; put the faces back, or start another account",
        )
    return Account(ledger=ledger, secret=secret)


def open_ledger(folder: Path) -> Ledger | None:
    """Return the ledger in `folder`, or None where there is none; its faces are not compared.

    Raises:
        LedgerError: it is damaged or altered.
        KeyFileError: its key is missing or open to others.
    """
    if not (folder / LEDGER).exists():
        return None
    return Ledger(folder / LEDGER, load_signing_key(folder / KEY))


def _removed(folder: Path) -> LedgerError:
    return LedgerError(
        f"expected the account that {folder / SETTINGS} speaks of, got none of its files",
        hint="put them back; without them treat the budget as spent, see docs/ledger.md",
    )


def _asked(request: TrainRequest | EvaluateRequest) -> dict[str, object]:
    config = request.config
    return {
        "participants": len(request.participants),
        "request": request.digest,
        "round": request.round,
        "rounds": config.federation.rounds,
        "run": config.run or config.digest[:16],
    }


def _commitment(secret: bytes, faces: Faces) -> str:
    """Return a digest of which faces these are, that says nothing to who lacks the secret."""
    digest = hmac.new(secret, digestmod=hashlib.sha256)
    for name in (faces.path.name, *faces.person_names, *faces.photo_names):
        digest.update(len(name.encode()).to_bytes(8, "big") + name.encode())
    return digest.hexdigest()


def _read_secret(path: Path) -> bytes:
    try:
        secret = path.read_bytes()
    except OSError as error:
        raise LedgerError(f"expected the account's secret in {path}: {error.strerror}") from error
    if len(secret) != _SECRET_BYTES:
        raise LedgerError(f"expected {_SECRET_BYTES} bytes in {path}, got {len(secret)}")
    return secret
