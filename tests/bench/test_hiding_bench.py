"""Who is still known after their head was hidden; the figures of docs/hiding.md.

    VEILFACE_MODEL=runs/celeba/model python -m pytest -m bench -s tests/bench/test_hiding_bench.py

VEILFACE_MODEL names a model that saw nobody of LFW. Each of the people is in the gallery with one
photograph and asked about with another. The attacker knows where the head is, and how it was hidden
but for the noise. LFW's photographs are turned and scaled alike, so one place serves for all.
"""

from __future__ import annotations

import csv
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from veilface_client.alignment import TEMPLATE, cut, similarity
from veilface_client.detectors.haar import LEFT_EYE, RIGHT_EYE, Haar
from veilface_client.detectors.recurrent import Recurrent
from veilface_client.embedding import Embedder
from veilface_client.hiding.covering import HOWS, Cover, How, coarse, cover_for
from veilface_client.hiding.finding import find_all
from veilface_client.hiding.regions import Place, head_of, place_of
from veilface_client.images import Pixels, read_photograph
from veilface_common.artifact import load_model

pytestmark = pytest.mark.bench

MODEL = os.environ.get("VEILFACE_MODEL")
PEOPLE = 300  # with two photographs; chance is 1 / 300
TRAINING = 250  # others, by whom the attacker learns what noise is and what a person
BOX = (25.0, 24.0, 112.0, 112.0)  # where Haar finds the faces of LFW, the median of 40
FOUND = 100  # photographs in which hidden faces are looked for again
GRID = ((12, 0), (8, 0), (6, 0), (4, 0), (8, 32), (6, 16), (6, 32), (6, 64), (4, 32), (4, 64))

CROWDS = 60  # photographs of WIDER's validation set, by name
SIZES = (12, 24, 60, 449)  # longer side of a face, pixels

Vectors = NDArray[np.float64]  # [N, D], unit length


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    if MODEL is None:
        pytest.skip("VEILFACE_MODEL names no model that saw nobody of LFW: see docs/faces.md")
    return Embedder(*load_model(Path(MODEL)))


@pytest.fixture(scope="module")
def people(real_faces: Path) -> tuple[list[list[Pixels]], list[list[Pixels]]]:
    """Return two photographs of each person, and up to eight of each one to learn from."""
    folders = sorted(
        folder for folder in (real_faces / "lfw").iterdir() if len(list(folder.glob("*.jpg"))) > 1
    )
    random.Random(1).shuffle(folders)  # noqa: S311 -- a choice of people
    photographs = [
        [read_photograph(path) for path in sorted(folder.glob("*.jpg"))[:8]]
        for folder in folders[: PEOPLE + TRAINING]
    ]
    return [taken[:2] for taken in photographs[:PEOPLE]], photographs[PEOPLE:]


def whole(picture: Pixels) -> Place:
    place = place_of(head_of(BOX), picture.shape[1], picture.shape[0])
    assert place is not None
    return place


def template(embedder: Embedder, picture: Pixels) -> NDArray[np.float32]:
    eyes = np.array(BOX[:2]) + BOX[2] * np.stack((LEFT_EYE, RIGHT_EYE))
    return embedder.embed(cut(picture, similarity(eyes, TEMPLATE[:2])))


def hidden(picture: Pixels, cover: Cover) -> Pixels:
    result = picture.copy()
    cover.put_on(result, whole(picture))
    return result


def rank_one(gallery: Vectors, probes: Vectors) -> float:
    """Return the share of probes whose nearest in the gallery is of the same person."""
    return float(((probes @ gallery.T).argmax(1) == np.arange(len(gallery))).mean())


def unit(vectors: NDArray[np.float64]) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def learned(vectors: NDArray[np.float64], owners: NDArray[np.int64]) -> Callable[..., Vectors]:
    """Return what brings out persons and leaves out noise: linear discriminants (Fisher 1936)."""
    middle = vectors.mean(0)
    means = np.stack([vectors[owners == owner].mean(0) for owner in range(owners.max() + 1)])
    within = np.cov((vectors - means[owners]).T)
    within += 0.05 * np.trace(within) / len(within) * np.eye(len(within))
    strengths, axes = scipy.linalg.eigh(np.cov(means.T), within)
    best = slice(-60, None)
    axes = axes[:, best] * np.sqrt(np.maximum(strengths[best], 0))
    return lambda some: unit((some - middle) @ axes)


def colours(picture: Pixels, cells: int, noise: float, secret: random.Random) -> Vectors:
    return coarse(picture, whole(picture), cells, secret, noise).astype(np.float64).ravel()


def attacks(
    embedder: Embedder,
    people: tuple[list[list[Pixels]], list[list[Pixels]]],
    make: Callable[[Pixels], Cover],
) -> tuple[float, float, float]:
    """Return rank one of three attackers on photographs hidden by these covers.

    Who has clean photographs; who hides their gallery alike; who compares the colours alone, by
    what others' photographs, hidden alike, taught.
    """
    pairs, training = people
    covers = [[make(picture) for picture in pair] for pair in pairs]
    clean = np.stack([template(embedder, pair[0]) for pair in pairs])
    both = [
        np.stack(
            [
                template(embedder, hidden(pair[side], cover[side]))
                for pair, cover in zip(pairs, covers, strict=True)
            ]
        )
        for side in (0, 1)
    ]
    taught = [[make(picture).pixels.ravel() for picture in taken] for taken in training]
    owners = np.array([at for at, taken in enumerate(taught) for _ in taken])
    bring_out = learned(np.array([one for taken in taught for one in taken], float), owners)
    flat = [np.array([cover[side].pixels.ravel() for cover in covers], float) for side in (0, 1)]
    return (
        rank_one(clean, both[1]),
        rank_one(both[0], both[1]),
        rank_one(bring_out(flat[0]), bring_out(flat[1])),
    )


