"""What small machines are given: the model in use as ONNX, and a sealed gallery for some days."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from veilface_client.access_events import Detail
from veilface_client.edge.export import Exported, export, released
from veilface_client.edge.gallery import EdgeGallery, Entry, Terms, seal_gallery
from veilface_client.edge.notes import Precision
from veilface_client.model_store import model_folder
from veilface_client.recognition import lines
from veilface_client.recognition.desk import Desk
from veilface_client.roles import Actor
from veilface_common.artifact import read_manifest_file
from veilface_common.crypto.envelope import key_id
from veilface_common.errors import ConfigError, DataError

MOST_DAYS = 31  # who is forgotten here is known there until the gallery ends


@dataclass(frozen=True, kw_only=True)
class SealedGallery:
    """A file for a small machine."""

    content: bytes = field(repr=False)
    people: int
    expires: str  # YYYY-MM-DD


def export_model(
    desk: Desk,
    actor: Actor,
    precision: Precision,
    *,
    with_gallery: bool = False,
    second: Actor | None = None,
) -> Exported:
    """Return the model in use as an ONNX file.

    Whoever may take everybody's templates out may take the model that belongs to them too.

    Raises:
        AccessDenied: they may not.
        ConfigError: no model is accepted, or what exports is not installed.
        ArtifactError: ONNX Runtime does not give what PyTorch gives.
        LogError: it could not be written down.
    """
    desk.verify_may(actor, "export-all" if with_gallery else "migrate", second)
    embedder = desk.embedder
    content = read_manifest_file(model_folder(desk.folder, desk.model))
    made = export(released(embedder.network, embedder.manifest, content), precision)
    details = {"model": desk.model, "file": made.digest, "precision": precision}
    desk.write("exported", actor, "done", reason="edge model", second=second, details=details)
    return made


def export_gallery(
    desk: Desk, actor: Actor, second: Actor | None, *, model: str, key: bytes, days: int
) -> SealedGallery:
    """Return everybody who may be identified, sealed for one ONNX file. It takes two people.

    Holders, whose templates open with their card alone, and whoever is due for erasure are left
    out.

    Args:
        desk: the organisation's.
        actor: who asks.
        second: who consents.
        model: SHA-256 of the ONNX file, hex.
        key: of the small machine, [32].
        days: for which it answers.

    Raises:
        AccessDenied: they may not, or a second person is missing.
        ConfigError: too long a time, or no threshold.
        DataError: nobody could be identified by it.
        VaultError, LogError: it could not be read or written down.
    """
    desk.verify_may(actor, "export-all", second)
    if not 1 <= days <= MOST_DAYS:
        raise ConfigError(f"expected 1 to {MOST_DAYS} days, got {days}")
    today = desk.clock().date()
    expires = (today + timedelta(days=days)).isoformat()
    with desk.changes:
        people, templates = _people(desk)
        line = lines.line(desk, "identify", len(templates))
    terms = Terms(
        organisation=desk.settings.name,
        model=model,
        detector=desk.detector.name,
        threshold=line.threshold,
        margin=desk.settings.margin,
        warning=line.warning,
        made=today.isoformat(),
        expires=expires,
        people=people,
    )
    content = seal_gallery(EdgeGallery(terms=terms, templates=templates), key)
    # Written down before it leaves: a crash may tell of a file that nobody has, never the reverse.
    details: dict[str, Detail] = {
        "persons": len(people),
        "expires": expires,
        "file": model,
        "key": key_id(key).hex(),
    }
    desk.write("exported", actor, "done", reason="edge gallery", second=second, details=details)
    return SealedGallery(content=content, people=len(people), expires=expires)


def _people(desk: Desk) -> tuple[tuple[Entry, ...], NDArray[np.float32]]:
    """Return who may be identified, by name, and their templates in that order: [N, D]."""
    today = desk.clock().date()
    rows: dict[str, list[NDArray[np.float16]]] = {}
    for segment in desk.vault.segments(desk.model):
        for owner, vector in zip(segment.owners, segment.vectors, strict=True):
            rows.setdefault(owner.tobytes().hex(), []).append(vector)
    records = {person: desk.vault.record(person) for person in rows}
    chosen = [person for person, record in records.items() if not record.is_due(today)]
    if not chosen:
        raise DataError(
            "expected somebody who may be identified, got nobody",
            hint="veilface people shows who is enrolled; holders of a card are left out",
        )
    chosen.sort(key=lambda person: records[person].name)
    entries = (
        Entry(
            name=records[person].name,
            until=records[person].retention_date,
            templates=len(rows[person]),
        )
        for person in chosen
    )
    stacked = np.concatenate([np.stack(rows[person]) for person in chosen])
    return tuple(entries), stacked.astype(np.float32)
