"""A signed manifest: what is believed, and every way in which one is not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.common.robustness_parts import measured

from veilface_common import models, release, tensors
from veilface_common.budget.entries import Head, canonical
from veilface_common.config import ModelConfig
from veilface_common.crypto.signing import SigningKey
from veilface_common.errors import ArtifactError, SignatureError
from veilface_common.models.weights import read_weights
from veilface_common.preprocessing import preprocessing_of
from veilface_common.release import Contribution, Release, Steps, verify_manifest, verify_weights
from veilface_common.robustness_table import RobustnessTable, parse_measured

KEY, FOREIGN = SigningKey.from_seed(bytes(32)), SigningKey.from_seed(b"\1" * 32)
KEYS = {KEY.public.fingerprint: KEY.public}
MODEL = ModelConfig(name="classic", dimension=2)
WEIGHTS = tensors.to_bytes(read_weights(models.build(MODEL, seed=1)))
OTHERS = tensors.to_bytes(read_weights(models.build(MODEL, seed=2)))


def a_release(
    sequence: int = 3,
    weights: bytes = WEIGHTS,
    key: SigningKey = KEY,
    robustness: RobustnessTable | None = None,
) -> Release:
    """Return a signed release."""
    charges = (Steps(sample_rate=0.1, noise_multiplier=1.5, steps=20),)
    one = Contribution(
        name="ada-clinic",
        rounds=2,
        figures=False,
        ledger=Head(sequence=7, hash="ab" * 32),
        charges=charges,
        epsilon=1.25,
    )
    found = Release(
        federation="valley",
        sequence=sequence,
        made="2026-03-01T12:00:00+00:00",
        network=MODEL,
        preprocessing=preprocessing_of(MODEL),
        sha256=hashlib.sha256(weights).hexdigest(),
        size=len(weights),
        rounds=2,
        settings="cd" * 32,
        parent=None,
        unit="identity",
        delta=1e-5,
        organisations=(one,),
        evaluation=None,
        licence="members",
        software={"veilface": "0.1.0"},
        coordinator="",
        robustness=robustness,
    )
    return found.signed(key)


def a_table(weights: bytes = WEIGHTS) -> RobustnessTable:
    """Return what was measured of these weights."""
    digest = hashlib.sha256(weights).hexdigest()
    return parse_measured(json.dumps(measured(digest)).encode(), "robustness.json")


def changed(
    change: Callable[[dict[str, Any]], object],
    *,
    resign: bool = False,
    robustness: RobustnessTable | None = None,
) -> bytes:
    """Return a manifest that somebody edited; with `resign`, the coordinator itself."""
    body = json.loads(release.to_bytes(a_release(robustness=robustness)))
    change(body)
    if resign:
        rest = {key: value for key, value in body.items() if key != "signature"}
        body["signature"] = KEY.sign("release", canonical(rest).encode()).hex()
    return json.dumps(body).encode()


def test_what_was_signed_is_read() -> None:
    """The same release comes back, and with its weights the network that they are of."""
    content = release.to_bytes(a_release())
    found = verify_manifest(content, KEYS, {KEY.public.fingerprint: 2, "another": 9})
    assert found == a_release()
    network = verify_weights(found, WEIGHTS)
    assert tensors.to_bytes(read_weights(network)) == WEIGHTS


def test_the_signature_is_over_these_bytes() -> None:
    """Golden: whoever has Ed25519 and canonical JSON verifies a release without us."""
    body = json.loads(release.to_bytes(a_release()))
    signature = bytes.fromhex(body.pop("signature"))
    message = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert KEY.public._key.verify(signature, b"veilface\0release\0" + message.encode()) is None
    assert (body["schema"], body["coordinator"]) == (2, KEY.public.fingerprint)


def test_a_later_version_may_say_more() -> None:
    """A key that this version does not know is signed with the rest, and ignored."""
    content = changed(lambda body: body.update(colour="blue"), resign=True)
    assert verify_manifest(content, KEYS, {}).sequence == 3


FORGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "sequence": lambda body: body.update(sequence=4),
    "weights": lambda body: body.update(sha256="00" * 32),
    "epsilon": lambda body: body["organisations"][0].update(epsilon=0.1),
    "a_key_more": lambda body: body.update(colour="blue"),
    "a_key_less": lambda body: body.pop("licence"),
    "no_signature": lambda body: body.pop("signature"),
    "half_a_signature": lambda body: body.update(signature=body["signature"][:64]),
    "a_number_as_signature": lambda body: body.update(signature=5),
}


@pytest.mark.parametrize("what", FORGED)
def test_an_altered_manifest_is_refused(what: str) -> None:
    """One key that is not as it was signed, and nothing of it is believed."""
    with pytest.raises(SignatureError, match="altered"):
        verify_manifest(changed(FORGED[what]), KEYS, {})


def test_a_foreign_coordinator_is_refused() -> None:
    """Neither under its own name nor under that of the pinned one."""
    foreign = a_release(key=FOREIGN)
    with pytest.raises(SignatureError, match="another's"):
        verify_manifest(release.to_bytes(foreign), KEYS, {})
    posing = replace(foreign, coordinator=KEY.public.fingerprint)
    with pytest.raises(SignatureError, match="altered"):
        verify_manifest(release.to_bytes(posing), KEYS, {})


def test_an_unsigned_model_is_refused() -> None:
    """What a simulation writes is no release."""
    unsigned = {"schema": 1, "model": {"name": "classic"}, "sha256": "00" * 32, "training": {}}
    with pytest.raises(SignatureError, match="nobody signed"):
        verify_manifest(json.dumps(unsigned).encode(), KEYS, {})


@pytest.mark.parametrize("newest", [3, 4, 100])
def test_an_older_release_is_refused(newest: int) -> None:
    """Nor the same one again: a model that was replaced never comes back."""
    content = release.to_bytes(a_release(sequence=3))
    with pytest.raises(ArtifactError, match=f"after number {newest}"):
        verify_manifest(content, KEYS, {KEY.public.fingerprint: newest})


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an_unknown_network": (lambda body: body["network"].update(name="giant"), "name"),
    "an_absurd_dimension": (lambda body: body["network"].update(dimension=10**9), "dimension"),
    "other_pixels": (lambda body: body["preprocessing"].update(pixels=96), "preprocessing"),
    "another_alignment": (
        lambda body: body["preprocessing"]["landmarks"][0].__setitem__(0, 1.0),
        "preprocessing",
    ),
    "text_for_a_number": (lambda body: body.update(sequence="4"), "sequence"),
    "number_0": (lambda body: body.update(sequence=0), "from 1 on"),
    "no_organisations": (lambda body: body.pop("organisations"), "organisations"),
    "schema_3": (lambda body: body.update(schema=3), "release"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_signed_manifest_that_cannot_be_used_is_refused(what: str) -> None:
    """The coordinator's own signature does not make a network known, nor text a number."""
    change, reason = REFUSED[what]
    with pytest.raises(ArtifactError, match=reason):
        verify_manifest(changed(change, resign=True), KEYS, {})


