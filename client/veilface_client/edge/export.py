"""A released model as an ONNX file: in full precision, or with weights and inputs of 8 bits.

The graph is what `embedding.Embedder` does after the input is made: the face and its mirror image
through the network, the direction of the sum. Filters are standardised once, here, not at each
face. Nothing is written before ONNX Runtime was seen to give PyTorch's templates.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from veilface_client.edge.embedder import open_session
from veilface_client.edge.notes import INPUT, METADATA, OUTPUT, Notes, Precision
from veilface_client.model_store import read_model
from veilface_client.training import embed_views
from veilface_common.artifact import Manifest, network_of
from veilface_common.config import ModelConfig
from veilface_common.errors import ArtifactError, ConfigError
from veilface_common.models import track_of
from veilface_common.models.cnn import StandardisedConv
from veilface_common.preprocessing import preprocessing_of

OPSET = 18
QUANTISED = ["Conv", "Gemm"]  # where the time goes; norms stay exact
MOST_OFF: dict[Precision, float] = {"fp32": 1e-4, "int8": 0.05}  # 1 - cosine of any one picture
CALIBRATION_PICTURES, CALIBRATION_BATCH = 128, 16
CHECK_PICTURES = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Released:
    """A model that is to be exported, and where its figures are from."""

    network: nn.Module
    model: ModelConfig
    weights: str  # SHA-256, hex
    manifest: str  # SHA-256, hex
    licence: str


def released(network: nn.Module, manifest: Manifest, content: bytes) -> Released:
    """Return a model whose weights were verified; `content` is its manifest as a file."""
    return Released(
        network=network,
        model=manifest.model,
        weights=manifest.sha256,
        manifest=hashlib.sha256(content).hexdigest(),
        licence=manifest.release.licence if manifest.release else "",
    )


def load_released(folder: Path) -> Released:
    """Return the model in a folder; who signed it, if anybody, is not looked at.

    Raises:
        ArtifactError: a file is missing, damaged, or not what the manifest says.
    """
    model = read_model(folder)
    network = network_of(model.parsed, model.weights, str(folder))
    return released(network, model.parsed, model.manifest)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An ONNX file, and how far it was seen to be from PyTorch."""

    content: bytes = field(repr=False)
    precision: Precision
    off: float  # the largest 1 - cosine of a picture's two templates

    @property
    def digest(self) -> str:
        """SHA-256 of the file, hex."""
        return hashlib.sha256(self.content).hexdigest()


def export(model: Released, precision: Precision = "fp32") -> Exported:
    """Return the model as an ONNX file; the same model gives the same bytes.

    float32 [B, 3, S, S] in [0, 1], RGB -> float32 [B, D], unit length, for any B.

    Raises:
        ArtifactError: ONNX Runtime does not give what PyTorch gives.
        ConfigError: what exports is not installed.
    """
    onnx = load_onnx()
    graph = _traced(model)
    if precision == "int8":
        graph = _quantised(graph, model.model.pixels)
    strip(graph)
    notes = Notes(
        network=model.model.name,
        dimension=model.model.dimension,
        precision=precision,
        preprocessing=preprocessing_of(model.model),
        weights=model.weights,
        manifest=model.manifest,
        licence=model.licence,
        made_by=f"veilface {version('veilface')}",
    )
    onnx.helper.set_model_props(graph, METADATA.write(notes))
    content: bytes = graph.SerializeToString(deterministic=True)
    pictures = noise_pictures(CHECK_PICTURES, model.model.pixels, seed=1)
    off = verify_same(content, model.network, pictures, MOST_OFF[precision])
    return Exported(content=content, precision=precision, off=off)


def verify_same(
    content: bytes, network: nn.Module, inputs: NDArray[np.float32], most_off: float
) -> float:
    """Return the largest 1 - cosine of ONNX Runtime's and PyTorch's templates.

    Args:
        content: of an ONNX file.
        network: that it was made of.
        inputs: [B, 3, S, S] in [0, 1].
        most_off: what is allowed of any one.

    Raises:
        ArtifactError: one is further off, or is no number.
    """
    (found,) = open_session(content).run([OUTPUT], {INPUT: inputs})
    with torch.inference_mode():
        expected = embed_views(network, torch.from_numpy(inputs)).numpy()
    off = float(1 - (np.asarray(found, np.float64) * expected).sum(axis=1).min())
    if not off <= most_off:
        raise ArtifactError(
            f"expected PyTorch's templates of ONNX Runtime within {most_off:g}, got {off:.2g} off",
            hint="other versions of torch, onnxscript or onnxruntime than constraints.txt has?",
        )
    return off


