"""From an aligned face to its template by ONNX Runtime: what `embedding` does, without PyTorch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veilface_client.alignment import network_input
from veilface_client.edge.notes import INPUT, METADATA, OUTPUT
from veilface_client.images import Pixels
from veilface_common.errors import ArtifactError, ConfigError

MAX_BYTES = 1 << 30


class OnnxEmbedder:
    """An exported model on one core. Threads may share it."""

    def __init__(self, content: bytes) -> None:
        """Load the model in the bytes of an ONNX file.

        Raises:
            ArtifactError: it is none that Veilface exported.
            ConfigError: ONNX Runtime is not installed.
        """
        self._session = open_session(content)
        self.notes = METADATA.read(self._session.get_modelmeta().custom_metadata_map)
        self.digest = hashlib.sha256(content).hexdigest()
        self.dimension = self.notes.dimension

    def embed(self, aligned: Pixels) -> NDArray[np.float32]:
        """Aligned face uint8 [112, 112, 3] -> template [D], unit length."""
        face = network_input(aligned, self.notes.preprocessing.pixels)[None]  # [1, 3, S, S]
        found: NDArray[np.float32] = self.embed_inputs(face)[0]
        return found

    def embed_inputs(self, faces: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inputs of the network [B, 3, S, S] in [0, 1] -> templates [B, D], unit length."""
        (found,) = self._session.run([OUTPUT], {INPUT: faces})
        return np.asarray(found, dtype=np.float32)


def read_model(path: Path) -> bytes:
    """Return the bytes of an ONNX file, of which nothing is believed yet.

    Raises:
        ArtifactError: there is none, or it is too large for one.
    """
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise ArtifactError(f"expected a model in {path}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ArtifactError(f"expected at most {MAX_BYTES} bytes in {path}, got more")
    return content


def open_session(content: bytes) -> Any:
    """Return a session of ONNX Runtime, which ships no types, on one thread of the processor.

    Raises:
        ArtifactError: the bytes are no ONNX model that it can run.
        ConfigError: it is not installed.
    """
    try:
        import onnxruntime  # noqa: PLC0415 -- an optional extra
    except ImportError as error:
        raise ConfigError(
            "expected ONNX Runtime, got none", hint="pip install 'veilface[client]', or onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors alone: they are raised as well
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own types do not share a parent
        raise ArtifactError("expected an ONNX model, got bytes that cannot be run") from error
