"""Which bundles may start the courier: the release's own, and approved ones; none with code."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from veilface_client.node import bundles
from veilface_client.node.bundles import (
    Refusal,
    approve,
    load_approved,
    load_refused,
    note_refusal,
    verify_bundle,
)
from veilface_common.bundle import build_bundle, unpack_bundle
from veilface_common.errors import AccessDenied, ConfigError

OURS = unpack_bundle(build_bundle())
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def packed(files: Mapping[str, bytes], level: int = 6) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def edited(old: str, new: str) -> dict[str, bytes]:
    text = OURS["pyproject.toml"].decode()
    assert old in text
    return {**OURS, "pyproject.toml": text.replace(old, new, 1).encode()}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_releases_own_bundle_is_let_in_however_it_was_packed() -> None:
    """Another zlib gives other bytes for the same settings."""
    assert digest(packed(OURS, level=1)) != digest(packed(OURS, level=9))
    for content in (build_bundle(), packed(OURS, level=1), packed(OURS, level=9)):
        verify_bundle(content, ())


@pytest.mark.parametrize(
    "files",
    [
        edited("seed = 0", "seed = 1"),
        edited("flip = true", "flip = 1"),
        edited("scale = 16.0", "scale = 16"),
        edited('run = ""', 'run = ""\nkeeper = "unix:/elsewhere"'),
        {**OURS, "veilface_client/app.py": b"import os"},
        {name: content for name, content in OURS.items() if name != "pyproject.toml"},
    ],
    ids=["setting", "kind", "number", "keeper", "code", "nothing"],
)
def test_bundle_that_differs_is_refused_until_approved(files: dict[str, bytes]) -> None:
    """Whatever is different, in however small a way; the reason names the digest."""
    content = packed(files)
    with pytest.raises(AccessDenied, match=f"approved, got {digest(content)}"):
        verify_bundle(content, [digest(build_bundle())])


def test_approved_bundle_of_settings_is_let_in() -> None:
    """Another release's settings, which a person looked at."""
    content = packed(edited("seed = 0", "seed = 1"))
    verify_bundle(content, [digest(content)])


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({**OURS, "veilface_client/app.py": b"import os"}, "settings alone"),
        ({**OURS, "sitecustomize.py": b"import os"}, "settings alone"),
        ({**OURS, "pyproject.toml": b"seed ="}, "with a pyproject.toml"),
        ({**OURS, "pyproject.toml": b"tool = 3"}, "clientapp"),
        (edited("veilface_client.app:app", "os:system"), "clientapp"),
        (edited("veilface_client.app:app", "veilface_client.app:App"), "clientapp"),
    ],
)
def test_approved_bundle_with_code_is_refused_all_the_same(
    files: dict[str, bytes], reason: str
) -> None:
    """Somebody who approves does not always look."""
    content = packed(files)
    with pytest.raises(AccessDenied, match=reason):
        verify_bundle(content, [digest(content)])


def test_approvals_add_up_and_are_written_once(tmp_path: Path) -> None:
    """The list is what people approved, in their order."""
    for name in ("a" * 64, "b" * 64, "a" * 64):
        approve(tmp_path, name, NOW)
    assert [entry.sha256 for entry in load_approved(tmp_path)] == ["a" * 64, "b" * 64]


@pytest.mark.parametrize("name", ["", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_what_is_no_digest_cannot_be_approved(tmp_path: Path, name: str) -> None:
    """A shortened one would never match, silently."""
    with pytest.raises(ConfigError, match="64 hex digits"):
        approve(tmp_path, name, NOW)


def test_damaged_list_lets_nothing_in(tmp_path: Path) -> None:
    """Half a list is no list."""
    (tmp_path / bundles.APPROVED).write_text('{"schema": 1, "bund')
    with pytest.raises(ConfigError, match="damage"):
        load_approved(tmp_path)


def test_refusals_are_kept_and_a_flood_of_them_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator may cause as many as it likes."""
    monkeypatch.setattr(bundles, "_LARGEST_LOG", 2000)
    for number in range(100):
        refusal = Refusal(time="t", run=str(number), sha256="f" * 64, reason="r")
        note_refusal(tmp_path, refusal)
    assert [no.run for no in load_refused(tmp_path)[:3]] == ["0", "1", "2"]
    assert (tmp_path / bundles.REFUSED).stat().st_size < 2300
