"""A model measured on faces: templates of all of them, and the figures that follow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from veilface_client.data import Faces
from veilface_client.training import embed
from veilface_common.config import ModelConfig
from veilface_common.metrics import Figures, evaluate


def embed_faces(network: nn.Module, model: ModelConfig, faces: Faces) -> NDArray[np.float32]:
    """Return the template of each face, [N, D], unit length."""
    return embed(network, faces, pixels=model.pixels)


def measure(
    network: nn.Module, model: ModelConfig, faces: Faces, *, seed: int = 0, resamples: int = 200
) -> Figures:
    """Return verification and identification figures of a model on these people.

    Raises:
        DataError: nobody has two photographs.
    """
    return evaluate(
        embed_faces(network, model, faces), faces.people, seed=seed, resamples=resamples
    )
