"""A model on disk: `model.safetensors` and the `manifest.json` that says what it is.

Of schema 2 is what a federation releases, signed (`release`). Of schema 1 is what a simulation, or
whoever trains alone, writes; nobody signs it:

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

from veilface_common import release as releases
from veilface_common import tensors
from veilface_common.config import ModelConfig, from_flat, to_flat
from veilface_common.errors import ArtifactError, VeilfaceError
from veilface_common.files import PUBLIC, write_atomically
from veilface_common.release import MAX_MANIFEST_BYTES, MAX_WEIGHT_BYTES, Release

SCHEMA = 1
WEIGHTS = "model.safetensors"
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a model is: its network, the digest of its weights, how it was trained."""

    model: ModelConfig
    sha256: str
    training: Mapping[str, object]
    release: Release | None = None  # where it is one


def save_model(
    folder: Path,
    model: ModelConfig,
    weights: tensors.Tensors,
    training: Mapping[str, object],
) -> Manifest:
    """Write a model that nobody signs into `folder`; the manifest, written last, makes it valid."""
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

    Of a release, that its coordinator signed it is not looked at: `release.verify_manifest` does.

    Raises:
        ArtifactError: a file is missing, damaged, or not what the manifest says.
    """
    manifest = load_manifest(folder)
    return network_of(manifest, read_weights_file(folder), str(folder)), manifest


def network_of(manifest: Manifest, weights: bytes, where: str) -> nn.Module:
    """Return the network with these weights, after they were checked against the manifest.

    Raises:
        ArtifactError: they are others, or do not fit the network.
    """
    if hashlib.sha256(weights).hexdigest() != manifest.sha256:
        raise ArtifactError(
            f"the weights in {where} are not those that its manifest names",
            hint="copy the whole folder again; do not mix files of two models",
        )
    return releases.network_with(manifest.model, weights, where)


def load_manifest(folder: Path) -> Manifest:
    """Return the manifest in `folder`.

    Raises:
        ArtifactError: it is missing, damaged or of another schema.
    """
    return parse_manifest(read_manifest_file(folder), str(folder / MANIFEST))


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Return what a manifest of either schema says.

    Raises:
        ArtifactError: it is damaged or of another schema.
    """
    body = releases.read_body(content, where)
    if body["schema"] == releases.SCHEMA:
        release = releases.parse(content, where)
        return Manifest(model=release.network, sha256=release.sha256, training={}, release=release)
    if body["schema"] != SCHEMA:
        got = body["schema"]
        raise ArtifactError(
            f"expected schema {SCHEMA} or {releases.SCHEMA} in {where}, got {got!r}"
        )
    try:
        return Manifest(
            model=from_flat(ModelConfig, body["model"]),
            sha256=str(body["sha256"]),
            training=dict(body["training"]),
        )
    except (ValueError, KeyError, TypeError, VeilfaceError) as error:
        raise ArtifactError(f"expected a manifest in {where}, got a damaged file") from error


def read_manifest_file(folder: Path) -> bytes:
    """Return the manifest's bytes. Raises ArtifactError where there are none, or too many."""
    hint = "name the folder that holds model.safetensors and manifest.json"
    missing = f"expected a model in {folder}, got no readable {MANIFEST}"
    return _read(folder / MANIFEST, MAX_MANIFEST_BYTES, missing, hint)


def read_weights_file(folder: Path) -> bytes:
    """Return the weights' bytes. Raises ArtifactError where there are none, or too many."""
    path = folder / WEIGHTS
    return _read(path, MAX_WEIGHT_BYTES, f"expected the weights in {path}, got no readable file")


def _read(path: Path, most: int, missing: str, hint: str | None = None) -> bytes:
    try:
        if path.stat().st_size > most:
            raise ArtifactError(f"expected at most {most} bytes in {path}, got more")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(missing, hint=hint) from error
