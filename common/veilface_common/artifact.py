"""A model on disk: `model.safetensors` and the `manifest.json` that says what it is.

{"schema": 1, "model": {"name": ..., "dimension": ...}, "sha256": HEX OF THE WEIGHTS,
 "made_by": "veilface VERSION", "training": {FREE TEXT ABOUT HOW IT CAME ABOUT}}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from torch import nn

from veilface_common import models, tensors
from veilface_common.config import ModelConfig, from_flat, to_flat
from veilface_common.errors import ArtifactError, VeilfaceError
from veilface_common.files import PUBLIC, write_atomically
from veilface_common.models.weights import load_weights

SCHEMA = 1
WEIGHTS = "model.safetensors"
MANIFEST = "manifest.json"
MAX_WEIGHT_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a model is: its network, the digest of its weights, how it was trained."""

    model: ModelConfig
    sha256: str
    training: Mapping[str, object]


def save_model(
    folder: Path,
    model: ModelConfig,
    weights: tensors.Tensors,
    training: Mapping[str, object],
) -> Manifest:
    """Write a model into `folder`; the manifest, written last, makes it valid."""
    folder.mkdir(parents=True, exist_ok=True)
    content = tensors.to_bytes(weights)
    manifest = Manifest(model=model, sha256=hashlib.sha256(content).hexdigest(), training=training)
    body = {
        "schema": SCHEMA,
        "model": to_flat(model),
        "sha256": manifest.sha256,
        "made_by": f"veilface {version('veilface')}",
        "training": dict(training),
    }
    write_atomically(folder / WEIGHTS, content, mode=PUBLIC)
    manifest_text = json.dumps(body, indent=2) + "\n"
    write_atomically(folder / MANIFEST, manifest_text.encode(), mode=PUBLIC)
    return manifest


def load_model(folder: Path) -> tuple[nn.Module, Manifest]:
    """Return the network in `folder`, after its weights were checked against the manifest.

    Raises:
        ArtifactError: a file is missing, damaged, or not what the manifest says.
    """
    manifest = load_manifest(folder)
    weights = _read_weights(folder / WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != manifest.sha256:
        raise ArtifactError(
            f"the weights in {folder} are not those that its manifest names",
            hint="copy the whole folder again; do not mix files of two models",
        )
    network = models.build(manifest.model, seed=0)
    try:
        load_weights(network, tensors.from_bytes(weights))
    except VeilfaceError as error:
        raise ArtifactError(f"the weights in {folder} do not fit their network: {error}") from error
    return network.eval(), manifest


def load_manifest(folder: Path) -> Manifest:
    """Return the manifest in `folder`.

    Raises:
        ArtifactError: it is missing, damaged or of another schema.
    """
    path = folder / MANIFEST
    try:
        body = json.loads(path.read_bytes())
        _verify_schema(body["schema"], path)
        return Manifest(
            model=from_flat(ModelConfig, body["model"]),
            sha256=str(body["sha256"]),
            training=dict(body["training"]),
        )
    except OSError as error:
        raise ArtifactError(
            f"expected a model in {folder}, got no readable {MANIFEST}",
            hint="name the folder that holds model.safetensors and manifest.json",
        ) from error
    except ArtifactError:
        raise
    except (ValueError, KeyError, TypeError, VeilfaceError) as error:
        raise ArtifactError(f"expected a manifest in {path}, got a damaged file") from error


def _verify_schema(got: object, path: Path) -> None:
    if got != SCHEMA:
        raise ArtifactError(f"expected schema {SCHEMA} in {path}, got {got!r}")


def _read_weights(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_WEIGHT_BYTES:
            raise ArtifactError(f"expected at most {MAX_WEIGHT_BYTES} bytes in {path}, got more")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"expected the weights in {path}, got no readable file") from error
