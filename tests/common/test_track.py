"""What weighs the frames of a track: its template is among those that the frames span."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional

from veilface_common import models
from veilface_common.artifact import MANIFEST, load_model, save_model
from veilface_common.config import ModelConfig, PrivacyConfig, RunConfig, TrainingConfig
from veilface_common.errors import ConfigError
from veilface_common.models.track import QUALITIES, TrackWeights, initialise
from veilface_common.models.weights import read_weights
from veilface_common.presets import configured, preset

DIMENSION = 8


def some_tracks(count: int = 3, frames: int = 5, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Return embeddings, qualities and which frames are there: all."""
    generator = Generator().manual_seed(seed)
    embeddings = torch.randn(count, frames, DIMENSION, generator=generator)
    qualities = torch.randn(count, frames, QUALITIES, generator=generator)
    return functional.normalize(embeddings, dim=2), qualities, torch.ones(count, frames).bool()


def network(seed: int = 2) -> TrackWeights:
    weights = TrackWeights()
    initialise(weights, Generator().manual_seed(seed))
    with torch.no_grad():  # far from equal weights
        weights.score.weight.mul_(20)
    return weights


@pytest.mark.parametrize("frames", [1, 2, 7, 40])
def test_a_template_is_a_mean_of_its_frames(frames: int) -> None:
    """Of unit length, by weights of sum 1, whatever the number of frames."""
    embeddings, qualities, present = some_tracks(frames=frames)
    track = network()
    weights = track.weights(embeddings, qualities, present)
    assert weights.min() >= 0
    assert torch.allclose(weights.sum(1), torch.ones(3))
    template = track(embeddings, qualities, present)
    assert torch.allclose(template.norm(dim=1), torch.ones(3))
    summed = functional.normalize((weights[:, :, None] * embeddings).sum(1))
    assert torch.allclose(template, summed, atol=1e-6)


@pytest.mark.parametrize("places", [(5, 6), (0, 1), (2, 5)], ids=str)
def test_absent_frames_change_nothing(places: tuple[int, int]) -> None:
    """Wherever padding stands and whatever stands in it, a track's frames weigh what they did."""
    embeddings, qualities, present = some_tracks()
    track = network()
    expected = track.weights(embeddings, qualities, present)
    kept = [place for place in range(7) if place not in places]
    padded = torch.full((3, 7, DIMENSION), torch.nan)
    judged = torch.full((3, 7, QUALITIES), torch.nan)
    there = torch.zeros(3, 7).bool()
    padded[:, kept], judged[:, kept], there[:, kept] = embeddings, qualities, True
    weights = track.weights(padded, judged, there)
    assert torch.allclose(weights[:, kept], expected, atol=1e-6)
    assert not weights[:, list(places)].any()
    wanted = track(embeddings, qualities, present)
    assert torch.allclose(track(padded, judged, there), wanted, atol=1e-6)


def test_a_track_is_weighed_alone() -> None:
    """Private training clips a person: no track of a batch may move another's weights."""
    embeddings, qualities, present = some_tracks()
    track = network()
    together = track.weights(embeddings, qualities, present)
    alone = [
        track.weights(embeddings[n : n + 1], qualities[n : n + 1], present[n : n + 1])
        for n in range(3)
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


def test_where_embeddings_point_is_not_looked_at() -> None:
    """Turned together they weigh what they did: there is nobody to know by heart."""
    embeddings, qualities, present = some_tracks()
    track = network()
    turn, _ = torch.linalg.qr(torch.randn(8, 8, generator=Generator().manual_seed(0)))
    expected = track.weights(embeddings, qualities, present)
    turned = track.weights(embeddings @ turn, qualities, present)
    assert torch.allclose(turned, expected, atol=1e-5)
    others = track.weights(some_tracks(seed=5)[0], qualities, present)
    assert not torch.allclose(others, expected, atol=1e-3), "how far they agree, is"


def test_a_network_draws_the_same_with_and_without() -> None:
    """What weighs frames comes last: a seed gives the embeddings that it gave before."""
    plain = read_weights(models.build(ModelConfig(), seed=7))
    tracked = read_weights(models.build(ModelConfig(track="gru"), seed=7))
    assert all((tracked[name] == plain[name]).all() for name in plain)
    assert {name.split(".")[0] for name in tracked.keys() - plain.keys()} == {"track"}
    assert models.track_of(models.build(ModelConfig(), seed=7)) is None


def test_a_model_carries_its_weights_of_frames(tmp_path: Path) -> None:
    """They are saved and loaded with the rest."""
    config = ModelConfig(name="classic", dimension=8, track="gru")
    save_model(tmp_path, config, read_weights(models.build(config, seed=1)), {})
    loaded, manifest = load_model(tmp_path)
    assert manifest.model == config
    track, expected = models.track_of(loaded), models.track_of(models.build(config, seed=1))
    assert track is not None
    assert expected is not None
    tracks = some_tracks()
    assert torch.equal(track(*tracks), expected(*tracks))


def test_a_manifest_from_before_tracks_is_read(tmp_path: Path) -> None:
    """It names no network for tracks, and so has none."""
    config = ModelConfig(name="classic", dimension=8)
    save_model(tmp_path, config, read_weights(models.build(config, seed=1)), {})
    body = json.loads((tmp_path / MANIFEST).read_bytes())
    del body["model"]["track"]
    (tmp_path / MANIFEST).write_text(json.dumps(body))
    loaded, manifest = load_model(tmp_path)
    assert manifest.model == config
    assert models.track_of(loaded) is None


def test_training_on_tracks_needs_what_weighs_them() -> None:
    """Else a round would train nothing."""
    for config in (
        {"training": TrainingConfig(trained="track")},
        {"privacy": PrivacyConfig(trained="track")},
    ):
        with pytest.raises(ConfigError, match=r"expected model\.track gru"):
            RunConfig(**config)


def test_a_model_that_embeds_can_be_given_weights_of_frames() -> None:
    """`--preset tracks --init MODEL`: its network, and gradients instead of a whitening."""
    config = configured(
        preset("tracks"),
        unit="identity",
        initial=("ab", ModelConfig(name="base", dimension=64)),
        rounds=None,
        settings={},
        overrides=(),
    )
    assert config.model == ModelConfig(name="base", dimension=64, track="gru")
    assert (config.privacy.method, config.privacy.trained) == ("gradient", "track")
    with pytest.raises(ConfigError, match="embeds faces already"):
        configured(
            preset("tracks"), unit="none", initial=None, rounds=None, settings={}, overrides=()
        )
