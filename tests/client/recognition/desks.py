"""A desk whose photographs are words: who is shown, in which take, and what is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veilface_client.faces import Aligned
from veilface_client.home import Settings, create_home
from veilface_client.key_providers.passphrase import CHEAPEST, PassphraseProvider
from veilface_client.quality import FaceRefused, Quality
from veilface_client.recognition import enrolment
from veilface_client.recognition.desk import Desk
from veilface_client.roles import TERMINAL, Actor
from veilface_common import models, typed_json
from veilface_common.artifact import save_model
from veilface_common.config import ModelConfig
from veilface_common.models.weights import read_weights
from veilface_common.thresholds import Impostors

IMPOSTORS = Impostors(
    people=900, pairs=404_550, rates=(0.1, 0.01, 1e-3, 1e-4), cosines=(0.2, 0.4, 0.5, 0.6)
)
PASSPHRASE = "correct horse battery staple"  # noqa: S105 -- of nothing

CONSENT = enrolment.Consent(version="2026-01")
OPERATOR = Actor(name="door-3", role="operator")
OFFICER = Actor(name="officer", role="privacy-officer")
ADMIN = Actor(name="admin", role="administrator")


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_days(self, days: float) -> None:
        self.now += timedelta(days=days)


def vector_of(word: str, dimension: int) -> NDArray[np.float32]:
    """Return the template of `NAME` or `NAME/TAKE`: takes of one name are alike (0.9)."""
    name = word.split("/", maxsplit=1)[0]
    found = _direction(name, dimension) + 0.3 * _direction(word, dimension)
    return (found / np.linalg.norm(found)).astype(np.float32)


def _direction(word: str, dimension: int) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    drawn = np.random.default_rng(seed).normal(size=dimension)
    return drawn / np.linalg.norm(drawn)  # type: ignore[no-any-return]


class WordDesk(Desk):
    """Photographs are `NAME/TAKE`, or `!CODE` for one that is refused."""

    def look(self, photo: bytes) -> Aligned:
        word = photo.decode()
        if word.startswith("!"):
            raise FaceRefused("no-face", "expected a face, got none")
        pixels = np.zeros((112, 112, 3), np.uint8)
        raw = word.encode()
        pixels.reshape(-1)[: len(raw)] = np.frombuffer(raw, np.uint8)
        return Aligned(pixels=pixels, path="haar/eyes", quality=QUALITY)

    def template(self, face: Aligned) -> NDArray[np.float32]:
        word = bytes(face.pixels.reshape(-1)).rstrip(b"\0").decode()
        return vector_of(word, self.embedder.dimension)


QUALITY: Quality = object.__new__(Quality)  # nothing here looks at it


def provider() -> PassphraseProvider:
    return PassphraseProvider(PASSPHRASE, CHEAPEST)


def model_folder(folder: Path, seed: int = 0, impostors: Impostors | None = IMPOSTORS) -> Path:
    """Write a model of random weights, and what its maker says of strangers."""
    config = ModelConfig()
    weights = read_weights(models.build(config, seed=seed))
    told = {"impostors": impostors and typed_json.to_json(impostors)}
    save_model(folder, config, weights, told)
    return folder


def open_desk(
    folder: Path,
    clock: Clock | None = None,
    change: Callable[[Settings], Settings] = lambda settings: settings,
) -> WordDesk:
    """Return the desk in `folder`, made if it is missing."""
    clock = clock or Clock()
    if not folder.exists():
        model = model_folder(folder.with_name(f"{folder.name}-model"))
        create_home(folder, change(Settings(name="shop", model="")), model, provider(), clock)
    return WordDesk(folder, provider(), clock)


def enrol(desk: Desk, *names: str, **settings: object) -> list[enrolment.Enrolment]:
    return [
        enrolment.enrol(
            desk,
            TERMINAL,
            name,
            [f"{name}/1".encode(), f"{name}/2".encode()],
            CONSENT,
            **settings,  # type: ignore[arg-type]
        )
        for name in names
    ]


def kinds(desk: Desk) -> list[str]:
    return [entry.kind for entry in desk.log.entries()]