def test_how_many_cells_and_how_much_noise(
    embedder: Embedder, people: tuple[list[list[Pixels]], list[list[Pixels]]]
) -> None:
    """Why the default is what it is."""
    pairs, _ = people
    first, second = (np.stack([template(embedder, pair[at]) for pair in pairs]) for at in (0, 1))
    print(
        f"\n{len(pairs)} people, chance {1 / len(pairs):.4f}, clean {rank_one(first, second):.3f}"
    )
    secret = random.Random(2)  # noqa: S311 -- a measurement
    for cells, noise in GRID:
        found = attacks(
            embedder,
            people,
            lambda picture, cells=cells, noise=noise: Cover(  # type: ignore[misc]
                pixels=coarse(picture, whole(picture), cells, secret, noise), how="pixelate"
            ),
        )
        told = ", ".join(f"{share:.3f}" for share in found)
        print(f"cells {cells:2d} noise {noise:3.0f}: clean, alike, taught: {told}", flush=True)


def test_how_often_only_shows_whom_it_should_hide(
    embedder: Embedder, people: tuple[list[list[Pixels]], list[list[Pixels]]]
) -> None:
    """By one look, at the cosine that one pair of strangers in ten has."""
    pairs, _ = people
    first, second = (np.stack([template(embedder, pair[at]) for pair in pairs]) for at in (0, 1))
    cosines = second @ first.T
    strangers = cosines[~np.eye(len(pairs), dtype=bool)]
    shown = float((np.diag(cosines) < np.quantile(strangers, 0.9)).mean())
    print(f"\nof {len(pairs)} people, --only shows {shown:.3f} at a single look")


@pytest.mark.parametrize("how", HOWS)
def test_who_is_known_after_it(
    embedder: Embedder, people: tuple[list[list[Pixels]], list[list[Pixels]]], how: How
) -> None:
    """The methods as they ship, and whether a face is still found."""
    secret = random.Random(3)  # noqa: S311 -- a measurement

    def make(picture: Pixels) -> Cover:
        cover = cover_for(picture, whole(picture), how, secret)
        assert cover is not None
        return cover

    pairs, _ = people
    found = attacks(embedder, people, make) if how != "drawn" else known_drawn(embedder, pairs)
    haar = Haar()
    again = sum(
        any(
            whole(pair[1]).holds_middle(one.box)
            for one in haar.detect(hidden(pair[1], make(pair[1])))
        )
        for pair in pairs[:FOUND]
    )
    told = ", ".join(f"{share:.3f}" for share in found)
    print(f"\n{how}: clean, alike, taught: {told}; haar still finds {again} of {FOUND}")
    assert max(found) < 0.05


def known_drawn(embedder: Embedder, pairs: list[list[Pixels]]) -> tuple[float, ...]:
    """Return the first two attackers' rank one: all covers are alike, nothing can be taught."""
    covers = [cover_for(pair[0], whole(pair[0]), "drawn", random.SystemRandom()) for pair in pairs]
    clean = np.stack([template(embedder, pair[0]) for pair in pairs])
    both = [
        np.stack(
            [
                template(embedder, hidden(pair[side], cover))
                for pair, cover in zip(pairs, covers, strict=True)
                if cover is not None
            ]
        )
        for side in (0, 1)
    ]
    return rank_one(clean, both[1]), rank_one(both[0], both[1])


def test_how_many_faces_are_covered(real_faces: Path) -> None:
    """By one look, and by all: of photographs of crowds at most 448 px wide."""
    boxes: dict[str, list[list[float]]] = {}
    with (real_faces / "wider" / "val.csv").open() as file:
        for row in csv.DictReader(file):
            place = [float(row[key]) for key in ("x", "y", "width", "height")]
            boxes.setdefault(row["file"], []).append(place)
    haar = Haar()
    both = [haar, Recurrent()]
    looks = {
        "one look": haar.detect,
        "all": lambda picture: find_all(picture, [haar]),
        "all, by haar and rnn": lambda picture: find_all(picture, both),
    }
    for name, find in looks.items():
        faces, covered, area = np.zeros(3), np.zeros(3), 0.0
        started = time.process_time()
        for file_name in sorted(boxes)[:CROWDS]:
            picture = read_photograph(real_faces / "wider" / "val" / file_name)
            is_covered = np.zeros(picture.shape[:2], bool)
            for found in find(picture):
                at = place_of(head_of(found.box), picture.shape[1], picture.shape[0])
                if at is not None:
                    is_covered[at.top : at.bottom, at.left : at.right] = True
            area += float(is_covered.mean()) / CROWDS
            for left, top, width, height in boxes[file_name]:
                size = int(np.searchsorted(SIZES, max(width, height), side="right")) - 1
                rows = slice(max(int(top), 0), int(top + height))
                part = is_covered[rows, max(int(left), 0) : int(left + width)]
                if size >= 0 and part.size:
                    faces[size] += 1
                    covered[size] += part.mean() >= 0.9
        spent = (time.process_time() - started) / CROWDS
        shares = ", ".join(f"{share:.3f}" for share in covered / faces)
        print(
            f"\n{name}: {faces.astype(int).tolist()} faces: {shares}; "
            f"area {area:.3f}, {spent:.2f} s"
        )
