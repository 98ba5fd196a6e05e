"""Which bundles may start the courier here, and which were refused.

    HOME/node/approved.json    {"schema": 1, "bundles": [{"sha256": ..., "approved": ...}]}
    HOME/node/refused.jsonl    {"time": ..., "run": ..., "sha256": ..., "reason": ...}, one a line

The bundle of the installed release is always approved; it is known by what is in it. Every other
one is known by its SHA-256, which a person approved. Neither may carry code: the courier is the
installed one and nothing of a bundle is ever unpacked, so code in it can only be meant for
somebody who does not look.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from veilface_common import typed_json
from veilface_common.bundle import CONTENT_FILE, SETTINGS_FILE, bundle_files, unpack_bundle
from veilface_common.errors import AccessDenied, ArtifactError, ConfigError
from veilface_common.files import write_atomically

APPROVED = "approved.json"
REFUSED = "refused.jsonl"
SCHEMA = 1
_SHOWN = 100  # refusals that are read back; a coordinator may cause as many as it likes
_LARGEST_LOG = 1 << 20  # bytes, after which refusals are counted by nobody
_COURIER = "veilface_client.app:app"


@dataclass(frozen=True, kw_only=True)
class Approval:
    """A bundle that a person approved."""

    sha256: str
    approved: str  # when, UTC


@dataclass(frozen=True, kw_only=True)
class Approvals:
    """All of them, as they stand in the file."""

    schema: int = SCHEMA
    bundles: tuple[Approval, ...] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A bundle that was not let in."""

    time: str
    run: str
    sha256: str
    reason: str


def verify_bundle(packed: bytes, approved: Iterable[str]) -> None:
    """Do nothing if a bundle may start the courier; `approved` are SHA-256 of packed bundles.

    Raises:
        AccessDenied: it may not. The reason is for the coordinator, too.
    """
    digest = hashlib.sha256(packed).hexdigest()
    if digest not in set(approved) and not _is_our_own(packed):
        raise AccessDenied(
            f"expected a bundle that this organisation approved, got {digest}",
            hint="the same release of Veilface on both sides, or veilface node approve HASH",
        )
    files = _unpack(packed)
    others = sorted(set(files) - {SETTINGS_FILE, CONTENT_FILE})
    if others:
        raise AccessDenied(
            f"expected a bundle of settings alone, got {len(others)} more files, as {others[0]!r}"
        )
    if _at(_settings(files), "tool", "flwr", "app", "components", "clientapp") != _COURIER:
        raise AccessDenied(f"expected a bundle whose clientapp is {_COURIER}, got another")


def load_approved(folder: Path) -> Sequence[Approval]:
    """Return what people approved here, besides the installed release's own bundle.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / APPROVED
    try:
        found = typed_json.from_json(Approvals, json.loads(path.read_bytes()), APPROVED)
    except FileNotFoundError:
        return ()
    except (ArtifactError, ValueError):
        raise ConfigError(f"expected a list of approved bundles in {path}, got damage") from None
    if found.schema != SCHEMA:
        raise ConfigError(f"expected schema {SCHEMA} in {path}, got {found.schema}")
    return found.bundles


def approve(folder: Path, digest: str, now: datetime) -> None:
    """Approve one more bundle.

    Raises:
        ConfigError: it is no SHA-256, or the file is damaged.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ConfigError(
            "expected the SHA-256 of a bundle, 64 hex digits in lower case",
            hint="veilface node status shows what was refused",
        )
    known = load_approved(folder)
    if any(entry.sha256 == digest for entry in known):
        return
    entry = Approval(sha256=digest, approved=now.isoformat(timespec="seconds"))
    body = typed_json.to_json(Approvals(bundles=(*known, entry)))
    write_atomically(folder / APPROVED, (json.dumps(body, indent=2) + "\n").encode())


def note_refusal(folder: Path, refusal: Refusal) -> None:
    """Write a refusal down; a full disk or a full log takes none and refuses all the same."""
    line = json.dumps(typed_json.to_json(refusal)) + "\n"
    with suppress(OSError), (folder / REFUSED).open("a", encoding="utf-8") as log:
        if log.tell() < _LARGEST_LOG:
            log.write(line)


def load_refused(folder: Path) -> Sequence[Refusal]:
    """Return the last refusals, the oldest first; lines that a crash cut short are left out."""
    try:
        lines = (folder / REFUSED).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    refusals = []
    for line in lines[-_SHOWN:]:
        with suppress(ValueError, ArtifactError):
            refusals.append(typed_json.from_json(Refusal, json.loads(line), REFUSED))
    return refusals


def _is_our_own(packed: bytes) -> bool:
    """Whether a bundle holds the installed release's settings and nothing else."""
    try:
        files = unpack_bundle(packed)
    except ArtifactError:
        return False
    if set(files) != {SETTINGS_FILE, CONTENT_FILE}:
        return False
    with suppress(AccessDenied):
        return _exactly(_settings(files)) == _exactly(_settings(bundle_files()))
    return False


def _unpack(packed: bytes) -> Mapping[str, bytes]:
    try:
        return unpack_bundle(packed)
    except ArtifactError as error:
        raise AccessDenied(str(error)) from None


def _settings(files: Mapping[str, bytes]) -> Mapping[str, object]:
    try:
        return tomllib.loads(files[SETTINGS_FILE].decode())
    except (KeyError, ValueError, RecursionError):
        raise AccessDenied(f"expected a bundle with a {SETTINGS_FILE}, got none") from None


def _at(settings: object, *names: str) -> object:
    """Return the value under nested names, or nothing."""
    for name in names:
        settings = settings.get(name) if isinstance(settings, Mapping) else None
    return settings


def _exactly(settings: object) -> str:
    """Return settings as text, in which 1, 1.0 and true are not the same."""
    return json.dumps(settings, sort_keys=True, default=str)
