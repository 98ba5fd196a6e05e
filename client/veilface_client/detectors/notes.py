"""What a detector's ONNX file says of itself, as canonical JSON under one key of its metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from veilface_common import typed_json
from veilface_common.budget.entries import canonical
from veilface_common.errors import ArtifactError

KEY = "veilface-detector"
SCHEMA = 1
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


def to_metadata(notes: DetectorNotes) -> dict[str, str]:
    """Return what is written into the file."""
    return {KEY: canonical({"schema": SCHEMA, **typed_json.to_json(notes)})}


def from_metadata(metadata: dict[str, str]) -> DetectorNotes:
    """Return what a file says of itself.

    Raises:
        ArtifactError: nothing, or something of another schema.
    """
    try:
        body = json.loads(metadata[KEY])
        schema = body["schema"]
    except (KeyError, ValueError, TypeError):
        raise ArtifactError("expected a face detector of Veilface, got another model") from None
    if schema != SCHEMA:
        raise ArtifactError(f"expected a detector of schema {SCHEMA}, got {schema!r}")
    return typed_json.from_json(DetectorNotes, body, "the detector's file")
