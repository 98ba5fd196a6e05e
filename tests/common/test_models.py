"""The networks: sizes, unit embeddings, seeds, and what private training asks of them."""

from __future__ import annotations

import pytest
import torch
from opacus.validators import ModuleValidator

from veilface_common.config import LightName, ModelConfig, ModelName
from veilface_common.models import build

NAMES: tuple[ModelName, ...] = ("tiny", "base", "classic")
LIGHTS: tuple[LightName, ...] = ("plain", "evened")


def images(config: ModelConfig, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, 3, config.pixels, config.pixels, generator=generator)


@pytest.mark.parametrize(
    ("name", "fewest", "most"),
    [
        ("tiny", 250_000, 500_000),
        ("base", 1_100_000, 1_500_000),
        ("classic", 2_000_000, 2_200_000),
    ],
)
def test_sizes_are_as_documented(name: ModelName, fewest: int, most: int) -> None:
    """The number of parameters is in the range that the documentation states."""
    network = build(ModelConfig(name=name), seed=1)
    assert fewest <= sum(parameter.numel() for parameter in network.parameters()) <= most


@pytest.mark.parametrize("name", NAMES)
def test_opacus_accepts_every_network(name: ModelName) -> None:
    """Nothing in a network mixes the examples of a batch."""
    assert ModuleValidator.validate(build(ModelConfig(name=name), seed=1)) == []


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("name", NAMES)
def test_embeddings_have_unit_length(name: ModelName, light: LightName) -> None:
    """[B, 3, S, S] becomes [B, D] of length one, for black and white images too."""
    config = ModelConfig(name=name, dimension=32, light=light)
    network = build(config, seed=1)
    faces = images(config)
    faces[1], faces[2] = 0, 1
    embeddings = network(faces)
    assert embeddings.shape == (3, 32)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("name", NAMES)
def test_training_mode_changes_nothing(name: ModelName, light: LightName) -> None:
    """An embedding is the same in training and evaluation, alone and in a batch; no buffers."""
    config = ModelConfig(name=name, light=light)
    network = build(config, seed=1)
    faces = images(config)
    together = network.train()(faces)
    assert torch.equal(together, network.eval()(faces))
    assert torch.allclose(together[:1], network(faces[:1]), atol=1e-5)
    assert not list(network.buffers())


@pytest.mark.parametrize("name", NAMES)
def test_evened_light_is_no_other_light(name: ModelName) -> None:
    """Dim and coloured light changes a plain embedding, and hardly one of evened light."""
    faces = images(ModelConfig(name=name))
    lamp = torch.tensor((0.3, 0.2, 0.08))[:, None, None]
    kept: dict[LightName, float] = {}
    for light in LIGHTS:
        network = build(ModelConfig(name=name, light=light), seed=1)
        with torch.no_grad():
            kept[light] = float((network(faces) * network(faces * lamp)).sum(1).min())
    assert kept["evened"] > 0.999
    assert kept["plain"] < 0.99


def test_light_changes_no_weight() -> None:
    """Both have the weights of the same seed: a model of before loads as it was."""
    plain, evened = (build(ModelConfig(light=light), seed=3).state_dict() for light in LIGHTS)
    assert all(torch.equal(plain[key], evened[key]) for key in plain)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_decides_the_weights(name: ModelName) -> None:
    """The same seed gives the same bits, another seed others; the global generator is not used."""
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = build(ModelConfig(name=name), seed=3).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    again = build(ModelConfig(name=name), seed=3).state_dict()
    other = build(ModelConfig(name=name), seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
