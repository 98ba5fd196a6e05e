"""A network's weights as named arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from veilface_common.tensors import FloatArray, Tensors, verify_like


def read_weights(network: nn.Module) -> Tensors:
    """Return a copy of the network's weights, float32, by name."""
    return {
        name: value.detach().to("cpu", torch.float32).contiguous().numpy().copy()
        for name, value in network.state_dict().items()
    }


def load_weights(network: nn.Module, weights: Mapping[str, FloatArray]) -> None:
    """Copy the weights into the network.

    Raises:
        UpdateRejected: names, shapes or values are not those of the network.
    """
    verify_like(weights, read_weights(network))
    network.load_state_dict({name: torch.from_numpy(np.array(weights[name])) for name in weights})
