"""The organisation's models on disk: weights sealed, under keys that lie sealed in the vault.

HOME/models/SHA16/manifest.json    in clear: what a model is, is no secret
HOME/models/SHA16/model.sealed     nonce [12] ciphertext tag [16] of the safetensors bytes,
                                   AES-256-GCM under the model's own key, bound to its SHA-256
                                   and that of manifest.json

The vault's value "models" says which model is in use, the number of the newest release of each
coordinator, and holds a random key for each model that is here: the one in use, and while a new one
is taken into use, that one too. So

* who has the disk but not the vault's key has no weights (a model tells of its training faces);
* files of an older model that are put back open no more: its key went when it was replaced;
* `home.json` and the folder decide nothing: both can be edited by whoever can write them;
* a new key of the vault seals the value anew, and the weights need not be touched.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from veilface_client.vault import Vault
from veilface_common import artifact, typed_json
from veilface_common.artifact import MANIFEST, WEIGHTS, Manifest
from veilface_common.budget.entries import canonical
from veilface_common.crypto import envelope
from veilface_common.errors import ArtifactError, VaultError
from veilface_common.files import write_atomically
from veilface_common.release import MAX_WEIGHT_BYTES, Release

MODELS = "models"
SEALED = "model.sealed"
_VALUE = "models"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What the vault knows of models."""

    in_use: str = ""  # SHA-256 of its weights, hex; empty: none yet
    newest: Mapping[str, int] = field(default_factory=dict)  # coordinator -> number of a release
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)  # SHA-256 -> key, hex


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model as it came: both files, and what the first of them says."""

    manifest: bytes
    weights: bytes = field(repr=False)
    parsed: Manifest


def read_model(folder: Path) -> Model:
    """Return the model in a folder, its weights not yet looked at.

    Raises:
        ArtifactError: a file is missing, damaged or too long.
    """
    manifest = artifact.read_manifest_file(folder)
    return Model(
        manifest=manifest,
        weights=artifact.read_weights_file(folder),
        parsed=artifact.parse_manifest(manifest, str(folder / MANIFEST)),
    )


def read_taken(vault: Vault) -> Taken:
    """Return what the vault knows of models. Raises VaultError where that was altered."""
    stored = vault.secret(_VALUE)
    return Taken() if stored is None else typed_json.from_json(Taken, json.loads(stored), _VALUE)


def add_model(folder: Path, vault: Vault, model: Model) -> str:
    """Seal a model's weights into the organisation's folder and return its digest.

    Raises:
        VaultError: the vault cannot be written.
        OSError: the disk is full; the model in use is as it was.
    """
    digest, taken = model.parsed.sha256, read_taken(vault)
    if digest not in taken.keys:
        keys = {digest: secrets.token_hex(envelope.KEY_BYTES)}
        if taken.in_use in taken.keys:  # of others that were begun and never used, none is kept
            keys[taken.in_use] = taken.keys[taken.in_use]
        taken = replace(taken, keys=keys)
        _write_taken(vault, taken)
    target = model_folder(folder, digest)
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = bytes.fromhex(taken.keys[digest])
    write_atomically(
        target / SEALED, envelope.seal(key, model.weights, _bound(digest, model.manifest))
    )
    write_atomically(target / MANIFEST, model.manifest)
    return digest


def use_model(folder: Path, vault: Vault, digest: str, release: Release | None) -> None:
    """Say that a model is in use from now on; the keys of all others are gone, and their files."""
    taken = read_taken(vault)
    newest = dict(taken.newest)
    if release is not None:
        newest[release.coordinator] = release.sequence
    keys = {digest: taken.keys[digest]}
    _write_taken(vault, Taken(in_use=digest, newest=newest, keys=keys))
    for other in (folder / MODELS).iterdir():
        if other != model_folder(folder, digest):
            shutil.rmtree(other, ignore_errors=True)


def open_model(folder: Path, taken: Taken, digest: str) -> tuple[nn.Module, Manifest]:
    """Return the network and the manifest of a model that the vault has the key of.

    Raises:
        ArtifactError: a file is missing, altered, or of another model than the vault knows.
    """
    target = model_folder(folder, digest)
    hint = "veilface model accept takes a release into use"
    try:
        if (target / SEALED).stat().st_size > MAX_WEIGHT_BYTES + 64:
            raise ArtifactError(f"expected at most {MAX_WEIGHT_BYTES} bytes in {target / SEALED}")
        key, sealed = bytes.fromhex(taken.keys[digest]), (target / SEALED).read_bytes()
        manifest = artifact.read_manifest_file(target)
        weights = envelope.unseal(key, sealed, _bound(digest, manifest))
    except (OSError, KeyError):
        raise ArtifactError(
            f"expected the sealed weights of model {digest[:16]}, got none", hint=hint
        ) from None
    except VaultError:
        raise ArtifactError(
            f"expected the sealed weights of model {digest[:16]}, got altered or older ones",
            hint=hint,
        ) from None
    parsed = artifact.parse_manifest(manifest, str(target))
    return artifact.network_of(parsed, weights, str(target)), parsed


def adopt_clear_model(folder: Path, vault: Vault, digest: str) -> bool:
    """Seal the model that an older version of the program left in clear; say whether there was one.

    Raises:
        ArtifactError: it is not the one of this digest.
        VaultError: the vault cannot be written.
    """
    target = model_folder(folder, digest)
    if not digest or not (target / WEIGHTS).exists():
        return False
    if read_taken(vault).in_use == digest:  # cut off before the last line
        (target / WEIGHTS).unlink()
        return False
    model = read_model(target)
    if model.parsed.sha256 != digest:
        raise ArtifactError(f"expected model {digest[:16]} in {target}, got another")
    artifact.network_of(model.parsed, model.weights, str(target))
    add_model(folder, vault, model)
    use_model(folder, vault, digest, release=None)
    (target / WEIGHTS).unlink()
    return True


def model_folder(folder: Path, digest: str) -> Path:
    """Return where a model lies."""
    return folder / MODELS / digest[:16]


def _bound(digest: str, manifest: bytes) -> bytes:
    return envelope.associated("model weights", digest, hashlib.sha256(manifest).digest())


def _write_taken(vault: Vault, taken: Taken) -> None:
    vault.set_secret(_VALUE, canonical(typed_json.to_json(taken)).encode())
