"""From a photograph to an aligned face: decode, detect, one face, align, judge.

The alignment path, `haar/eyes` or `yunet/five`, is stored with each template and bound to it: a
threshold that holds for one path need not hold for another.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from veilface_client.alignment import TEMPLATE, cut, similarity
from veilface_client.detectors import DETECTORS_HELP
from veilface_client.detectors.centre import Centre
from veilface_client.detectors.detection import Detection, Detector
from veilface_client.detectors.haar import Haar
from veilface_client.detectors.recurrent import SCORE, Recurrent
from veilface_client.detectors.yunet import YuNet
from veilface_client.images import Pixels, decode, read_photograph
from veilface_client.quality import GATE, FaceRefused, Gate, Quality, measure
from veilface_common.errors import ConfigError

__all__ = ["Aligned", "Detector", "align_face", "find_face", "open_detector"]

RIVAL_AREA = 0.25  # a second face of this share of the largest one's area makes it unclear who


@dataclass(frozen=True, kw_only=True, eq=False)
class Aligned:
    """A face in the template's place, how it came there, and how good a photograph it is."""

    pixels: Pixels  # [112, 112, 3], RGB; `alignment.network_input` makes a network's input of it
    path: str  # detector and landmarks: "haar/eyes", "haar/box", "rnn/box", "yunet/five"
    quality: Quality


def open_detector(text: str) -> Detector:
    """Return the detector that a text names: see `DETECTORS_HELP`.

    Raises:
        ConfigError: it names none, or one that is not installed.
    """
    kind, colon, model = text.partition(":")
    if text == "haar":
        return Haar()
    if kind == "yunet" and model:
        return YuNet(Path(model))
    name, at, number = kind.partition("@")
    try:
        if name == "rnn" and bool(model) == bool(colon):
            return Recurrent(Path(model) if model else None, score=float(number) if at else SCORE)
        if name == "centre" and not colon:
            return Centre(float(number) if at else 1.0)
    except ValueError:
        pass  # told below
    raise ConfigError(f"expected a detector, got {text!r}", hint=DETECTORS_HELP)


def find_face(photo: bytes | Path, detector: Detector, gate: Gate = GATE) -> Aligned:
    """Return the one face of a photograph, aligned and good enough to be told from others.

    Raises:
        PhotographError: the photograph cannot be read.
        FaceRefused: it shows no face, several, or one that is too poor; the hint says what to do.
    """
    # A link that the user names is followed; `read_photograph` refuses one put there since.
    # `Path.resolve` raises what no caller expects where links go round in a circle.
    if isinstance(photo, Path):
        photograph = read_photograph(Path(os.path.realpath(photo)))
    else:
        photograph = decode(photo)
    aligned = align_face(photograph, detector)
    gate.verify(aligned.quality)
    return aligned


def align_face(photograph: Pixels, detector: Detector) -> Aligned:
    """Return the one face of uint8 [H, W, 3] whatever its quality.

    Raises:
        FaceRefused: there is no face, or more than one that may be meant.
    """
    return align(photograph, only_face(detector.detect(photograph)), detector.name)


def align(photograph: Pixels, face: Detection, detector: str) -> Aligned:
    """Return this face of uint8 [H, W, 3] whatever its quality; `detector` is who found it.

    Raises:
        DataError: its landmarks are no face's, or outside of the photograph.
    """
    transform = similarity(face.landmarks, TEMPLATE[: len(face.landmarks)])
    pixels = cut(photograph, transform)
    return Aligned(
        pixels=pixels,
        path=f"{detector}/{face.basis}",
        quality=measure(pixels, transform, face),
    )


def only_face(found: tuple[Detection, ...]) -> Detection:
    """Return the face that is meant, of all that a detector found.

    Raises:
        FaceRefused: there is none, or more than one that may be meant.
    """
    if not found:
        raise FaceRefused("no-face", "expected a face, got none")
    rivals = [face for face in found[1:] if face.area >= RIVAL_AREA * found[0].area]
    if rivals:
        raise FaceRefused("several-faces", f"expected one face, got {1 + len(rivals)}")
    return found[0]
