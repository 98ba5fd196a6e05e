"""People whom no training has seen the like of: patterns of coloured cells, each by its own draw.

A canary is to be as conspicuous as any person could be, and the guarantee is for everybody. So an
auditor may choose canaries; patterns differ more from each other than faces do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from veilface_client.data import Faces
from veilface_client.images import canvas_pixels
from veilface_common.config import ModelConfig

_CELLS = 10  # along a side


def pattern_people(photographs: Sequence[int], model: ModelConfig, *, seed: Sequence[int]) -> Faces:
    """Return people of whom number i has `photographs[i]`; canvases as large as `model` needs."""
    side = canvas_pixels(model.pixels)
    owners = np.repeat(np.arange(len(photographs)), photographs)
    cells = np.random.default_rng(seed).integers(
        0, 256, (len(owners), 3, _CELLS, _CELLS), dtype=np.uint8
    )
    scale = -(-side // _CELLS)
    images = cells.repeat(scale, 2).repeat(scale, 3)[:, :, :side, :side]
    return Faces(
        path=Path("patterns"),
        images=np.ascontiguousarray(images),
        rows=np.arange(len(owners)),
        people=owners,
        person_names=tuple(f"person {number}" for number in range(len(photographs))),
        photo_names=tuple(f"photograph {number}" for number in range(len(owners))),
        warnings=(),
    )
