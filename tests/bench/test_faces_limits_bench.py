"""Where photographs become too poor, on people of CelebA whom no other figure speaks of.

VEILFACE_MODEL as in test_faces_bench.py. A spoilt photograph is compared with good ones, at the
threshold where good ones have their equal error rate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from veilface_client.alignment import PIXELS, TEMPLATE, cut, scale_of, similarity
from veilface_client.detectors.detection import Detection, Points
from veilface_client.embedding import Embedder
from veilface_client.faces import open_detector
from veilface_client.images import Pixels, read_photograph
from veilface_client.quality import Quality, measure
from veilface_common.metrics import equal_error_rate, pair_scores

pytestmark = pytest.mark.bench

MODEL = os.environ.get("VEILFACE_MODEL")
PHOTOGRAPHS = 6  # of a person


@dataclass(frozen=True, kw_only=True)
class Photo:
    person: int
    pixels: Pixels
    face: Detection

    @property
    def side(self) -> float:
        return PIXELS / scale_of(similarity(self.face.landmarks, TEMPLATE[:2]))


Spoilt = tuple[Pixels, Points]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    if MODEL is None:
        pytest.skip("VEILFACE_MODEL names no model: see test_faces_bench.py")
    return Embedder(Path(MODEL))


@pytest.fixture(scope="module")
def photos(real_faces: Path) -> list[Photo]:
    haar = open_detector("haar")
    found = []
    for number, folder in enumerate(sorted((real_faces / "celeba").iterdir())[::2]):
        for path in sorted(folder.iterdir())[:PHOTOGRAPHS]:
            pixels = read_photograph(path)
            if len(faces := haar.detect(pixels)) == 1:
                found.append(Photo(person=number, pixels=pixels, face=faces[0]))
    return found


def shrunk(side: int, photo: Photo) -> Spoilt:
    height, width, _ = photo.pixels.shape
    size = [max(1, round(length * side / photo.side)) for length in (width, height)]
    small = cv2.resize(photo.pixels, size, interpolation=cv2.INTER_AREA)
    return small, photo.face.landmarks * np.array(size) / (width, height)


def blurred(share: float, photo: Photo) -> Spoilt:
    return cv2.GaussianBlur(photo.pixels, (0, 0), share * photo.side), photo.face.landmarks


def lit(factor: float, photo: Photo) -> Spoilt:
    """Less light: linear values times `factor`, with the noise of a sensor."""
    noise = np.random.default_rng(0).normal(0, 0.004, photo.pixels.shape)
    linear = (photo.pixels / 255) ** 2.2 * factor + noise
    return (np.clip(linear, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8), photo.face.landmarks


def overexposed(factor: float, photo: Photo) -> Spoilt:
    return np.clip(photo.pixels * factor, 0, 255).astype(np.uint8), photo.face.landmarks


WAYS: list[tuple[str, Callable[[Photo], Spoilt]]] = [
    *((f"side {side} px", partial(shrunk, side)) for side in (64, 40, 32, 24, 16)),
    *((f"blur {share}", partial(blurred, share)) for share in (0.01, 0.02, 0.03, 0.05)),
    *((f"light x {factor}", partial(lit, factor)) for factor in (0.3, 0.13, 0.05, 0.015)),
    *((f"overexposed x {factor}", partial(overexposed, factor)) for factor in (1.3, 1.6, 2.0, 2.5)),
]


def templates(
    embedder: Embedder, photos: list[Photo], onto: Points = TEMPLATE
) -> NDArray[np.float32]:
    crops = (cut(p.pixels, similarity(p.face.landmarks, onto[:2])) for p in photos)
    return np.stack([embedder.embed(crop) for crop in crops])


def test_limits(embedder: Embedder, photos: list[Photo]) -> None:
    """Misses of genuine pairs whose probe was spoilt, with the median of what the gate measures."""
    people = np.array([photo.person for photo in photos])
    good = templates(embedder, photos)
    scores = pair_scores(good, people, np.random.default_rng(1))
    rate, threshold = equal_error_rate(scores.genuine, scores.impostor)
    genuine = (people[:, None] == people) & ~np.eye(len(people), dtype=bool)
    print(f"\n{len(photos)} photographs, {len(set(people))} people; as they are: misses {rate:.3f}")
    worst = rate
    for name, spoil in WAYS:
        probes, sharpness, brightness, clipped = [], [], [], []
        for crop, quality in measured(photos, spoil):
            probes.append(embedder.embed(crop))
            sharpness.append(quality.sharpness)
            brightness.append(quality.brightness)
            clipped.append(quality.clipped)
        misses = float(((np.stack(probes) @ good.T)[genuine] < threshold).mean())
        worst = max(worst, misses)
        print(
            f"{name}: misses {misses:.3f}, sharpness {np.median(sharpness):.0f}, "
            f"brightness {np.median(brightness):.0f}, clipped {np.median(clipped):.2f}"
        )
    assert worst > rate


def measured(
    photos: list[Photo], spoil: Callable[[Photo], Spoilt]
) -> Iterator[tuple[Pixels, Quality]]:
    for photo in photos:
        picture, landmarks = spoil(photo)
        transform = similarity(landmarks, TEMPLATE[:2])
        crop = cut(picture, transform)
        yield crop, measure(crop, transform, photo.face)


@pytest.mark.parametrize(
    ("scale", "down"), [(1.0, 0.0), (1.07, -6.4), (1.03, -3.0), (1.0, -6.4), (0.9, -3.0)]
)
def test_framing(embedder: Embedder, photos: list[Photo], scale: float, down: float) -> None:
    """The template as it is, and where LFW's crops have their eyes: larger by 1.07, 6.4 px up."""
    onto = (TEMPLATE - PIXELS / 2) * scale + PIXELS / 2 + (0, down)
    people = np.array([photo.person for photo in photos])
    scores = pair_scores(templates(embedder, photos, onto), people, np.random.default_rng(1))
    rate, _ = equal_error_rate(scores.genuine, scores.impostor)
    print(f"\ntemplate x {scale}, {down:+.1f} px: EER {rate:.4f}", end="")
    assert rate < 0.5
