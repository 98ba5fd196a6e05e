"""Tracks made of photographs: of one person, by that person's draws alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.client.private_parts import CONFIG, PEOPLE, some_faces
from torch import Generator

from veilface_client.head import CosineMarginHead
from veilface_client.perturbations.levels import PERTURBATIONS
from veilface_client.pseudo_tracks import (
    BAD,
    GOOD,
    KINDS,
    LEAST_FRAMES,
    MOST_FRAMES,
    Frames,
    draw_tracks,
    make_frames,
)
from veilface_client.track_template import NAMES
from veilface_client.track_training import train_tracks
from veilface_common import models
from veilface_common.config import ModelConfig, TrainingConfig
from veilface_common.errors import ConfigError, TrainingDiverged
from veilface_common.models.weights import read_weights

CONFIG = replace(
    CONFIG,
    model=ModelConfig(name="classic", dimension=8, track="gru"),
    training=TrainingConfig(trained="track", local_epochs=8.0, batch_size=3),
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def numbered(photographs: int = 4) -> Frames:
    """Return frames whose embedding says which photograph and which version they are."""
    photo, version = np.mgrid[1 : photographs + 1, 1 : GOOD + BAD + 1]
    told = torch.from_numpy(np.stack((photo, version), 2)).float()
    return Frames(embeddings=told, qualities=told[:, :, :1].expand(-1, -1, len(NAMES)))


def test_frames_follow_from_a_persons_own_draws() -> None:
    """The same bits whoever else is there; what was done to one photograph is done to it alone."""
    faces, network = some_faces(), models.build(CONFIG.model, seed=1)
    rows = np.flatnonzero(faces.people == 3)
    frames = make_frames(network, faces, rows, CONFIG, Generator().manual_seed(5))
    assert frames.embeddings.shape == (4, GOOD + BAD, 8)
    assert frames.qualities.shape == (4, GOOD + BAD, len(NAMES))
    others = faces.of_people([0, 3])
    moved = np.flatnonzero(others.people == 1)
    again = make_frames(network, others, moved, CONFIG, Generator().manual_seed(5))
    assert torch.equal(again.embeddings, frames.embeddings)
    assert torch.equal(again.qualities, frames.qualities)
    assert len(torch.unique(frames.embeddings.flatten(0, 1), dim=0)) == 4 * (GOOD + BAD)


def test_tracks_are_as_they_are_meant() -> None:
    """Of all lengths, of one photograph or several, some with bad frames and some without."""
    tracks = draw_tracks(numbered(), 400, Generator().manual_seed(1))
    lengths = tracks.present.sum(1)
    assert lengths.unique().tolist() == list(range(LEAST_FRAMES, MOST_FRAMES + 1))
    assert not tracks.embeddings[~tracks.present].any(), "padding is empty"
    there = [tracks.embeddings[row][tracks.present[row]] for row in range(400)]
    photographs = [len(frames[:, 0].unique()) for frames in there]
    assert 0.7 < np.mean([count == 1 for count in photographs]) < 0.95
    bad = [float((frames[:, 1] > GOOD).float().mean()) for frames in there]
    assert min(bad) == 0
    assert 0.2 < np.mean(bad) < 0.4
    assert torch.equal(tracks.qualities[..., 0], tracks.embeddings[..., 0]), "of the same frames"


def test_some_perturbations_are_kept_for_measuring() -> None:
    """Or nothing could be said about what training never showed."""
    assert set(KINDS) < set(PERTURBATIONS)
    assert len(PERTURBATIONS) - len(KINDS) >= 5


def test_training_moves_the_weights_of_frames_alone() -> None:
    """The embeddings are frozen; the loss falls; the same seed gives the same bits."""
    faces = some_faces()
    runs = []
    for _ in range(2):
        network = models.build(CONFIG.model, seed=1)
        before = read_weights(network)
        head = CosineMarginHead(CONFIG.head, PEOPLE, 8, Generator().manual_seed(0))
        chosen = np.flatnonzero(faces.photographs_per_person()[faces.people] > 1)
        train_tracks(
            network, head, faces, faces.people, CONFIG, learning_rate=0.01, seed=3, rows=chosen
        )
        runs.append(read_weights(network))
        moved = {name for name, value in runs[-1].items() if (value != before[name]).any()}
        assert {name.split(".")[0] for name in moved} == {"track"}
        assert len(moved) == 6
    assert all((runs[0][name] == runs[1][name]).all() for name in runs[0])


def test_training_says_what_it_lacks() -> None:
    """A network without weights of frames, and a rate that is too high."""
    faces = some_faces(PEOPLE)
    rows, head = np.arange(len(faces)), CosineMarginHead(CONFIG.head, PEOPLE, 8, Generator())
    plain = models.build(replace(CONFIG.model, track="none"), seed=1)
    with pytest.raises(ConfigError, match="weighs frames"):
        train_tracks(plain, head, faces, faces.people, CONFIG, learning_rate=1, seed=0, rows=rows)
    network = models.build(CONFIG.model, seed=1)
    wild = replace(CONFIG, training=replace(CONFIG.training, optimizer="sgd"))
    with pytest.raises(TrainingDiverged):
        train_tracks(
            network, head, faces, faces.people, wild, learning_rate=1e30, seed=0, rows=rows
        )
