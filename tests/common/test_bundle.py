"""The bundle: settings, no code, the same for every run of a release."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from veilface_common.bundle import (
    build_bundle,
    bundle_digest,
    bundle_files,
    unpack_bundle,
    write_bundle,
)
from veilface_common.config import RunConfig, from_flat, to_flat
from veilface_common.errors import ArtifactError


def packed(*entries: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_bundle_is_settings_alone_and_always_the_same(tmp_path: Path) -> None:
    """No code; and Flower packs what lies on disk to the same digest."""
    from flwr.cli.build import build_fab_from_disk

    write_bundle(tmp_path / "bundle")
    assert set(unpack_bundle(build_bundle())) == {"pyproject.toml", ".info/CONTENT"}
    on_disk = build_fab_from_disk(tmp_path / "bundle")
    assert hashlib.sha256(on_disk).hexdigest() == bundle_digest()


def test_flower_reads_every_setting_from_it_and_takes_a_runs_own() -> None:
    """What `flwr run --run-config` says replaces the default, and nothing else changes."""
    from flwr.common.config import flatten_dict, fuse_dicts, get_fab_config

    defaults = flatten_dict(get_fab_config(build_bundle())["tool"]["flwr"]["app"]["config"])
    assert defaults == to_flat(RunConfig())
    fused = fuse_dicts(defaults, {"run": "0123456789abcdef", "seed": 7})
    assert from_flat(RunConfig, fused) == replace(RunConfig(), run="0123456789abcdef", seed=7)


def test_other_defaults_are_another_bundle() -> None:
    """Settings stand in it: a simulation's bundle is not the release's."""
    assert bundle_files(RunConfig(seed=3)) != bundle_files()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 and then nothing",
        build_bundle()[:-30],
        packed(("bomb", bytes((1 << 20) + 1))),
        packed(*((f"{number}.toml", b"") for number in range(65))),
    ],
    ids=["empty", "no-archive", "truncated", "bomb", "many"],
)
def test_what_is_no_bundle_is_refused(content: bytes) -> None:
    """Whatever a coordinator sends, it takes little memory to see what it is."""
    with pytest.raises(ArtifactError, match="expected"):
        unpack_bundle(content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_file_that_stands_twice_in_a_bundle_is_refused() -> None:
    """Of two files with one name, two readers may see two different ones."""
    with pytest.raises(ArtifactError, match="once"):
        unpack_bundle(packed(("pyproject.toml", b"a"), ("pyproject.toml", b"b")))
