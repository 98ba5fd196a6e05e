"""Releases as a coordinator writes them, and an organisation that has pinned its key."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.client.recognition.desks import Clock, WordDesk, provider
from tests.common.robustness_parts import measured

from veilface_client.home import Settings, create_home
from veilface_client.home_layout import training_folder
from veilface_client.identity import trust_coordinator
from veilface_common import models, release, tensors
from veilface_common.artifact import MANIFEST, WEIGHTS
from veilface_common.budget.entries import Head
from veilface_common.config import ModelConfig
from veilface_common.crypto.signing import SigningKey
from veilface_common.models.weights import read_weights
from veilface_common.preprocessing import preprocessing_of
from veilface_common.release import Contribution, Evaluation, Release, Steps
from veilface_common.robustness_table import parse_measured

KEY, FOREIGN = SigningKey.from_seed(b"\5" * 32), SigningKey.from_seed(b"\6" * 32)
MODEL = ModelConfig(name="classic", dimension=16)


def weights_of(seed: int) -> bytes:
    return tensors.to_bytes(read_weights(models.build(MODEL, seed=seed)))


def write_release(
    folder: Path, sequence: int, key: SigningKey = KEY, seed: int = 0, *, robustness: bool = False
) -> Path:
    """Write a release of weights that follow from `seed`, else from its number."""
    weights = weights_of(seed or sequence)
    digest = hashlib.sha256(weights).hexdigest()
    table = json.dumps(measured(digest)).encode()
    one = Contribution(
        name="north <clinic>",
        rounds=2,
        figures=True,
        ledger=Head(sequence=7, hash="ab" * 32),
        charges=(Steps(sample_rate=0.1, noise_multiplier=1.5, steps=20),),
        epsilon=1.256,
    )
    other = Contribution(
        name="south", rounds=1, figures=False, ledger=None, charges=(), epsilon=None
    )
    found = Release(
        federation="valley",
        sequence=sequence,
        made="2026-03-01T12:00:00+00:00",
        network=MODEL,
        preprocessing=preprocessing_of(MODEL),
        sha256=digest,
        size=len(weights),
        rounds=2,
        settings="cd" * 32,
        parent=None,
        unit="identity",
        delta=1e-5,
        organisations=(one, other),
        evaluation=Evaluation(
            eer=0.123,
            low=0.1,
            high=0.15,
            tar_at_far_1e_2=None,
            tar_low=None,
            tar_high=None,
            organisations=2,
        ),
        licence="members only",
        software={"veilface": "0.1.0"},
        coordinator="",
        robustness=parse_measured(table, "robustness.json") if robustness else None,
    ).signed(key)
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / MANIFEST).write_bytes(release.to_bytes(found))
    return folder


def edit(folder: Path, **values: object) -> None:
    """Change keys of a manifest."""
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values))


def member(folder: Path, *, joined: bool = True, keep_crops: bool = False) -> WordDesk:
    """Return the open desk of an organisation without a model, in the federation."""
    if not folder.exists():
        settings = Settings(name="shop", model="", keep_crops=keep_crops)
        create_home(folder, settings, None, provider(), Clock())
        if joined:
            trust_coordinator(training_folder(folder), "valley", KEY.public)
    return WordDesk(folder, provider(), Clock())
