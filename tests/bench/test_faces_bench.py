"""How well faces are found and aligned, on real photographs; the figures of docs/faces.md.

VEILFACE_MODEL names the `model` folder of a run on LFW with `--seed 1`, whose held-out people are
compared here; VEILFACE_YUNET a file of YuNet's model, to measure that as well.
"""

from __future__ import annotations

import csv
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from veilface_client.alignment import TEMPLATE, cut, similarity
from veilface_client.detectors.detection import Detection, Detector
from veilface_client.detectors.haar import LEFT_EYE, RIGHT_EYE
from veilface_client.embedding import Embedder
from veilface_client.faces import align_face, open_detector
from veilface_client.images import Pixels, read_photograph
from veilface_client.quality import GATE, FaceRefused
from veilface_client.sources import open_source
from veilface_common.metrics import equal_error_rate, pair_scores, tar_at_far
from veilface_simulations.partition import hold_out

pytestmark = pytest.mark.bench

MODEL, YUNET = os.environ.get("VEILFACE_MODEL"), os.environ.get("VEILFACE_YUNET")
SIZES = ((20, 40), (40, 80), (80, 449))  # longer side of the true box, pixels
MOST_PHOTOGRAPHS = 10  # of a person: LFW has 530 of one
Boxes = NDArray[np.float64]  # [n, 4]: x, y, width, height


def detectors() -> list[Detector]:
    return [open_detector(text) for text in ["haar", *([f"yunet:{YUNET}"] if YUNET else [])]]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    if MODEL is None:
        pytest.skip(
            "VEILFACE_MODEL names no model: veilface-sim run --data lfw:../shared/faces/lfw "
            "--arms central --rounds 6 --seed 1 --engine inprocess --out runs/lfw"
        )
    return Embedder(Path(MODEL))


