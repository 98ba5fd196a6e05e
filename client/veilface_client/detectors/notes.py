"""What a detector's ONNX file says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from veilface_client.edge.metadata import Metadata

FRAME = "frame"  # float32 [1, 3, H, W], RGB / 255; sides are multiples of `multiple`, or fixed
STATE = "state"  # float32 [1, C, H / stride, W / stride], or [1, C]; zeros at first
SCORES = "scores"  # float32 [h, w], in [0, 1]: that a face's centre is in this cell
BOXES = "boxes"  # float32 [4, h, w]: left, top, width, height in pixels of the frame
NEXT = "next"  # the state for the next frame


@dataclass(frozen=True, kw_only=True)
class DetectorNotes:
    """Which network a file holds, and what it was trained on."""

    network: Literal["rnn", "twin", "classic-rnn"]
    multiple: int  # of which a frame's sides are; 0: frames are squares of `pixels`
    pixels: int  # side of such a square; 0: any size
    stride: int  # pixels of a cell
    data: str  # what it was trained on, as `--data` named it, without paths
    seed: int
    steps: int
    weights: str  # SHA-256 of the weights, hex
    licence: str
    made_by: str


METADATA = Metadata(
    key="veilface-detector",
    schema=1,
    kind=DetectorNotes,
    what="a face detector of Veilface",
    hint="a file that `veilface-sim detector train` wrote, or --detector rnn",
)
