"""The networks by name."""

from __future__ import annotations

import torch
from torch import nn

from veilface_common.config import ModelConfig
from veilface_common.models.cnn import ClassicNetwork, ResidualNetwork, initialise

__all__ = ["build"]


def build(config: ModelConfig, seed: int) -> nn.Module:
    """Return the network that the configuration names, its weights drawn from `seed` alone.

    [B, 3, S, S] float in [0, 1] -> [B, D], unit length.
    """
    with torch.device("meta"):  # draws nothing: organisations in threads share the global generator
        network = _network(config)
    network.to_empty(device="cpu")
    initialise(network, torch.Generator().manual_seed(seed))
    return network


def _network(config: ModelConfig) -> nn.Module:
    match config.name:
        case "tiny":
            return ResidualNetwork((32, 64, 128, 128), (0, 1, 1, 0), config.dimension)
        case "base":
            return ResidualNetwork((32, 64, 128, 256), (1, 1, 1, 1), config.dimension)
        case "classic":
            return ClassicNetwork(config.pixels, config.dimension)
