"""A detector made by hand, as a file: what is bright is a face, and fades once it is gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from veilface_client.detectors.notes import METADATA, DetectorNotes

NOTES = DetectorNotes(
    network="rnn",
    multiple=32,
    pixels=0,
    stride=8,
    data="nothing",
    seed=0,
    steps=0,
    weights="0" * 64,
    licence="",
    made_by="hand",
)
BOX = (8.0, 16.0, 40.0, 48.0)  # of every cell, in pixels of the frame


def bright_is_a_face(
    path: Path,
    *,
    notes: DetectorNotes = NOTES,
    keeps: float = 0.9,
    wide: int = 4,
    **changes: object,
) -> Path:
    """Write a detector whose score in a cell is its brightness, or `keeps` times the one before."""
    box = np.reshape((*BOX, 0.0)[:wide], (wide, 1, 1)).astype(np.float32)
    constants = {
        "keeps": np.float32(keeps),
        "channel": np.array([1]),
        "first": np.array([0, 1]),
        "box": box,
    }
    nodes = [
        helper.make_node("AveragePool", ["frame"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("ReduceMean", ["cells", "channel"], ["bright"]),
        helper.make_node("Mul", ["state", "keeps"], ["faded"]),
        helper.make_node("Max", ["bright", "faded"], ["next"]),
        helper.make_node("Squeeze", ["next", "first"], ["scores"]),
        helper.make_node("Sub", ["scores", "scores"], ["nought"]),
        helper.make_node("Add", ["box", "nought"], ["boxes"]),
    ]
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "detector",
        [
            helper.make_tensor_value_info("frame", float32, [1, 3, "H", "W"]),
            helper.make_tensor_value_info("state", float32, [1, 1, "h", "w"]),
        ],
        [
            helper.make_tensor_value_info("scores", float32, ["h", "w"]),
            helper.make_tensor_value_info("boxes", float32, [wide, "h", "w"]),
            helper.make_tensor_value_info("next", float32, [1, 1, "h", "w"]),
        ],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    changed = replace(notes, **changes) if changes else notes  # type: ignore[arg-type]
    helper.set_model_props(model, METADATA.write(changed))
    onnx.save(model, path)
    return path
