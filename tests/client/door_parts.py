"""What tests of the door share: an organisation's whole folder, and coordinators that ask it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from tests.client.private_parts import some_faces
from tests.client.test_account import CONFIG

from veilface_audit.verify import audit
from veilface_client.account import KEY, LEDGER, PUBLIC_KEY, create_account
from veilface_client.cache import FORMAT, Index, PixelWriter, write_entry
from veilface_client.data import Faces, open_faces
from veilface_client.door import Door
from veilface_client.identity import load_identity, make_identity, trust_coordinator
from veilface_client.organisation import Organisation, save_organisation
from veilface_client.rules import POLICY
from veilface_common import models, protocol, tensors
from veilface_common.budget.ledger import Ledger
from veilface_common.budget.policy import Policy
from veilface_common.budget.store import read_entries
from veilface_common.config import RunConfig
from veilface_common.crypto.signing import SigningKey, load_signing_key
from veilface_common.models.weights import read_weights
from veilface_common.protocol import EvaluateRequest, Reply, Request, TrainRequest
from veilface_common.wire import Envelope

COORDINATOR = SigningKey.from_seed(b"c" * 32)
OTHER = SigningKey.from_seed(b"d" * 32)  # another coordinator that is known
STRANGER = SigningKey.from_seed(b"s" * 32)
NAMES = ("org", "org-2", "org-3")
NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
BUDGET = Policy(epsilon=30.0, min_noise_multiplier=1.0)
NEW = ["registered", "policy"]


class Clock:
    """The time at the organisation, for a test to move."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def cached(folder: Path, faces: Faces) -> Path:
    """Write faces as a cache holds them, and return their path."""
    folder.mkdir(parents=True, exist_ok=True)
    with PixelWriter(folder, "faces") as writer:
        for image in faces.images:
            writer.append(np.asarray(image))
        name = writer.commit()
    index = Index(
        format=FORMAT,
        pixels_file=name,
        side=faces.images.shape[-1],
        people=tuple(int(person) for person in faces.people),
        person_names=faces.person_names,
        photo_names=faces.photo_names,
        warnings=(),
    )
    write_entry(folder / "faces.json", index)
    return folder / "faces.json"


def organisation(
    folder: Path,
    *,
    rules: str = "",
    policy: Policy = BUDGET,
    faces: Faces | None = None,
    seeded: bool = False,
    now: Clock | None = None,
) -> Door:
    """Return the door of a new organisation: an account, two coordinators, rules in a file."""
    faces = faces or some_faces(4)
    path, people = cached(folder / "cache", faces), len(faces.person_names)
    create_account(
        folder, "org", open_faces(path), policy, people_declared=people, images_declared=8
    )
    make_identity(folder)
    trust_coordinator(folder, "one", COORDINATOR.public)
    trust_coordinator(folder, "two", OTHER.public)
    if rules:
        (folder / POLICY).write_text(f"[requests]\n{rules}\n")
    who = Organisation(
        name="org", faces=path, people=tuple(range(people)), keeps_account=True, seeded=seeded
    )
    save_organisation(folder, who)
    return Door(folder, now or Clock())


def model(config: RunConfig = CONFIG, seed: int = 3) -> bytes:
    return tensors.to_bytes(read_weights(models.build(config.model, seed=seed)))


def to_train(
    number: int = 1, config: RunConfig = CONFIG, weights: bytes | None = None
) -> TrainRequest:
    weights = model(config) if weights is None else weights
    return TrainRequest(round=number, config=config, model=weights, participants=NAMES)


def to_evaluate(config: RunConfig, weights: bytes | None = None) -> EvaluateRequest:
    weights = model(config) if weights is None else weights
    return EvaluateRequest(round=3, config=config, model=weights, participants=NAMES)


def sealed(request: Request, key: SigningKey = COORDINATOR, to: str = "org") -> Envelope:
    return protocol.encode_request(request, to=to, key=key)


def ask(door: Door, request: Request, key: SigningKey = COORDINATOR) -> Reply:
    """Return the reply as the coordinator reads it, its signature verified."""
    answer = door.answer(sealed(request, key))
    return protocol.decode_reply(answer, request, load_identity(door._folder).public)


def ledger_of(folder: Path) -> Ledger:
    return Ledger(folder / LEDGER, load_signing_key(folder / KEY))


def kinds(folder: Path) -> list[str]:
    return [entry.kind for entry in read_entries(folder / LEDGER)]


def reasons(folder: Path) -> list[str]:
    """Return what the ledger says was refused, after an auditor found it in order."""
    audit(folder / LEDGER, (folder / PUBLIC_KEY).read_bytes())
    entries = read_entries(folder / LEDGER)
    return [str(entry.content["reason"]) for entry in entries if entry.kind == "refuse"]
