"""Augmentation as torchvision's transforms are: what training puts its batches through.

torchvision brings a compiler with it, which takes seconds: only who trains imports this.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor
from torchvision.transforms import v2

from veilface_client.augmentation import augment, draws_of
from veilface_common.config import AugmentationConfig


class Augmentation(v2.Transform):  # type: ignore[misc]  # torchvision ships no types
    """Varies a batch: uint8 canvas [B, 3, C, C] -> float32 [B, 3, S, S] in [0, 1].

    Image i takes row i of the draws, so what happens to it does not depend on the images beside it.
    With every strength 0 the result is the centre view.
    """

    def __init__(self, config: AugmentationConfig, pixels: int, generator: Generator) -> None:
        super().__init__()
        self.config = config
        self.pixels = pixels
        self.generator = generator

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw for each image of the batch; the draws are made on the CPU on every device."""
        draws = torch.rand(len(flat_inputs[0]), draws_of(self.config), generator=self.generator)
        return {"draws": draws.to(flat_inputs[0].device)}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Apply the draws."""
        return augment(inpt, params["draws"], self.config, self.pixels)