def test_a_release_says_what_perturbations_leave() -> None:
    """The table is signed with the rest, and comes back; it is small beside the limit."""
    content = release.to_bytes(a_release(robustness=a_table()))
    assert verify_manifest(content, KEYS, {}).robustness == a_table()
    assert a_table().perturbations[0].tar == (0.7, 0.6, 0.5, 0.4, 0.3)


def test_a_manifest_of_before_tables_stays_valid() -> None:
    """Without the key, as an older coordinator signed it."""
    content = changed(lambda body: body.pop("robustness"), resign=True)
    assert b"robustness" not in content
    assert verify_manifest(content, KEYS, {}).robustness is None


def test_robustness_of_other_weights_is_not_released() -> None:
    """Neither made, nor taken where a coordinator signed it all the same."""
    with pytest.raises(ArtifactError, match="that are released, got that of") as refused:
        a_release(robustness=a_table(OTHERS))
    assert "veilface-sim robustness" in str(refused.value.hint)
    other = hashlib.sha256(OTHERS).hexdigest()
    with pytest.raises(ArtifactError, match="that are released, got that of"):
        verify_manifest(_with_table(lambda table: table.update(sha256=other)), KEYS, {})


def _with_table(change: Callable[[dict[str, Any]], object], *, resign: bool = True) -> bytes:
    return changed(lambda body: change(body["robustness"]), resign=resign, robustness=a_table())


