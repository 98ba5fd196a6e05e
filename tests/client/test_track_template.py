"""One template for several frames of a face."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.client.face_parts import portrait

from veilface_client.perturbations.levels import perturb
from veilface_client.track_template import (
    DEFAULT,
    NAMES,
    combine,
    frame_qualities,
    frame_weights,
    goodness,
    view_qualities,
)
from veilface_common import models
from veilface_common.config import ModelConfig
from veilface_common.errors import ConfigError, DataError
from veilface_common.models.track import QUALITIES

RANDOM = np.random.default_rng(4)
FRAMES = RANDOM.normal(size=(5, 8)).astype(np.float32)
FRAMES /= np.linalg.norm(FRAMES, axis=1, keepdims=True)
JUDGED = RANDOM.normal(size=(5, len(NAMES))).astype(np.float32)


def test_mean_and_best() -> None:
    """The direction of the sum, and the frame of the highest goodness."""
    summed = FRAMES.sum(0)
    assert np.allclose(combine(FRAMES, JUDGED, "mean"), summed / np.linalg.norm(summed))
    assert np.allclose(combine(FRAMES, JUDGED, "best"), FRAMES[JUDGED[:, -1].argmax()])


def test_recurrent_is_what_the_network_says() -> None:
    """In the one place where frames are combined, as in training."""
    track = models.track_of(models.build(ModelConfig(track="gru"), seed=1))
    assert track is not None
    given = (torch.from_numpy(FRAMES)[None], torch.from_numpy(JUDGED)[None])
    expected = track(*given, torch.ones(1, 5).bool())[0].detach().numpy()
    assert np.allclose(combine(FRAMES, JUDGED, "recurrent", track=track), expected, atol=1e-6)
    weights = frame_weights(FRAMES, JUDGED, "recurrent", track=track)
    assert weights.sum() == pytest.approx(1)


def test_the_default_needs_no_network_unless_there_is_one() -> None:
    """Models from before tracks go on as they were; those with weights of frames use them."""
    track = models.track_of(models.build(ModelConfig(track="gru"), seed=1))
    assert np.allclose(combine(FRAMES, JUDGED), combine(FRAMES, JUDGED, "mean"))
    expected = combine(FRAMES, JUDGED, DEFAULT, track=track)
    assert np.allclose(combine(FRAMES, JUDGED, track=track), expected)


def test_what_cannot_be_combined_is_refused() -> None:
    """No frame, or no network where one is asked for by name."""
    with pytest.raises(DataError, match="expected a frame"):
        combine(FRAMES[:0], JUDGED[:0])
    with pytest.raises(ConfigError, match="network for tracks"):
        combine(FRAMES, JUDGED, "recurrent")


def test_a_clean_frame_is_better_than_a_spoilt_one() -> None:
    """Of one photograph, at the highest level, whatever of these went wrong."""
    aligned = portrait(pixels=112)
    clean = frame_qualities(aligned, 64)
    assert clean.shape == (len(NAMES),) == (QUALITIES,)
    for kind in ("darkness", "defocus", "contrast", "salt-and-pepper", "low-resolution"):
        spoilt = frame_qualities(perturb(aligned, kind, 5, seed=0), 64)
        assert goodness(clean[None]) > goodness(spoilt[None]), kind


def test_qualities_have_names_that_mean_what_they_say() -> None:
    """Each moves when that is done to the picture which it is named for."""
    flat = torch.full((1, 3, 64, 64), 0.4)
    plain = dict(zip(NAMES, view_qualities(flat)[0].tolist(), strict=True))
    grainy = flat + 0.2 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(1))
    tinted = flat * torch.tensor((1.0, 0.5, 0.2))[:, None, None]
    lit = flat * torch.linspace(0, 2, 64)
    changed = {
        "grain": grainy,
        "sharpness": grainy,
        "brightness": flat * 2,
        "contrast": lit,
        "clipped": flat * 0,
        "colour": tinted,
        "one-sided": lit,
    }
    for name, view in changed.items():
        found = dict(zip(NAMES, view_qualities(view)[0].tolist(), strict=True))
        assert found[name] > plain[name] + 0.3, name
        assert np.isfinite(list(found.values())).all()
