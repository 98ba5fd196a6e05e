"""What the tests of the vault share: a vault in a folder, and people whose bytes can be found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veilface_client.key_providers.key_file import KeyFileProvider
from veilface_client.vault import Enrolled, Newcomer, Record, Sample, Vault, create_vault

KEY = bytes(range(32))
PROVIDER = KeyFileProvider(KEY)
ORGANISATION = "Museum"
MODEL, NEXT_MODEL = "ab" * 32, "cd" * 32
DIMENSION = 16
RECORD = Record(
    name="Ada Lovelace",
    purpose="opening the archive's door",
    legal_basis="consent, article 9(2)(a)",
    consent_version="door-3",
    consent_time="2026-03-01T09:30:00+00:00",
    retention_date="2027-03-01",
    created="2026-03-01T09:31:00+00:00",
)
HOLDER = replace(RECORD, name="Grace Hopper", mode="holder")


def vector(number: int, dimension: int = DIMENSION) -> NDArray[np.float16]:
    """Return a unit vector [D] of its own for each number."""
    found = np.random.default_rng(number).standard_normal(dimension)
    return (found / np.linalg.norm(found)).astype("<f2")


def crop(number: int) -> NDArray[np.uint8]:
    """Return a crop [12, 12, 3] of its own for each number."""
    return np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)


def sample(number: int, model: str = MODEL, *, with_crop: bool = False) -> Sample:
    """Return one photograph of a person."""
    kept = crop(number) if with_crop else None
    return Sample(model=model, alignment="centre", vector=vector(number), crop=kept)


def person(number: int) -> Newcomer:
    """Return somebody to be enrolled."""
    return Newcomer(record=replace(RECORD, name=f"Person {number}"), samples=[sample(number)])


def new_vault(folder: Path) -> Vault:
    """Return a vault with nobody in it."""
    return create_vault(folder / "vault.db", ORGANISATION, PROVIDER)


def filled(vault: Vault, count: int, start: int = 0) -> list[Enrolled]:
    """Enrol people numbered from `start`, together."""
    return vault.enrol_all([person(number) for number in range(start, start + count)])


def unlocked(path: Path) -> Vault:
    """Return the vault in a file."""
    return Vault.unlock(path, PROVIDER)


def loaded(vault: Vault) -> dict[str, list[bytes]]:
    """Return all templates that may be searched, by person."""
    found: dict[str, list[bytes]] = {}
    for segment in vault.segments(MODEL):
        for owner, template in zip(segment.owners, segment.vectors, strict=True):
            found.setdefault(owner.tobytes().hex(), []).append(template.tobytes())
    return found
