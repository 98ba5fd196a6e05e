"""From an aligned face to the template that a released model makes of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from veilface_client.alignment import network_input
from veilface_client.images import Pixels
from veilface_client.training import embed_views
from veilface_common import typed_json
from veilface_common.artifact import Manifest
from veilface_common.thresholds import Impostors


class Embedder:
    """A released model, ready to look at faces one by one. Threads may share it."""

    def __init__(self, network: nn.Module, manifest: Manifest) -> None:
        """Take a network that was verified, and what its manifest says."""
        torch.set_num_threads(1)  # photographs come one at a time; several threads serve them
        self.network, self.manifest = network, manifest
        self._pixels = manifest.model.pixels
        self.dimension = manifest.model.dimension
        known = manifest.training.get("impostors")
        self.impostors = (
            typed_json.from_json(Impostors, known, "the manifest") if known is not None else None
        )

    def embed(self, aligned: Pixels) -> NDArray[np.float32]:
        """Aligned face uint8 [112, 112, 3] -> template [D], unit length."""
        face = torch.from_numpy(network_input(aligned, self._pixels))[None]
        with torch.inference_mode():
            found = embed_views(self.network, face)[0]
        return np.asarray(found.numpy(), dtype=np.float32)
