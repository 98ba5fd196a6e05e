"""The bundle that Flower ships to every organisation (its FAB): settings and no code.

It is the same for every run of a release of Veilface: all settings stand in it with their
defaults, and a run's own travel beside it, as `flwr run --run-config` takes them. So an
organisation's own program knows the one bundle that it may be sent, and refuses all others.

    pyproject.toml    which installed apps to load, and the settings
    .info/CONTENT     Flower's list of the files with their digests

The bytes of a FAB hang on the zlib that packed it (zlib-ng packs differently), so two machines
of the same release may name it by different digests; what is inside is the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from veilface_common.config import RunConfig, Scalar, to_flat
from veilface_common.errors import ArtifactError

NAME = "veilface-federation"
PUBLISHER = "veilface"
SETTINGS_FILE = "pyproject.toml"
CONTENT_FILE = ".info/CONTENT"
_LARGEST_FILE = 1 << 20  # bytes, unpacked; ours has some thousands
_MOST_FILES = 64


def bundle_files(defaults: RunConfig | None = None) -> dict[str, bytes]:
    """Return the files of the bundle; `defaults` are other settings than the release's own."""
    flat = to_flat(defaults or RunConfig())
    settings = "\n".join(f"{_key(name)} = {_toml(value)}" for name, value in flat.items())
    text = (
        "[build-system]\n"
        'requires = ["hatchling"]\n'
        'build-backend = "hatchling.build"\n'
        "[project]\n"
        f'name = "{NAME}"\n'
        f'version = "{version("veilface")}"\n'
        'description = "Settings of a federation; the code is the installed Veilface."\n'
        'license = "Apache-2.0"\n'
        "dependencies = []\n"
        "[tool.flwr.app]\n"
        f'publisher = "{PUBLISHER}"\n'
        "[tool.flwr.app.components]\n"
        'serverapp = "veilface_server.app:app"\n'
        'clientapp = "veilface_client.app:app"\n'
        f"[tool.flwr.app.config]\n{settings}\n"
    )
    return {SETTINGS_FILE: text.encode()}


def write_bundle(folder: Path, defaults: RunConfig | None = None) -> None:
    """Write the bundle's files into `folder`, where `flwr run` packs them from."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in bundle_files(defaults).items():
        (folder / name).write_bytes(content)


def build_bundle() -> bytes:
    """Return the FAB as Flower packs it on this machine."""
    from flwr.cli.build import build_fab_from_files  # noqa: PLC0415 -- takes a good second

    packed: bytes = build_fab_from_files(bundle_files())[0]
    return packed


def bundle_digest() -> str:
    """SHA-256 of the FAB as Flower packs it on this machine, hex."""
    return hashlib.sha256(build_bundle()).hexdigest()


def unpack_bundle(packed: bytes) -> Mapping[str, bytes]:
    """Return the files of a FAB, in memory; nothing of it is run or written.

    Raises:
        ArtifactError: it is no archive, names a file twice, or is larger than a bundle may be.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST_FILES or len({e.filename for e in entries}) < len(entries):
                raise ArtifactError("expected a bundle that names each of a few files once")
            return {entry.filename: _read(archive, entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
        raise ArtifactError("expected a bundle, got something that is no archive") from None


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as file:
        content = file.read(_LARGEST_FILE + 1)  # what an entry says of its size may be a lie
    if len(content) > _LARGEST_FILE:
        raise ArtifactError(f"expected files of at most {_LARGEST_FILE} bytes in a bundle")
    return content


def _key(name: str) -> str:
    return ".".join(f'"{part}"' for part in name.split("."))


def _toml(value: Scalar) -> str:
    """Return a scalar as TOML writes it; JSON agrees for every scalar that a setting may hold."""
    return json.dumps(value)