def overlaps(box: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Return intersection over union of one box with others: [4], [n, 4] -> [n]."""
    first = np.maximum(box[:2], others[:, :2])
    last = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    shared = np.clip(last - first, 0, None).prod(axis=1)
    return shared / (box[2:].prod() + others[:, 2:].prod(axis=1) - shared)


@dataclass
class Tally:
    """Detections by falling score, true or false, of faces of one size."""

    low: float
    high: float
    faces: int = 0
    hits: list[tuple[float, bool]] | None = None

    def add(self, found: tuple[Detection, ...], boxes: Boxes) -> None:
        """Match greedily at IoU 0.5; faces of other sizes count neither for nor against."""
        sizes = boxes[:, 2:].max(axis=1, initial=0)
        counted = (sizes >= self.low) & (sizes < self.high)
        self.faces += int(counted.sum())
        self.hits = self.hits or []
        free = np.ones(len(boxes), bool)
        for face in sorted(found, key=lambda face: -face.score):
            place = np.where(free, overlaps(np.array(face.box), boxes), 0.0)
            if len(boxes) and place.max() >= 0.5:
                free[place.argmax()] = False
                if counted[place.argmax()]:
                    self.hits.append((face.score, True))
            elif self.low <= max(face.box[2:]) < self.high:
                self.hits.append((face.score, False))

    def figures(self) -> str:
        right = np.array([hit for _, hit in sorted(self.hits or [], key=lambda hit: -hit[0])])
        recall = right.cumsum() / max(self.faces, 1)
        precision = right.cumsum() / (np.arange(len(right)) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        average = float((np.diff(recall, prepend=0.0) * envelope).sum())
        share = right.mean() if len(right) else 0.0
        return f"recall {right.sum() / self.faces:.3f} precision {share:.3f} AP {average:.3f}"


def test_detection_on_wider(real_faces: Path) -> None:
    """All 150 validation photographs of the folder, at most 448 px wide; time of one core."""
    folder = real_faces / "wider"
    boxes: dict[str, list[list[float]]] = {}
    with (folder / "val.csv").open() as file:
        for row in csv.DictReader(file):
            place = [float(row[key]) for key in ("x", "y", "width", "height")]
            boxes.setdefault(row["file"], []).append(place)
    photographs = {path.name: read_photograph(path) for path in (folder / "val").glob("*.jpg")}
    for detector in detectors():
        tallies = [Tally(low, high) for low, high in SIZES]
        started = time.process_time()
        found = {name: detector.detect(photo) for name, photo in photographs.items()}
        each = (time.process_time() - started) / len(photographs)
        for name, faces in found.items():
            for tally in tallies:
                tally.add(faces, np.reshape(boxes.get(name, []), (-1, 4)))
        for tally in tallies:
            size = f"{tally.low}-{tally.high} px, {tally.faces} faces"
            print(f"\n{detector.name} {size}: {tally.figures()}", end="")
        print(f"\n{detector.name}: {1000 * each:.0f} ms a photograph, {len(photographs)} of them")
        assert tallies[-1].faces > 30


def test_time_of_a_photograph(real_faces: Path) -> None:
    """From pixels to the aligned face, one core: a small picture and one of 12 million pixels."""
    path = min(min((real_faces / "lfw").iterdir()).iterdir())
    small = read_photograph(path)
    large = np.asarray(Image.fromarray(small).resize((3464, 3464)))
    for detector in detectors():
        for photograph in (small, large):
            align_face(photograph, detector)
            started = time.process_time()
            for _ in range(10):
                align_face(photograph, detector)
            each = (time.process_time() - started) / 10
            print(f"\n{detector.name}, {photograph.shape[1]} px: {1000 * each:.0f} ms", end="")


def lfw(root: Path) -> dict[str, list[Path]]:
    """Return the photographs of the people whom a run with seed 1 did not train on."""
    photographs: dict[str, list[Path]] = {}
    for photograph in open_source(f"lfw:{root / 'lfw'}").photographs():
        photographs.setdefault(photograph.person, []).append(root / "lfw" / photograph.name)
    pairs = np.array([len(paths) >= 2 for paths in photographs.values()])
    _, held = hold_out(pairs, 0.2, 1)
    names = list(photographs)
    return {names[person]: photographs[names[person]] for person in held}


def celeba(root: Path) -> dict[str, list[Path]]:
    """Return every second person: on the others, framing and limits were chosen."""
    folders = sorted((root / "celeba").iterdir())[1::2]
    return {folder.name: sorted(folder.iterdir()) for folder in folders}


def by_box(photograph: Pixels, found: Detection) -> Pixels:
    """Return the face aligned as if its eyes had not been seen."""
    eyes = np.array(found.box[:2]) + found.box[2] * np.stack((LEFT_EYE, RIGHT_EYE))
    return cut(photograph, similarity(eyes, TEMPLATE[:2]))


def figures(embedder: Embedder, crops: Iterable[Pixels], people: NDArray[np.int64]) -> str:
    templates = np.stack([embedder.embed(crop) for crop in crops])
    scores = pair_scores(templates, people, np.random.default_rng(1))
    eer, _ = equal_error_rate(scores.genuine, scores.impostor)
    tar = tar_at_far(scores.genuine, scores.impostor, 1e-2)
    return f"EER {eer:.4f}, TAR at FAR 1e-2 {tar or 0:.3f}"


@pytest.mark.parametrize(
    ("name", "people", "centre"), [("lfw", lfw, "centre@0.8"), ("celeba", celeba, "centre")]
)
def test_alignment(
    embedder: Embedder,
    real_faces: Path,
    name: str,
    people: Callable[[Path], dict[str, list[Path]]],
    centre: str,
) -> None:
    """Every path on the photographs in which all detectors find one face; whom each refuses."""
    finders = detectors()
    whole = open_detector(centre)
    crops: dict[str, list[Pixels]] = {}
    outcomes: dict[str, Counter[str]] = {finder.name: Counter() for finder in finders}
    kept = []
    total = 0
    for number, paths in enumerate(people(real_faces).values()):
        for path in paths[:MOST_PHOTOGRAPHS]:
            total += 1
            photograph = read_photograph(path)
            aligned = {}
            for finder in finders:
                try:
                    aligned[finder.name] = align_face(photograph, finder)
                    GATE.verify(aligned[finder.name].quality)
                    outcomes[finder.name][aligned[finder.name].path] += 1
                except FaceRefused as refusal:
                    outcomes[finder.name][refusal.reason] += 1
            if len(aligned) < len(finders):
                continue
            kept.append(number)
            crops.setdefault(whole.name, []).append(align_face(photograph, whole).pixels)
            crops.setdefault("haar, box alone", []).append(
                by_box(photograph, finders[0].detect(photograph)[0])
            )
            for finder, face in aligned.items():
                crops.setdefault(finder, []).append(face.pixels)
    owners = np.array(kept)
    print(f"\n{name}: {total} photographs, {len(kept)} compared")
    for finder, counts in outcomes.items():
        print(f"{finder}: {dict(counts)}")
    for way, faces in crops.items():
        print(f"{way}: {figures(embedder, faces, owners)}")
    assert len(kept) > total / 2
