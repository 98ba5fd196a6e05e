"""What a model's ONNX file says of itself, as canonical JSON under one key of its metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from veilface_common import typed_json
from veilface_common.budget.entries import canonical
from veilface_common.errors import ArtifactError
from veilface_common.preprocessing import Preprocessing

KEY = "veilface"
SCHEMA = 1
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


def to_metadata(notes: Notes) -> dict[str, str]:
    """Return what is written into the file."""
    return {KEY: canonical({"schema": SCHEMA, **typed_json.to_json(notes)})}


def from_metadata(metadata: dict[str, str]) -> Notes:
    """Return what a file says of itself.

    Raises:
        ArtifactError: nothing, or something of another schema.
    """
    try:
        body = json.loads(metadata[KEY])
        schema = body["schema"]
    except (KeyError, ValueError, TypeError):
        raise ArtifactError(
            "expected a model that Veilface exported, got another ONNX file",
            hint="veilface model export --onnx FILE",
        ) from None
    if schema != SCHEMA:
        raise ArtifactError(f"expected an ONNX file of schema {SCHEMA}, got {schema!r}")
    return typed_json.from_json(Notes, body, "the ONNX file")
