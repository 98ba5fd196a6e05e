"""How fast clips are made, on one core; the figures of docs/detector.md."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from veilface_simulations.clips.clip import ClipConfig
from veilface_simulations.clips.opening import open_clips

pytestmark = pytest.mark.bench

CLIPS = 100
FAST_ENOUGH = 60  # frames a second: training on one core takes fewer


@pytest.mark.parametrize("kind", ["drawn", "wider"])
def test_clips_are_made_faster_than_they_are_trained_on(kind: str, real_faces: Path) -> None:
    """After every head or photograph was seen once: processor time, 256 x 256 px."""
    source = open_clips(f"wider:{real_faces / 'wider'}" if kind == "wider" else "drawn", "train")
    config = ClipConfig()
    for _ in range(2):
        started = time.process_time()
        for number in range(CLIPS):
            source.clip(config, 0, number)
        rate = CLIPS * config.frames / (time.process_time() - started)
    print(f"\n{kind}: {rate:.0f} frames a second")
    assert rate > FAST_ENOUGH
