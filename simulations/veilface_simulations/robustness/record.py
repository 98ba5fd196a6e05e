"""What was measured: `robustness.json`, schema 1, described in `docs/robustness.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veilface_common import typed_json
from veilface_common.errors import ArtifactError
from veilface_common.files import PUBLIC, write_atomically
from veilface_common.metrics import Interval
from veilface_simulations.robustness.figures import Rates
from veilface_simulations.robustness.relative import Relative

SCHEMA = 1
FILE_NAME = "robustness.json"


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A perturbation as it was when this was measured."""

    name: str
    meaning: str
    amounts: tuple[float, ...]  # of each level


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A perturbation at a level, and what it did."""

    perturbation: str
    level: int
    rates: Rates


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One model under all perturbations."""

    name: str  # its folder
    sha256: str  # of its weights
    network: str
    threshold: float  # cosine
    clean: Rates
    cells: tuple[Cell, ...]
    mean_relative_loss: float | None
    intervals: Mapping[str, Interval] = field(default_factory=dict)  # mean_relative_loss

    def worst(self) -> Cell:
        """Return where the fewest right people are accepted."""
        return min(self.cells, key=lambda cell: cell.rates.tar)

    def most_open(self) -> Cell:
        """Return where the most strangers are accepted."""
        return max(self.cells, key=lambda cell: cell.rates.false_match_rate)

    def mean_tar(self) -> float:
        """Return the TAR, averaged over all perturbations and levels."""
        return sum(cell.rates.tar for cell in self.cells) / len(self.cells)

    def perturbations(self) -> tuple[str, ...]:
        """Return the names of what was done to the probes."""
        return tuple(dict.fromkeys(cell.perturbation for cell in self.cells))

    def levels_of(self, perturbation: str) -> tuple[Rates, ...]:
        """Return the rates of a perturbation, by rising level."""
        return tuple(cell.rates for cell in self.cells if cell.perturbation == perturbation)


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Everything that a measurement found, and what repeats it."""

    perturbations: tuple[Definition, ...]
    model: Measured
    baseline: Measured | None = None
    relative: Relative | None = None  # of the model to the baseline
    data: str
    detector: str | None = None  # None: faces are where the makers of the set have them
    rate: float  # false match rate on clean faces that the thresholds give
    people: int
    probes: int
    impostor_pairs: int
    resamples: int
    seed: int
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str
    started: str  # ISO 8601, UTC
    seconds: float


def to_json(robustness: Robustness) -> dict[str, Any]:
    """Return what stands in `robustness.json`."""
    return {"schema": SCHEMA, **typed_json.to_json(robustness)}


def from_json(value: object) -> Robustness:
    """Return what `to_json` wrote.

    Raises:
        ArtifactError: another schema, a missing key or a value of another type.
    """
    schema = value.get("schema") if isinstance(value, Mapping) else type(value).__name__
    if schema != SCHEMA:
        raise ArtifactError(f"expected {FILE_NAME} of schema {SCHEMA}, got {schema!r}")
    return typed_json.from_json(Robustness, value, FILE_NAME)


def save_robustness(robustness: Robustness, path: Path) -> None:
    """Write it to the file `path`: whole, or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(to_json(robustness), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode(), mode=PUBLIC)
