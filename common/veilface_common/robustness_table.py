"""What a release says of bad light, poor cameras and covered faces: robustness.json, made short.

    read_table(file) -> RobustnessTable    of what `veilface-sim robustness` measured

docs/robustness.md says how it is measured. All rates are shares in [0, 1] at the one threshold at
which `rate` of the strangers are accepted while nothing is perturbed, rounded to four decimals.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from veilface_common import typed_json
from veilface_common.errors import ArtifactError

SCHEMA = 1  # of robustness.json
MAX_FILE_BYTES = 1 << 22
MAX_PERTURBATIONS = 64
MAX_LEVELS = 10
MAX_NAME = 60
_DECIMALS = 4
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """How many are accepted."""

    tar: float  # of the right people
    false_match_rate: float  # of strangers


@dataclass(frozen=True, kw_only=True)
class Perturbed:
    """What one perturbation leaves, by rising level."""

    name: str
    amounts: tuple[float, ...]  # what each level means
    tar: tuple[float, ...]
    false_match_rate: tuple[float, ...]

    def __post_init__(self) -> None:
        _verify_name("a perturbation", self.name)
        levels = {len(self.amounts), len(self.tar), len(self.false_match_rate)}
        if len(levels) != 1 or not 1 <= len(self.amounts) <= MAX_LEVELS:
            raise _unusable(f"1 to {MAX_LEVELS} levels of {self.name}, each with all figures")
        if not all(map(math.isfinite, self.amounts)):
            raise _unusable(f"finite amounts of {self.name}")
        _verify_shares(self.name, (*self.tar, *self.false_match_rate))


@dataclass(frozen=True, kw_only=True)
class RobustnessTable:
    """What a model keeps under each perturbation, and on whom that was measured."""

    sha256: str  # of the weights that were measured
    data: str  # kind and name of the photographs
    detector: str | None  # None: faces were where the makers of the set have them
    people: int
    rate: float  # false match rate on clean faces that the threshold was chosen for
    clean: Accepted
    mean_relative_loss: float | None  # of TAR; None: nobody is accepted on clean faces
    perturbations: tuple[Perturbed, ...]

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.sha256):
            raise _unusable("the SHA-256 of the weights that were measured")
        _verify_name("the data", self.data)
        if self.detector is not None:
            _verify_name("the detector", self.detector)
        if not 2 <= self.people < 1 << 53:
            raise _unusable("two people or more")
        _verify_shares("the clean rates", (self.rate, self.clean.tar, self.clean.false_match_rate))
        if self.mean_relative_loss is not None and not -math.inf < self.mean_relative_loss <= 1:
            raise _unusable("a mean relative loss of at most 1")
        names = {one.name for one in self.perturbations}
        if not 1 <= len(names) == len(self.perturbations) <= MAX_PERTURBATIONS:
            raise _unusable(f"1 to {MAX_PERTURBATIONS} perturbations, each once")
        if len({len(one.amounts) for one in self.perturbations}) != 1:
            raise _unusable("as many levels of each perturbation")

    def mean_tar(self) -> float:
        """Return the TAR, averaged over all perturbations and levels."""
        rates = [rate for one in self.perturbations for rate in one.tar]
        return sum(rates) / len(rates)

    def most_open(self) -> tuple[str, int, float]:
        """Return the perturbation and level at which most strangers are accepted, and how many."""
        return max(
            (
                (one.name, level, rate)
                for one in self.perturbations
                for level, rate in enumerate(one.false_match_rate, start=1)
            ),
            key=lambda place: place[2],
        )


def in_one_line(table: RobustnessTable | None) -> str:
    """Return the figures that stand for the whole table."""
    if table is None:
        return "not measured"
    lost = table.mean_relative_loss
    name, level, most = table.most_open()
    return (
        f"right people accepted: {table.clean.tar:.1%} clean, {table.mean_tar():.1%} perturbed"
        + ("" if lost is None else f" (mean relative loss {lost:.3f})")
        + f"; strangers: {table.clean.false_match_rate:.1%}, at most {most:.1%} ({name}, level "
        f"{level}); {table.people} people of {table.data}"
    )


def read_table(path: Path) -> RobustnessTable:
    """Return the table of what was measured.

    Raises:
        ArtifactError: the file is missing, too long, or no robustness.json of schema 1.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ArtifactError(f"expected at most {MAX_FILE_BYTES} bytes in {path}, got more")
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"expected a measurement in {path}, got no readable file",
            hint="veilface-sim robustness --model DIR --data SOURCE --out OUT writes one",
        ) from error
    return parse_measured(content, path.name)


