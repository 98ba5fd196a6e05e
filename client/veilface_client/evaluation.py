"""Templates of faces, as evaluation and recognition need them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from veilface_client.data import Faces
from veilface_client.training import embed
from veilface_common.config import ModelConfig


def embed_faces(network: nn.Module, model: ModelConfig, faces: Faces) -> NDArray[np.float32]:
    """Return the template of each face, [N, D], unit length."""
    return embed(network, faces, pixels=model.pixels)
