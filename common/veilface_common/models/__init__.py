"""The networks by name."""

from __future__ import annotations

import torch
from torch import nn

from veilface_common.config import ModelConfig
from veilface_common.models import track
from veilface_common.models.cnn import ClassicNetwork, ResidualNetwork, initialise
from veilface_common.models.track import TrackWeights

__all__ = ["TrackWeights", "build", "track_of"]

_TRACK = "track"


def build(config: ModelConfig, seed: int) -> nn.Module:
    """Return the network that the configuration names, its weights drawn from `seed` alone.

    [B, 3, S, S] float in [0, 1] -> [B, D], unit length. What weighs the frames of a track, if the
    configuration has it, is there beside: see `track_of`.
    """
    with torch.device("meta"):  # draws nothing: organisations in threads share the global generator
        network = _network(config)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    initialise(network, generator)
    if config.track == "gru":
        with torch.device("meta"):
            weights = TrackWeights()
        weights.to_empty(device="cpu")
        track.initialise(weights, generator)
        network.add_module(_TRACK, weights)  # after the rest, whose draws stay the same
    return network


def track_of(network: nn.Module) -> TrackWeights | None:
    """Return what weighs the frames of a track, where the network has it."""
    found = dict(network.named_children()).get(_TRACK)
    return found if isinstance(found, TrackWeights) else None


def _network(config: ModelConfig) -> nn.Module:
    match config.name:
        case "tiny":
            return ResidualNetwork((32, 64, 128, 128), (0, 1, 1, 0), config.dimension, config.light)
        case "base":
            return ResidualNetwork((32, 64, 128, 256), (1, 1, 1, 1), config.dimension, config.light)
        case "classic":
            return ClassicNetwork(config.pixels, config.dimension, config.light)
