"""OpenCV, imported when a face is first looked for: most commands never do."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from veilface_client.images import Pixels
from veilface_common.errors import ConfigError

LONGEST_SIDE = 640  # pixels that a detector looks at: a face of 1/13 of the photograph has 48 px


def load_opencv() -> ModuleType:
    """Return `cv2`, told to use one thread: whoever serves requests has threads of its own.

    Raises:
        ConfigError: OpenCV 4 is not installed.
    """
    try:
        import cv2  # noqa: PLC0415 -- see above
    except ImportError as error:
        raise ConfigError(
            "expected OpenCV to find faces with, got none",
            hint="pip install 'veilface[client]', or --detector centre for faces cut out already",
        ) from error
    cv2.setNumThreads(1)
    return cv2


def shrunk(photograph: Pixels) -> tuple[Pixels, float]:
    """Return (the photograph with its longer side at most LONGEST_SIDE, its scale): [H, W, 3]."""
    height, width, _ = photograph.shape
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    if scale == 1.0:
        return np.ascontiguousarray(photograph), scale
    cv2 = load_opencv()
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(photograph, size, interpolation=cv2.INTER_AREA), scale