def parse_measured(content: bytes, where: str) -> RobustnessTable:
    """Return the table of the bytes of a robustness.json.

    Raises:
        ArtifactError: they are none of schema 1, or say what cannot be.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, Mapping) or body.get("schema") != SCHEMA:
        raise ArtifactError(f"expected robustness.json of schema {SCHEMA} in {where}, got another")
    return _table(typed_json.from_json(_File, body, where))


@dataclass(frozen=True, kw_only=True)
class _Cell:
    perturbation: str
    level: int
    rates: Accepted


@dataclass(frozen=True, kw_only=True)
class _Measured:
    sha256: str
    clean: Accepted
    cells: tuple[_Cell, ...]
    mean_relative_loss: float | None


@dataclass(frozen=True, kw_only=True)
class _Definition:
    name: str
    amounts: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class _File:
    """The keys of robustness.json that are looked at."""

    perturbations: tuple[_Definition, ...]
    model: _Measured
    data: str
    detector: str | None
    rate: float
    people: int


def _table(measured: _File) -> RobustnessTable:
    model = measured.model
    cells = {(cell.perturbation, cell.level): cell.rates for cell in model.cells}
    places = [
        (one.name, level)
        for one in measured.perturbations
        for level in range(1, len(one.amounts) + 1)
    ]
    if len(model.cells) != len(places) or set(cells) != set(places):
        raise _unusable("figures of each perturbation at each level, once")
    loss = model.mean_relative_loss
    return RobustnessTable(
        sha256=model.sha256,
        data=_without_folders(measured.data),
        detector=None if measured.detector is None else _without_folders(measured.detector),
        people=measured.people,
        rate=measured.rate,
        clean=Accepted(
            tar=_short(model.clean.tar), false_match_rate=_short(model.clean.false_match_rate)
        ),
        mean_relative_loss=None if loss is None else _short(loss),
        perturbations=tuple(_row(one, cells) for one in measured.perturbations),
    )


def _row(kind: _Definition, cells: Mapping[tuple[str, int], Accepted]) -> Perturbed:
    rates = [cells[kind.name, level] for level in range(1, len(kind.amounts) + 1)]
    return Perturbed(
        name=kind.name,
        amounts=kind.amounts,
        tar=tuple(_short(one.tar) for one in rates),
        false_match_rate=tuple(_short(one.false_match_rate) for one in rates),
    )


def _without_folders(source: str) -> str:
    """Return `lfw:/home/ada/lfw` as `lfw:lfw`: folders of a machine stay there."""
    kind, colon, rest = source.partition(":")
    return kind + colon + PurePath(rest).name


def _short(rate: float) -> float:
    return round(rate, _DECIMALS)


def _verify_name(what: str, name: str) -> None:
    if not (0 < len(name) <= MAX_NAME and name.isprintable()):
        raise _unusable(f"a name of {what} of at most {MAX_NAME} printable characters")


def _verify_shares(what: str, shares: tuple[float, ...]) -> None:
    if not all(0 <= share <= 1 for share in shares):  # neither is NaN
        raise _unusable(f"{what} as shares in [0, 1]")


def _unusable(expected: str) -> ArtifactError:
    return ArtifactError(f"expected {expected} in a robustness table, got others")
