"""A federation's releases, as an organisation gets them, and believes them.

    GET https://ADDRESS/veilface/releases/latest                  manifest.json
    GET https://ADDRESS/veilface/releases/NNNN/model.safetensors  the weights

HOME/training/coordinators/*.pub    keys of coordinators whose releases are believed

TLS says who is asked; whether a release is believed hangs on its signature alone. The weights are
asked for once the manifest is verified, and no more bytes of them are read than it names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from veilface_client.federation import AUTHORITY, load_federation, node_folder
from veilface_client.home_layout import training_folder
from veilface_client.identity import load_coordinators
from veilface_client.model_store import Model, Taken
from veilface_client.node.reaching import body_of, connected
from veilface_common.artifact import MANIFEST, network_of, parse_manifest
from veilface_common.crypto.signing import VerifyKey
from veilface_common.errors import ArtifactError, ConfigError, FederationError, SignatureError
from veilface_common.release import (
    MAX_MANIFEST_BYTES,
    MAX_WEIGHT_BYTES,
    Release,
    verify_manifest,
    verify_weights,
)

if TYPE_CHECKING:
    import httpx


def pinned(folder: Path) -> dict[str, VerifyKey]:
    """Return the keys of the coordinators whose releases are believed, by fingerprint.

    Raises:
        KeyFileError: a file is no public key.
    """
    return load_coordinators(training_folder(folder))


def verify(folder: Path, taken: Taken, model: Model) -> Release | None:
    """Return the release that a model is, once it may be taken into use.

    None for a model that nobody signs, which an organisation that is in no federation, and so
    trusts no coordinator, may take on its own word.

    Raises:
        ArtifactError: it may not; see `veilface_common.release` for what is looked at.
    """
    keys = pinned(folder)
    if model.parsed.release is None and not keys:
        network_of(model.parsed, model.weights, "the model")
        return None
    release = verify_manifest(model.manifest, keys, taken.newest)
    verify_weights(release, model.weights)
    return release


def fetch(folder: Path, taken: Taken) -> Model:
    """Return the newest release of the federation that the organisation has joined.

    Raises:
        ConfigError: it has joined none.
        FederationError: the coordinator does not answer, is another, or has released nothing.
        ArtifactError: what it answers may not be taken into use.
    """
    address, authority = load_federation(folder).address, node_folder(folder) / AUTHORITY
    try:
        certificate = authority.read_text(encoding="ascii")
    except (OSError, ValueError):
        raise ConfigError(
            f"expected the federation's certificate authority in {authority}, got none",
            hint="veilface join INVITATION writes it",
        ) from None
    with connected(address, certificate) as client:
        manifest = _get(client, "latest", MAX_MANIFEST_BYTES)
        release = verify_manifest(manifest, pinned(folder), taken.newest)
        if not 0 < release.size <= MAX_WEIGHT_BYTES:
            raise ArtifactError(f"expected weights of at most {MAX_WEIGHT_BYTES} bytes, got others")
        weights = _get(client, f"{release.sequence:04d}/model.safetensors", release.size)
    return Model(manifest=manifest, weights=weights, parsed=parse_manifest(manifest, MANIFEST))


def signer_of(folder: Path, manifest: bytes) -> str:
    """Return the fingerprint of the pinned coordinator who signed a manifest; empty: nobody.

    Whether the release is newer than another is not looked at.
    """
    try:
        return verify_manifest(manifest, pinned(folder), {}).coordinator
    except SignatureError:
        return ""


def _get(client: httpx.Client, name: str, most: int) -> bytes:
    """Return what the coordinator answers, at most so many bytes."""
    with client.stream("GET", f"/veilface/releases/{name}") as answer:
        if answer.status_code == 404:
            raise FederationError(
                "expected a release of the federation, got none",
                hint="the coordinator makes one with veilface-server release",
            )
        if answer.status_code != 200:
            raise FederationError(f"expected a release, got HTTP {answer.status_code}")
        return body_of(answer, most)
