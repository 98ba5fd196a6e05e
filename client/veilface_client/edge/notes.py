"""What a model's ONNX file says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from veilface_client.edge.metadata import Metadata
from veilface_common.preprocessing import Preprocessing

INPUT = "faces"  # float32 [B, 3, S, S], RGB / 255, aligned
OUTPUT = "templates"  # float32 [B, D], unit length

Precision = Literal["fp32", "int8"]


@dataclass(frozen=True, kw_only=True)
class Notes:
    """Which model a file holds, and what belongs before it."""

    network: str
    dimension: int
    precision: Precision
    preprocessing: Preprocessing
    weights: str  # SHA-256 of model.safetensors, hex: what templates in a vault are bound to
    manifest: str  # SHA-256 of manifest.json, hex
    licence: str  # empty where the model's maker states none
    made_by: str


METADATA = Metadata(
    key="veilface",
    schema=1,
    kind=Notes,
    what="a model that Veilface exported",
    hint="veilface model export --onnx FILE",
)
