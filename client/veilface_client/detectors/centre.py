"""No detector: the photograph is a face already, cut out by whoever made the set."""

from __future__ import annotations

import numpy as np

from veilface_client.alignment import PIXELS, TEMPLATE
from veilface_client.detectors.detection import Detection
from veilface_client.images import Pixels
from veilface_common.errors import ConfigError


class Centre:
    """Takes the middle square of every photograph as its face, eyes where the template has them.

    `share` is its side as a share of the shorter side, as in the sources of photographs.
    """

    def __init__(self, share: float = 1.0) -> None:
        if not 0.01 <= share <= 1:
            raise ConfigError(f"expected a share in [0.01, 1] after centre@, got {share!r}")
        self._share = share

    @property
    def name(self) -> str:
        """`centre`, or `centre@0.8`."""
        return "centre" if self._share == 1 else f"centre@{self._share:g}"

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        """Return the middle of uint8 [H, W, 3]: always one face, whatever it shows."""
        height, width, _ = image.shape
        side = self._share * min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        return (
            Detection(
                box=(left, top, side, side),
                score=1.0,
                landmarks=np.array((left, top)) + TEMPLATE[:2] * side / PIXELS,
                basis="whole",
            ),
        )