def noise_pictures(count: int, pixels: int, seed: int) -> NDArray[np.float32]:
    """Return pictures of nobody, with the spectrum of photographs: [count, 3, S, S] in [0, 1].

    Amplitude falls as frequency to the power of 1.2 (Field 1987: about 1 for natural scenes), the
    three colours mostly alike. int8 calibrated on them is as good as on faces: docs/edge.md.
    """
    random = np.random.default_rng(seed)
    steps = np.fft.fftfreq(pixels)
    frequency = np.hypot(steps[:, None], steps[None])
    frequency[0, 0] = 1 / pixels
    shape = (count, 3, pixels, pixels)
    spectrum = (random.normal(size=shape) + 1j * random.normal(size=shape)) / frequency**1.2
    field = np.fft.ifft2(spectrum).real
    field -= field.mean(axis=(2, 3), keepdims=True)
    field /= field.std(axis=(2, 3), keepdims=True)
    mixed = 0.9 * field[:, :1] + 0.3 * field
    return np.clip(0.45 + 0.2 * mixed, 0, 1).astype(np.float32)


def load_onnx() -> Any:
    """Return the package `onnx`. Raises ConfigError where what exports is not installed."""
    try:
        import onnx  # noqa: PLC0415 -- an optional extra
        import onnxruntime  # noqa: F401, PLC0415 -- the same
        import onnxscript  # noqa: F401, PLC0415 -- the same
    except ImportError as error:
        raise ConfigError(
            f"expected what ONNX files are made with, got no {error.name}",
            hint="pip install 'veilface[edge]'",
        ) from error
    return onnx


class _Views(nn.Module):
    """`embed_views` of a network, both views in one batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, D]."""
        views = self.network(torch.cat((faces, faces.flip(3))))  # [2B, D]
        return nn.functional.normalize(views.view(2, -1, views.shape[1]).sum(0))


def _traced(model: Released) -> Any:
    """Return the graph, as PyTorch's exporter makes it."""
    views = _Views(_folded(model.network)).eval()
    pixels = model.model.pixels
    with quietly():
        program = torch.onnx.export(
            views,
            (torch.zeros(2, 3, pixels, pixels),),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("B")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ArtifactError("expected an ONNX graph of the network, got none")
    return program.model_proto


def _folded(network: nn.Module) -> nn.Module:
    """Return a copy of the network with the filters as they are applied."""
    copied = copy.deepcopy(network).cpu()
    if track_of(copied) is not None:
        del copied.track  # it weighs frames; what is exported embeds single pictures
    for name, module in list(copied.named_modules()):
        if isinstance(module, StandardisedConv):
            stride = (module.stride[0], module.stride[1])
            plain = nn.Conv2d(module.in_channels, module.out_channels, 3, stride, 1, bias=False)
            plain.weight = nn.Parameter(module.filters().detach().contiguous())
            copied.set_submodule(name, plain)
    return copied


def _quantised(graph: Any, pixels: int) -> Any:
    """Return the graph with convolutions in 8 bits, ranges set by pictures of nobody.

    Weights take 7 of the 8 bits: processors without VNNI add two products in 16 bits, which
    overflow otherwise, and would answer otherwise than newer ones.
    """
    from onnxruntime import quantization  # noqa: PLC0415 -- an optional extra

    onnx = load_onnx()
    pictures = _Pictures(noise_pictures(CALIBRATION_PICTURES, pixels, seed=0))
    with tempfile.TemporaryDirectory() as folder, quietly():
        target = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            graph,
            target,
            pictures,
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=QUANTISED,
        )
        return onnx.load(target)


class _Pictures:
    """Batches in the form in which the quantiser asks for them."""

    def __init__(self, inputs: NDArray[np.float32]) -> None:
        batches = np.split(inputs, len(inputs) // CALIBRATION_BATCH)
        self._left = iter([{INPUT: batch} for batch in batches])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next batch, None at the end."""
        return next(self._left, None)


def strip(graph: Any) -> None:
    """Take out where each node came from: paths of this machine, and half of the file's text."""
    graph.doc_string = graph.graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.graph.metadata_props[:]
    parts = [*graph.graph.node, *graph.graph.initializer, *graph.graph.value_info]
    for part in (*parts, *graph.graph.input, *graph.graph.output):
        part.doc_string = ""
        del part.metadata_props[:]


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what the exporter and the quantiser say to themselves off the terminal."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx", "")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # They speak of the exporter's own insides; what it makes is verified.
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
