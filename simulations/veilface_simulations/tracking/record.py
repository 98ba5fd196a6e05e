"""What was measured: `tracks.json`, schema 1, described in `docs/tracks.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veilface_common import typed_json
from veilface_common.errors import ArtifactError
from veilface_common.files import PUBLIC, write_atomically
from veilface_simulations.tracking.figures import Figure

SCHEMA = 1
FILE_NAME = "tracks.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one way of putting tracks together does under one condition."""

    condition: str  # clean, known, new: see `videos.CONDITIONS`
    way: str  # mean, best, recurrent, "recurrent, private", free
    rates: Mapping[str, Figure]  # eer, tar@1e-2
    less_mean: Mapping[str, Figure]  # the same, less those of the way "mean"
    spoilt_weight: float | None  # what spoilt frames weigh in a track, mean


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """How a way does on pseudo-tracks of the people that the free network was trained on."""

    way: str
    eer: float


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that was measured."""

    name: str  # its folder
    sha256: str  # of its weights
    network: str
    track: str  # what weighs frames; none


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Everything that was found, and what repeats it."""

    rows: tuple[Row, ...]
    model: Model
    private: Model | None = None
    free_data: str | None = None  # what the free network was trained on
    free_people: int = 0
    learnt: tuple[Learnt, ...] = ()
    data: str
    half: str
    people: int
    videos: int
    frames: int
    spoilt_share: float
    levels: tuple[int, ...]
    kinds: Mapping[str, tuple[str, ...]]  # that go wrong under each condition
    resamples: int
    seed: int
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str
    started: str  # ISO 8601, UTC
    seconds: float

    def row(self, condition: str, way: str) -> Row:
        """Return one row. Raises StopIteration where there is none."""
        return next(row for row in self.rows if (row.condition, row.way) == (condition, way))

    def ways(self) -> tuple[str, ...]:
        """Return the names of the ways that were measured."""
        return tuple(dict.fromkeys(row.way for row in self.rows))

    def conditions(self) -> tuple[str, ...]:
        """Return the names of the conditions."""
        return tuple(dict.fromkeys(row.condition for row in self.rows))


def to_json(measured: Measurement) -> dict[str, Any]:
    """Return what stands in `tracks.json`."""
    return {"schema": SCHEMA, **typed_json.to_json(measured)}


def from_json(value: object) -> Measurement:
    """Return what `to_json` wrote.

    Raises:
        ArtifactError: another schema, a missing key or a value of another type.
    """
    schema = value.get("schema") if isinstance(value, Mapping) else type(value).__name__
    if schema != SCHEMA:
        raise ArtifactError(f"expected {FILE_NAME} of schema {SCHEMA}, got {schema!r}")
    return typed_json.from_json(Measurement, value, FILE_NAME)


def save_measurement(measured: Measurement, path: Path) -> None:
    """Write it to the file `path`: whole, or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(to_json(measured), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode(), mode=PUBLIC)
