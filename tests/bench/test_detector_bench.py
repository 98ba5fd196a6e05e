"""How fast the recurrent detector looks at a video; the figures of docs/detector.md."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from veilface_client.detectors.detection import stream_of
from veilface_client.faces import open_detector

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
