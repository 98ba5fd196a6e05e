"""A model as a federation releases it: a manifest that says all about it, signed.

    signature = Ed25519 of the coordinator, purpose "release", over canonical JSON of all other keys

docs/releases.md has the keys. Who takes a release into use has it verified in this order
(`verify_manifest`, then `verify_weights`), and nothing of it is used before the last:

1. the manifest is JSON of schema 2, of at most 1 MiB
2. it names a coordinator whose key is pinned, and that key signed it
3. every key has the type that it must have
4. the network and what comes before it are known here
5. its number is above that of the newest release of this coordinator that was taken
6. the weights have the length and the SHA-256 that it names
7. they are arrays of that network, all of them finite
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from veilface_common import models, tensors, typed_json
from veilface_common.budget.entries import Head, canonical
from veilface_common.config import ModelConfig, PrivacyUnit
from veilface_common.crypto.signing import SigningKey, VerifyKey
from veilface_common.errors import ArtifactError, SignatureError, VeilfaceError
from veilface_common.models.weights import load_weights
from veilface_common.preprocessing import Preprocessing, preprocessing_of
from veilface_common.robustness_table import RobustnessTable

SCHEMA = 2
MAX_MANIFEST_BYTES = 1 << 20
MAX_WEIGHT_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Steps of one mechanism (`budget.events`): what epsilon is computed from."""

    sample_rate: float
    noise_multiplier: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What one organisation gave to a model, and what that cost whom its data are of."""

    name: str
    rounds: int  # in which its update was accepted
    figures: bool  # whether it released figures of the model
    ledger: Head | None  # the newest entry that it paid with; None: it keeps no ledger
    charges: tuple[Steps, ...]
    epsilon: float | None  # of these charges; None: nothing bounds what its updates tell


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How well the model does on people who were held out, with 95% intervals."""

    eer: float
    low: float
    high: float
    tar_at_far_1e_2: float | None  # None: noise hides so small a false accept rate
    tar_low: float | None
    tar_high: float | None
    organisations: int  # whose noised histograms were summed


@dataclass(frozen=True, kw_only=True)
class Release:
    """A released model's manifest."""

    federation: str
    sequence: int  # of the coordinator's releases, from 1
    made: str  # ISO 8601, UTC
    network: ModelConfig
    preprocessing: Preprocessing
    sha256: str  # of the weights: safetensors, of
    size: int  # of these, in bytes
    rounds: int
    settings: str  # digest of the run's
    parent: str | None  # SHA-256 of the weights that the first round started from; None: drawn
    unit: PrivacyUnit  # whom every epsilon speaks of
    delta: float  # at which it is told
    organisations: tuple[Contribution, ...]
    evaluation: Evaluation | None
    licence: str
    software: Mapping[str, str]
    coordinator: str  # fingerprint of the key that signs
    robustness: RobustnessTable | None = None  # None: the coordinator did not measure it
    signature: str = ""  # hex

    def __post_init__(self) -> None:
        if self.sequence < 1:
            raise ArtifactError(f"expected a release's number from 1 on, got {self.sequence}")
        if self.robustness is not None and self.robustness.sha256 != self.sha256:
            raise ArtifactError(
                f"expected robustness of the weights {self.sha256[:16]} that are released, "
                f"got that of {self.robustness.sha256[:16]}",
                hint="veilface-sim robustness --model measures the weights in a folder",
            )

    def signed(self, key: SigningKey) -> Release:
        """Return the release, signed by this key and naming it."""
        named = replace(self, coordinator=key.public.fingerprint)
        message = _message(_body(named))
        return replace(named, signature=key.sign("release", message).hex())


def to_bytes(release: Release) -> bytes:
    """Return the manifest as it is stored and sent."""
    return (json.dumps(_body(release), indent=2, ensure_ascii=False) + "\n").encode()


def parse(content: bytes, where: str = "the manifest") -> Release:
    """Return the release that a manifest speaks of; nothing says that it speaks the truth.

    Raises:
        ArtifactError: it is no manifest of this schema.
    """
    return _typed(read_body(content, where), where)


