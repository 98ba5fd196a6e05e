"""People whom no training has seen the like of: patterns of coloured cells, each by its own draw.

A canary is to be as conspicuous as any person could be, and the guarantee is for everybody. So an
auditor may choose canaries; patterns differ more from each other than faces do. Where it is two
photographs of one person that are to differ, few cells without middle tones differ most (seen).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from veilface_client.data import Faces
from veilface_client.images import canvas_pixels
from veilface_common.config import ModelConfig

_CELLS, _TONES = 10, 256  # along a side; of a colour in a cell
_STARK_CELLS, _STARK_TONES = 3, 2


def pattern_people(
    photographs: Sequence[int], model: ModelConfig, *, seed: Sequence[int], stark: bool = False
) -> Faces:
    """Return people of whom number i has `photographs[i]`; canvases as large as `model` needs."""
    side = canvas_pixels(model.pixels)
    owners = np.repeat(np.arange(len(photographs)), photographs)
    count, tones = (_STARK_CELLS, _STARK_TONES) if stark else (_CELLS, _TONES)
    cells = np.random.default_rng(seed).integers(
        0, tones, (len(owners), 3, count, count), dtype=np.uint8
    )
    cells *= 255 // (tones - 1)
    scale = -(-side // count)
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
