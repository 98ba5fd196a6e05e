"""Who is this? From a photograph to a name or nobody, with nothing of PyTorch.

The detectors, the alignment, the gate of quality and the rule that decides are those of
`recognition`; the model is an ONNX file, the people are in a sealed gallery.
"""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

from veilface_client.edge.embedder import OnnxEmbedder, read_model
from veilface_client.edge.gallery import EdgeGallery, open_gallery, read_gallery
from veilface_client.faces import Aligned, Detector, align_face, find_face, open_detector
from veilface_client.images import Pixels
from veilface_client.quality import GATE, FaceRefused
from veilface_client.recognition.answers import ABOVE, UNUSABLE, Identification, Line, decide
from veilface_common.errors import ConfigError

_FILES = {"yunet": "--detector yunet:MODEL.onnx", "rnn": "--detector rnn or rnn:MODEL.onnx"}


class Recogniser:
    """A model, a gallery and a detector. Threads may share it."""

    def __init__(self, embedder: OnnxEmbedder, gallery: EdgeGallery, detector: Detector) -> None:
        """Put them together.

        Raises:
            ConfigError: the threshold was chosen with another detector.
        """
        terms = gallery.terms
        if detector.name != terms.detector:
            raise ConfigError(
                f"expected the detector {terms.detector} that the threshold holds for, "
                f"got {detector.name}",
                hint=_FILES.get(terms.detector.partition("-")[0]),
            )
        self._embedder, self._gallery, self._detector = embedder, gallery, detector
        self._line = Line(threshold=terms.threshold, strong=terms.threshold, warning=terms.warning)

    @property
    def warning(self) -> str:
        """What must be known of the threshold; empty: nothing."""
        return self._line.warning

    def identify(self, photo: bytes | Path) -> Identification:
        """Return who a picture file shows, or that nobody knows.

        Raises:
            DataError: it is no picture.
        """
        try:
            return self._answer(find_face(photo, self._detector))
        except FaceRefused as refused:
            return _unusable(refused)

    def identify_frame(self, frame: Pixels) -> Identification:
        """Return who a picture of a camera shows, uint8 [H, W, 3], RGB."""
        try:
            face = align_face(frame, self._detector)
            GATE.verify(face.quality)
        except FaceRefused as refused:
            return _unusable(refused)
        return self._answer(face)

    def _answer(self, face: Aligned) -> Identification:
        found = self._gallery.likest(self._embedder.embed(face.pixels), 2)
        reason = decide([cosine for _, cosine in found], self._line, self._gallery.terms.margin)
        return Identification(
            answer=found[0][0] if reason == ABOVE else None,
            reason=reason,
            warning=self._line.warning if found else "",
        )


def open_recogniser(
    model: Path, gallery: Path, key: bytes, today: date, detector: str = ""
) -> Recogniser:
    """Return what answers from these files; the gallery vouches for the model before it is run.

    Args:
        model: an ONNX file that was exported.
        gallery: sealed, of the same export.
        key: that it was sealed under, [32].
        today: for its dates.
        detector: as `faces.open_detector` takes it; else the one that the gallery names.

    Raises:
        WrongKey, VaultError: the gallery does not open, or has ended.
        ArtifactError: the model is another, or cannot be run.
        ConfigError: the detector is another, or something is not installed.
    """
    content = read_model(model)
    digest = hashlib.sha256(content).hexdigest()
    opened = open_gallery(read_gallery(gallery), key, digest, today)
    return Recogniser(
        OnnxEmbedder(content), opened, open_detector(detector or opened.terms.detector)
    )


def _unusable(refused: FaceRefused) -> Identification:
    return Identification(answer=None, reason=UNUSABLE, detail=refused.hint or str(refused))