TABLES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a_rate_above_1": (lambda table: table["perturbations"][0]["tar"].__setitem__(0, 1.1), "share"),
    "text_for_a_rate": (
        lambda table: table["perturbations"][0]["tar"].__setitem__(0, "0.1"),
        "tar",
    ),
    "a_level_less": (lambda table: table["perturbations"][0]["tar"].pop(), "levels"),
    "too_many_levels": (
        lambda table: [
            one.update({key: [0.5] * 11 for key in ("amounts", "tar", "false_match_rate")})
            for one in table["perturbations"]
        ],
        "levels",
    ),
    "too_many_perturbations": (
        lambda table: table.update(
            perturbations=[
                table["perturbations"][0] | {"name": str(number)} for number in range(65)
            ]
        ),
        "1 to 64",
    ),
    "a_long_name": (lambda table: table.update(data="x" * 61), "at most 60"),
    "signs_for_a_terminal": (lambda table: table.update(data="\x1b[2J"), "printable"),
    "nobody": (lambda table: table.update(people=0), "two people"),
    "more_than_a_manifest_holds": (lambda table: table.update(note="x" * 2**20), "at most"),
    "no_keys": (lambda table: (table.clear(), table.update(x=1)), "sha256"),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_that_cannot_be_is_refused(what: str) -> None:
    """Though the coordinator signed it."""
    change, reason = TABLES[what]
    with pytest.raises(ArtifactError, match=reason):
        verify_manifest(_with_table(change), KEYS, {})


def test_an_altered_table_is_refused() -> None:
    """A rate that somebody made nicer on the way."""
    nicer = _with_table(lambda table: table["clean"].update(tar=0.99), resign=False)
    with pytest.raises(SignatureError, match="altered"):
        verify_manifest(nicer, KEYS, {})


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff" * 9, b"[" * 10**5, b" " * 2**21])
def test_rubbish_is_refused(content: bytes) -> None:
    """Whatever stands there, the answer is an error of ours."""
    with pytest.raises(ArtifactError):
        verify_manifest(content, KEYS, {})


@pytest.mark.parametrize(
    "weights",
    [WEIGHTS[:-1], WEIGHTS + b"\0", WEIGHTS[:-4] + b"\0\0\0\1", OTHERS, b""],
    ids=["truncated", "longer", "altered", "of_another_release", "none"],
)
def test_other_weights_are_refused(weights: bytes) -> None:
    """Cut off, altered, or those of another release of the same network."""
    with pytest.raises(ArtifactError, match="got others"):
        verify_weights(a_release(), weights)


def test_signed_weights_that_are_no_network_are_refused() -> None:
    """Not finite, or of other shapes: the signature does not help."""
    broken = read_weights(models.build(MODEL, seed=1))
    first = next(iter(broken))
    broken[first] = broken[first] * np.float32("nan")
    wide = read_weights(models.build(replace(MODEL, dimension=3), seed=1))
    for weights in (tensors.to_bytes(broken), tensors.to_bytes(wide), b"no safetensors"):
        with pytest.raises(ArtifactError, match="do not fit"):
            verify_weights(a_release(weights=weights), weights)