def read_body(content: bytes, where: str = "the manifest") -> dict[str, Any]:
    """Return a manifest as JSON, of whichever schema.

    Raises:
        ArtifactError: it is none, or too long for one.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise ArtifactError(f"expected at most {MAX_MANIFEST_BYTES} bytes in {where}, got more")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or "schema" not in body:
        raise ArtifactError(f"expected a manifest in {where}, got a damaged file")
    return body


def verify_manifest(
    content: bytes, keys: Mapping[str, VerifyKey], taken: Mapping[str, int]
) -> Release:
    """Return what a manifest says, once it may be believed: rules 1 to 5 of the above.

    Args:
        content: of the file.
        keys: of the coordinators that are trusted, by fingerprint.
        taken: {fingerprint: number of the newest release that was taken into use}.

    Raises:
        SignatureError: nobody signed it, or somebody else, or it was altered since.
        ArtifactError: it is damaged, of an unknown network, or not newer than what was taken.
    """
    body = read_body(content)
    if body["schema"] != SCHEMA:
        raise SignatureError(
            "expected a signed release, got a model that nobody signed",
            hint="veilface-server release makes one of a finished run",
        )
    _verify_signature(body, keys)
    release = _typed(body, "the manifest")
    if release.preprocessing != preprocessing_of(release.network):
        raise ArtifactError(
            "expected the preprocessing that this program does, got another",
            hint="the release was made for another version of Veilface: "
            + release.software.get("veilface", "an unknown one"),
        )
    newest = taken.get(release.coordinator, 0)
    if release.sequence <= newest:
        raise ArtifactError(
            f"expected a release after number {newest}, which was taken into use, "
            f"got number {release.sequence}",
            hint="it is the newest"
            if release.sequence == newest
            else "an older model never comes back; the coordinator can release it anew",
        )
    return release


def verify_weights(release: Release, weights: bytes) -> nn.Module:
    """Return the network with these weights, once they are the release's: rules 6 and 7.

    Raises:
        ArtifactError: they are not.
    """
    if len(weights) != release.size or hashlib.sha256(weights).hexdigest() != release.sha256:
        raise ArtifactError(
            f"expected the weights that release {release.sequence} names, got others",
            hint="cut off or altered on the way, or of another release: fetch both again",
        )
    return network_with(release.network, weights, f"release {release.sequence}")


def network_with(model: ModelConfig, weights: bytes, where: str) -> nn.Module:
    """Return the network with these weights, ready to embed.

    Raises:
        ArtifactError: they are no arrays of this network, or not finite.
    """
    network = models.build(model, seed=0)
    try:
        load_weights(network, tensors.from_bytes(weights))
    except VeilfaceError as error:
        raise ArtifactError(f"the weights in {where} do not fit their network: {error}") from error
    return network.eval()


def _verify_signature(body: Mapping[str, Any], keys: Mapping[str, VerifyKey]) -> None:
    named = body.get("coordinator")
    key = keys.get(named) if isinstance(named, str) else None
    if key is None:
        known = ", ".join(sorted(keys)) or "none"
        raise SignatureError(
            f"expected a release of a coordinator that is pinned here ({known}), got another's",
            hint="veilface join INVITATION pins a federation's coordinator",
        )
    try:
        key.verify("release", _message(body), bytes.fromhex(str(body.get("signature"))))
    except (SignatureError, ValueError):
        raise SignatureError(
            f"expected a manifest that key {key.fingerprint} signed, got an altered one",
            hint="fetch it again; do not edit it",
        ) from None


def _message(body: Mapping[str, Any]) -> bytes:
    """Return what is signed: all keys, those too that this version does not know."""
    return canonical({key: value for key, value in body.items() if key != "signature"}).encode()


def _body(release: Release) -> dict[str, Any]:
    return {"schema": SCHEMA, **typed_json.to_json(release)}


def _typed(body: Mapping[str, Any], where: str) -> Release:
    if body["schema"] != SCHEMA:
        raise ArtifactError(f"expected schema {SCHEMA} in {where}, got {body['schema']!r}")
    try:
        return typed_json.from_json(Release, body, where)
    except ArtifactError:
        raise
    except VeilfaceError as error:  # a network's dimension that no network has
        raise ArtifactError(f"expected a release in {where}: {error}") from error
