"""Does a calibrated threshold keep its rate on people whom nobody trained on?

VEILFACE_MODEL names a model's folder; it must not have been trained on LFW's people.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from veilface_client.calibration import calibrate_identify, calibrate_verify, strangers_within
from veilface_client.images import canvas_pixels, cut_canvas
from veilface_client.sources import open_source
from veilface_client.training import embed
from veilface_common.artifact import load_model

pytestmark = pytest.mark.bench

LFW = Path(__file__).parents[3] / "shared" / "faces" / "lfw"
MODEL = os.environ.get("VEILFACE_MODEL")
GALLERY, GALLERIES = 500, 20


def lfw_templates() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return a template of up to two photographs of everybody, and whose they are."""
    assert MODEL is not None
    network, manifest = load_model(Path(MODEL))
    source = open_source(f"lfw:{LFW}")
    canvases, owners, numbers = [], [], dict[str, int]()
    for photograph in source.photographs():
        owner = numbers.setdefault(photograph.person, len(numbers))
        if owners[-2:].count(owner) < 2:
            pixels = canvas_pixels(manifest.model.pixels)
            canvases.append(cut_canvas(photograph.load(), source.crop, pixels))
            owners.append(owner)
    found = embed(network, np.stack(canvases), pixels=manifest.model.pixels)
    return found, np.array(owners)


@pytest.mark.skipif(not LFW.is_dir(), reason="needs the faces of LFW beside the checkout")
@pytest.mark.skipif(MODEL is None, reason="VEILFACE_MODEL names no model")
def test_the_realised_rate_is_within_the_stated_interval() -> None:
    """Galleries of 500 people, calibrated on themselves; then everybody else walks in."""
    templates, owners = lfw_templates()
    people, firsts, counts = np.unique(owners, return_index=True, return_counts=True)
    second = firsts[counts > 1] + 1
    random = np.random.default_rng(0)
    inside, realised, stated, missed, verified = 0, [], [], [], []
    for _ in range(GALLERIES):
        chosen = random.choice(np.flatnonzero(counts > 1), GALLERY, replace=False)
        gallery = templates[firsts[chosen]]
        others = np.setdiff1d(people, people[chosen])
        best = strangers_within(gallery, np.arange(GALLERY))
        found = calibrate_identify(best, GALLERY, 0.01)
        rate = float(((templates[firsts[others]] @ gallery.T).max(1) > found.threshold).mean())
        inside += found.low <= rate <= found.high
        realised.append(rate)
        stated.append((found.low, found.high))
        scores = templates[firsts[chosen] + 1] @ gallery.T
        right = (scores.argmax(1) == np.arange(GALLERY)) & (scores.max(1) > found.threshold)
        missed.append(1 - float(right.mean()))
        one = calibrate_verify(gallery, np.arange(GALLERY), 0.001)
        against = templates[firsts[others]] @ gallery.T
        verified.append((float((against > one.threshold).mean()), one.low, one.high))
    kept = sum(low <= rate <= high for rate, low, high in verified)
    print(
        f"\nidentify, galleries of {GALLERY}, FPIR asked 1%: realised "
        f"{np.mean(realised):.2%} ({min(realised):.2%} to {max(realised):.2%}) on "
        f"{len(people) - GALLERY} others, stated {stated[0][0]:.2%} to {stated[0][1]:.2%}, inside "
        f"{inside} of {GALLERIES} times; FNIR {np.mean(missed):.1%} ({len(second)} people with a "
        f"second photograph)\nverify, FMR asked 0.1%: realised "
        f"{np.mean([rate for rate, _, _ in verified]):.3%}, inside {kept} of {GALLERIES} times"
    )
    assert inside >= 0.8 * GALLERIES
