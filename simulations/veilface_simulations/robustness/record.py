"""What was measured: `robustness.json`, schema 1, described in `docs/robustness.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from veilface_common.metrics import Interval
from veilface_simulations.record_file import RecordFile
from veilface_simulations.robustness.figures import Rates
from veilface_simulations.robustness.relative import Relative


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


RECORD = RecordFile("robustness.json", Robustness)
