"""Faces and five landmarks by YuNet (Wu et al. 2023), a network that the user brings as a file."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from veilface_client.detectors.detection import Detection
from veilface_client.detectors.opencv import load_opencv, shrunk
from veilface_client.images import Pixels
from veilface_common.errors import ConfigError

SCORE = 0.7
OVERLAP = 0.3  # boxes that share more than this are one face
MOST_FACES = 100
_HINT = "face_detection_yunet_2023mar.onnx of OpenCV's model zoo, or --detector haar"


class YuNet:
    """Finds faces at more angles than the cascades do, and where nose and mouth are."""

    name = "yunet"

    def __init__(self, model: Path) -> None:
        cv2 = load_opencv()
        if not model.is_file():
            raise ConfigError(f"expected YuNet's model at {model}, got no file", hint=_HINT)
        try:
            self._network = cv2.FaceDetectorYN.create(
                str(model), "", (320, 320), SCORE, OVERLAP, MOST_FACES
            )
            self._network.detect(np.zeros((320, 320, 3), np.uint8))  # another network fails here
        except cv2.error:
            raise ConfigError(
                f"expected YuNet's model in {model}, got another file", hint=_HINT
            ) from None
        self._busy = threading.Lock()  # the size of the image is a state of the network

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        """Return every face in uint8 [H, W, 3], RGB, the largest first."""
        small, scale = shrunk(image)
        blue_first = np.ascontiguousarray(small[:, :, ::-1])
        with self._busy:
            self._network.setInputSize((small.shape[1], small.shape[0]))
            _, rows = self._network.detect(blue_first)
        if rows is None:
            return ()
        found = [_detection(row, scale) for row in np.asarray(rows, np.float64)]  # [n, 15]
        return tuple(sorted(found, key=lambda face: face.area, reverse=True))


def _detection(row: np.ndarray[tuple[int], np.dtype[np.float64]], scale: float) -> Detection:
    """Return a face from the network's box, five points and score: [15]."""
    left, top, width, height = (row[:4] / scale).tolist()
    return Detection(
        box=(left, top, width, height),
        score=float(row[14]),
        landmarks=row[4:14].reshape(5, 2) / scale,
        basis="five",
    )
