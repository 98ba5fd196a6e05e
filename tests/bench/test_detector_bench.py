"""How fast the detector that ships is, and what it finds; figures of docs/detector.md."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from veilface_client.detectors.detection import Detector, stream_of
from veilface_client.detectors.recurrent import SCORE
from veilface_client.faces import open_detector
from veilface_client.images import read_photograph
from veilface_simulations.clips.clip import Split
from veilface_simulations.clips.photographs import Photographs
from veilface_simulations.detecting.evaluating import SIZES
from veilface_simulations.detecting.matching import (
    Judged,
    Sizes,
    at_threshold,
    boxes_of,
    judge,
    pooled,
)

pytestmark = pytest.mark.bench

FRAMES = 100


@pytest.mark.parametrize("text", ["rnn", "haar"])
@pytest.mark.parametrize(("height", "width"), [(180, 320), (240, 320), (320, 320), (720, 1280)])
def test_frames_a_second(text: str, height: int, width: int) -> None:
    """At least 25 frames a second of processor time; by the clock, what the load allows."""
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = stream_of(open_detector(text))
    for _ in range(5):
        stream.detect(frame)
    busy, clock = time.process_time(), time.perf_counter()
    for _ in range(FRAMES):
        stream.detect(frame)
    busy, clock = time.process_time() - busy, time.perf_counter() - clock
    print(
        f"\n{text} {width}x{height}: {FRAMES / busy:.0f} frames a second of processor time, "
        f"{FRAMES / clock:.0f} by the clock at a load of {os.getloadavg()[0]:.1f}"
    )
    assert text == "haar" or FRAMES / busy >= 25


def judged(detector: Detector, wider: Path, split: Split, sizes: Sizes) -> Judged:
    """Return what is found in about 150 photographs of a part of WIDER FACE."""
    source = Photographs(name="wider", folder=wider, split=split)
    parts = []
    for number in range(0, len(source), max(1, len(source) // 150)):
        still = source.still(number)
        boxes, scores = boxes_of(detector.detect(still.pixels), *still.pixels.shape[:2])
        none = np.zeros(len(still.boxes), bool)
        parts.append(judge(boxes, scores, still.boxes, none, sizes)[0])
    return pooled(parts)


def told(found: Judged, score: float) -> str:
    right, wrong = at_threshold(found, score)
    recall, precision = right / found.faces, right / max(1, right + wrong)
    f1 = 2 * recall * precision / max(1e-9, recall + precision)
    return f"recall {recall:.3f}, precision {precision:.3f}, F1 {f1:.3f}"


@pytest.mark.parametrize("text", ["rnn", "haar"])
def test_what_is_found_at_the_default_score(text: str, real_faces: Path) -> None:
    """By size on WIDER FACE's validation part, and one photograph of each 60th person of LFW."""
    detector = open_detector(text)
    for sizes in SIZES:
        found = judged(detector, real_faces / "wider", "validation", sizes)
        print(f"\n{text} from {sizes.low:g} px, {found.faces}: {told(found, 0)}", end="")
    people = sorted(folder for folder in (real_faces / "lfw").iterdir() if folder.is_dir())
    counts = [0, 0, 0]  # no face, one, several: those a quarter as large as the largest or more
    for person in people[::60][:60]:
        faces = detector.detect(read_photograph(min(person.iterdir())))
        counts[min(2, sum(face.area >= faces[0].area / 4 for face in faces))] += 1
    print(f"\n{text} on LFW: none, one, several: {counts}")


def test_why_the_default_score_is_what_it_is(real_faces: Path) -> None:
    """The best F1 on WIDER FACE's training part, which the weights that ship never saw."""
    found = judged(open_detector("rnn@0.05"), real_faces / "wider", "train", SIZES[0])
    for score in (0.4, 0.5, 0.6, 0.65, SCORE, 0.725, 0.75, 0.8):
        print(f"\n{score}: {told(found, score)}", end="")
