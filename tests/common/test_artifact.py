"""A model on disk is either whole and what it says, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from veilface_common import models, tensors
from veilface_common.artifact import MANIFEST, WEIGHTS, load_model, save_model
from veilface_common.config import ModelConfig
from veilface_common.errors import ArtifactError
from veilface_common.models.weights import read_weights

MODEL = ModelConfig(name="classic", dimension=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path, MODEL, read_weights(models.build(MODEL, seed=4)), {"seed": 4})
    return tmp_path


def test_a_model_comes_back_as_it_was(folder: Path) -> None:
    """The loaded network gives the same templates, bit for bit."""
    images = torch.rand(2, 3, 64, 64)
    network, manifest = load_model(folder)
    assert torch.equal(network(images), models.build(MODEL, seed=4).eval()(images))
    assert manifest.training == {"seed": 4}


def test_one_flipped_bit_in_the_weights_is_refused(folder: Path) -> None:
    """The manifest names the digest of the weights."""
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(ArtifactError, match="not those that its manifest names"):
        load_model(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    """A manifest that names another network does not make the weights fit."""
    body = json.loads((folder / MANIFEST).read_bytes())
    body["model"]["dimension"] = 16
    (folder / MANIFEST).write_text(json.dumps(body))
    with pytest.raises(ArtifactError, match="do not fit"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema": 2}', b"\xff"])
def test_a_damaged_manifest_is_refused(folder: Path, content: bytes) -> None:
    """Rubbish is an ArtifactError, not a traceback."""
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError):
        load_model(folder)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    """Both files are needed."""
    (folder / name).unlink()
    with pytest.raises(ArtifactError):
        load_model(folder)


def test_tensors_are_the_same_bytes_in_any_order() -> None:
    """Digests of a model do not depend on how a dictionary was filled."""
    weights = read_weights(models.build(MODEL, seed=0))
    assert tensors.to_bytes(weights) == tensors.to_bytes(dict(reversed(weights.items())))
