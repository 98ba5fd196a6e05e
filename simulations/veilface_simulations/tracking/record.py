"""What was measured: `tracks.json`, schema 1, described in `docs/tracks.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from veilface_simulations.record_file import RecordFile
from veilface_simulations.tracking.figures import Figure


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


RECORD = RecordFile("tracks.json", Measurement)
