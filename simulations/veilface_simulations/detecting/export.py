"""A trained detector as one ONNX file, with what it was trained on in its metadata.

Nothing is written before ONNX Runtime was seen to say what PyTorch says over a stream of frames.
Weights are kept in 16 bits, half the size; they are 32 again before the first frame is looked at.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from veilface_client.detectors.notes import (
    BOXES,
    FRAME,
    METADATA,
    NEXT,
    SCORES,
    STATE,
    DetectorNotes,
)
from veilface_client.edge.embedder import open_session
from veilface_client.edge.export import OPSET, load_onnx, noise_pictures, quietly, strip
from veilface_common.errors import ArtifactError
from veilface_common.models.heatmap import (
    CARRIED,
    CLASSIC_PIXELS,
    MULTIPLE,
    STRIDE,
    ClassicRecurrent,
    HeatmapNetwork,
    Name,
    decode,
    decode_classic,
)

LICENCE = {"drawn": "Apache-2.0"}  # of weights, by what they were trained on
UNKNOWN = "none stated: the terms of the photographs that it was trained on hold"
MOST_OFF = 1e-2  # of a score; of a box, this share of a cell: weights are rounded to 11 bits
CHECK_FRAMES = 6


class Step(nn.Module):
    """One frame of a stream: what the file holds."""

    def __init__(self, network: HeatmapNetwork | ClassicRecurrent) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[1, 3, H, W] and the state -> scores [h, w], boxes [4, h, w] and the next state."""
        found, state = self.network(frame.unsqueeze(1), state)
        if isinstance(self.network, HeatmapNetwork):
            scores, boxes = decode(found)
        else:
            scores, boxes = decode_classic(found)
        return scores[0, 0], boxes[0, 0], state


def export(
    network: HeatmapNetwork | ClassicRecurrent,
    name: Name,
    *,
    data: str,
    seed: int,
    steps: int,
    weights: str,
) -> bytes:
    """Return the network as the bytes of an ONNX file.

    Args:
        network: as it was trained; on the processor, in evaluation.
        name: of the network.
        data: what it was trained on, without paths.
        seed: of its training.
        steps: of its training.
        weights: SHA-256 of its weights, hex.

    Raises:
        ArtifactError: ONNX Runtime does not say what PyTorch says.
        ConfigError: what exports is not installed.
    """
    onnx = load_onnx()
    classic = isinstance(network, ClassicRecurrent)
    step = Step(network).eval()
    graph = _traced(step, classic=classic)
    strip(graph)
    _halve(graph)
    notes = DetectorNotes(
        network=name,
        multiple=0 if classic else MULTIPLE,
        pixels=CLASSIC_PIXELS if classic else 0,
        stride=CLASSIC_PIXELS if classic else STRIDE,
        data=data,
        seed=seed,
        steps=steps,
        weights=weights,
        licence=LICENCE.get(data, UNKNOWN),
        made_by=f"veilface {version('veilface')}",
    )
    onnx.helper.set_model_props(graph, METADATA.write(notes))
    content: bytes = graph.SerializeToString(deterministic=True)
    verify_same(content, step, classic=classic)
    return content


def verify_same(content: bytes, step: Step, *, classic: bool) -> None:
    """Do nothing if a file says of a stream of frames what the network says.

    Raises:
        ArtifactError: a score, a box or the state is further off than rounding explains.
    """
    session = open_session(content)
    height = width = CLASSIC_PIXELS
    if not classic:
        height, width = 3 * MULTIPLE, 4 * MULTIPLE  # other sides than it was traced with
    frames = noise_pictures(CHECK_FRAMES, max(height, width), seed=2)[:, :, :height, :width]
    state = _no_state(height, width, classic=classic)
    expected, found = torch.from_numpy(state), state
    for frame in np.ascontiguousarray(frames):
        with torch.inference_mode():
            scores, boxes, expected = step(torch.from_numpy(frame[None]), expected)
        said = session.run([SCORES, BOXES, NEXT], {FRAME: frame[None], STATE: found})
        found = said[2]
        pairs = zip(said, (scores, boxes / height, expected), (1, 1 / height, 1), strict=True)
        off = max(float(np.abs(a * unit - b.numpy()).max()) for a, b, unit in pairs)
        if not off <= MOST_OFF:
            raise ArtifactError(
                f"expected PyTorch's detections of ONNX Runtime within {MOST_OFF:g}, got {off:.2g}",
                hint="other versions of torch, onnxscript or onnxruntime than constraints.txt has?",
            )


def _no_state(height: int, width: int, *, classic: bool) -> NDArray[np.float32]:
    shape = (1, 2 * CARRIED) if classic else (1, CARRIED, height // STRIDE, width // STRIDE)
    return np.zeros(shape, np.float32)


def _traced(step: Step, *, classic: bool) -> Any:
    """Return the graph, as PyTorch's exporter makes it; norms are folded into convolutions."""
    height = width = CLASSIC_PIXELS
    sizes = None
    if not classic:
        height, width = 2 * MULTIPLE, 3 * MULTIPLE
        rows, columns = torch.export.Dim("h32"), torch.export.Dim("w32")
        per = MULTIPLE // STRIDE
        frame, cells = (
            {2: MULTIPLE * rows, 3: MULTIPLE * columns},
            {2: per * rows, 3: per * columns},
        )
        sizes = (frame, cells)
    with quietly():
        program = torch.onnx.export(
            step,
            (
                torch.zeros(1, 3, height, width),
                torch.from_numpy(_no_state(height, width, classic=classic)),
            ),
            input_names=[FRAME, STATE],
            output_names=[SCORES, BOXES, NEXT],
            dynamic_shapes=sizes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ArtifactError("expected an ONNX graph of the network, got none")
    return program.model_proto


def _halve(graph: Any) -> None:
    """Keep large weights in 16 bits, with a node before each that makes them 32 again."""
    onnx = load_onnx()
    casts = []
    for tensor in graph.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name = tensor.name
        half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
        casts.append(
            onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
