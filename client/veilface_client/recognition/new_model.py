"""Taking a model into use: the first one, or another in place of the one that is in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from veilface_client import home, releases
from veilface_client.access_events import Detail
from veilface_client.embedding import Embedder
from veilface_client.model_store import (
    Model,
    add_model,
    open_model,
    read_model,
    read_taken,
    use_model,
)
from veilface_client.recognition.desk import Desk
from veilface_client.recognition.upkeep import Progress, no_progress
from veilface_client.roles import Actor
from veilface_client.vault import Sample
from veilface_common.errors import ArtifactError, ConfigError


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What a new model could be given, and who must come again."""

    model: str
    release: int | None  # its number; None: nobody released it
    moved: int
    come_again: tuple[str, ...]  # names


def accept(
    desk: Desk, actor: Actor, folder: Path | None, progress: Progress = no_progress
) -> Accepted:
    """Verify a model and take it into use: the crops that were kept are embedded anew.

    It can be cut off anywhere and begun again. Templates of the old model are removed, as nothing
    can be compared with them; people without a kept crop, and holders, must come again. The
    thresholds are the new model's own until it is calibrated.

    Args:
        desk: the organisation's.
        actor: who asks.
        folder: of the model; None: the newest release of the federation.
        progress: is told (what, done, of how many).

    Raises:
        AccessDenied: they may not.
        ArtifactError: the model cannot be trusted (`releases.verify`); that it was offered is
            written down, and nothing else happened.
        ConfigError: it is in use already, or the organisation is in no federation.
        FederationError: the coordinator does not answer, or has released nothing.
        VaultError, LogError: it could not be written; the old model stays in use.
    """
    desk.verify_may(actor, "migrate")
    with desk.changes:
        try:
            taken = read_taken(desk.vault)
            model = read_model(folder) if folder else releases.fetch(desk.folder, taken)
            releases.verify(desk.folder, taken, model)
        except ArtifactError as error:
            why = type(error).__name__
            desk.write("refused", actor, "refused", reason="model", details={"error": why})
            raise
        old = desk.model
        if model.parsed.sha256 == old:
            raise ConfigError("expected another model, got the one that is in use")
        digest = add_model(desk.folder, desk.vault, model)
        embedder = Embedder(*open_model(desk.folder, read_taken(desk.vault), digest))
        desk.settle(actor, kind="note", reason="a model was sealed")
        moved, come_again = _embed_all(desk, actor, embedder, digest, progress)
        if old:
            desk.vault.drop_model(old)  # before it is in use: cut off here, it can be begun again
        use_model(desk.folder, desk.vault, digest, model.parsed.release)
        figures = {"moved": moved, "come_again": len(come_again), **_details(model)}
        desk.settle(actor, kind="migrated", details=figures)
        desk.settings = replace(desk.settings, model=digest)
        home.save_settings(desk.folder, desk.settings)
        desk.forget_memory()
        _ = desk.embedder  # from here on it is the new one
    release = model.parsed.release
    return Accepted(
        model=digest,
        release=release.sequence if release else None,
        moved=moved,
        come_again=tuple(sorted(come_again)),
    )


def _embed_all(
    desk: Desk, actor: Actor, embedder: Embedder, digest: str, progress: Progress
) -> tuple[int, list[str]]:
    """Embed whose crops were kept; return how many they are, and who the others are."""
    everybody = desk.vault.people()
    come_again, moved = [], 0
    for number, person in enumerate(everybody):
        progress("migrate", number, len(everybody))
        if any(form.model == digest for form in person.forms):
            moved += 1  # before it was cut off
            continue
        keeps = any(form.kind == "crop" for form in person.forms)
        if person.record.mode == "holder" or not keeps:
            come_again.append(person.record.name)
            continue
        desk.vault.add(person.person, _embedded_again(desk, embedder, digest, person.person))
        desk.settle(actor, kind="migrated")
        moved += 1
    progress("migrate", len(everybody), len(everybody))
    return moved, come_again


def _embedded_again(desk: Desk, embedder: Embedder, digest: str, person: str) -> list[Sample]:
    samples = []
    for crop in desk.vault.templates(person, kind="crop"):
        vector = embedder.embed(np.asarray(crop.array, dtype=np.uint8))
        samples.append(Sample(model=digest, alignment=crop.form.alignment, vector=vector))
    return samples


def _details(model: Model) -> Mapping[str, Detail]:
    """Return which model it is, as the log has it."""
    release = model.parsed.release
    named: dict[str, Detail] = {"model": model.parsed.sha256}
    if release is not None:
        named |= {"release": release.sequence, "coordinator": release.coordinator}
    return named
