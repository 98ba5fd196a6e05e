"""What a run found: `result.json`, schema 1, described in `docs/result-schema.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veilface_common import typed_json
from veilface_common.errors import ArtifactError
from veilface_common.files import PUBLIC, write_atomically
from veilface_common.lfw_pairs import PairsFigures
from veilface_common.metrics import Figures
from veilface_common.score_histograms import Reported
from veilface_simulations.experiment import ArmName

SCHEMA = 1
FILE_NAME = "result.json"

_REPEATED = ("eer", "tar_at_far", "rank1")  # of the figures, for readers who want no more


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The EER after a round, or after as many local epochs as a round has."""

    round: int
    eer: float


@dataclass(frozen=True, kw_only=True)
class OrganisationSize:
    """What one organisation holds to train on."""

    name: str
    people: int
    images: int


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """On whom every arm was measured: people whom nobody trained on."""

    people: int
    images: int


@dataclass(frozen=True, kw_only=True)
class ArmPrivacy:
    """What an arm's ledgers say of it: the most that any organisation spent."""

    unit: str  # whom epsilon speaks of
    epsilon: float
    delta: float
    noise_multiplier: float
    sample_rate: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of training: together, one organisation alone, or all data in one place."""

    arm: ArmName
    organisation: str | None = None  # of a local arm
    privacy: ArmPrivacy | None = None  # None: trained without differential privacy
    people: int  # trained on
    images: int  # trained on
    seconds: float  # of training
    figures: Figures
    pairs: PairsFigures | None = None  # the LFW protocol, where a pairs file was given
    reported: Reported | None = None  # what noised figures say of it, where they were released
    curve: tuple[CurvePoint, ...] = ()
    loss: tuple[float | None, ...] = ()  # mean of each round; None where it was not finite

    @property
    def eer(self) -> float:
        """Equal error rate on the held-out people."""
        return self.figures.eer


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run. `evaluate_on` is `None` where the held-out people come from `data`."""

    arms: tuple[Arm, ...]
    warnings: tuple[str, ...] = ()
    data: str
    evaluate_on: str | None = None
    organisations: tuple[OrganisationSize, ...] = ()
    held_out: HeldOut
    initial: Figures | None = None  # of the model that training started from, if one was given
    preset: str
    engine: str
    seed: int
    rounds: int
    model: str
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str
    started: str  # ISO 8601, UTC
    seconds: float

    @property
    def federated(self) -> Arm | None:
        """The arm that trained together."""
        return next((arm for arm in self.arms if arm.arm == "federated"), None)

    @property
    def plain(self) -> Arm | None:
        """The arm that trained together without privacy, beside a private one."""
        return next((arm for arm in self.arms if arm.arm == "plain"), None)

    @property
    def central(self) -> Arm | None:
        """The arm that trained on all data in one place."""
        return next((arm for arm in self.arms if arm.arm == "central"), None)

    @property
    def local(self) -> tuple[Arm, ...]:
        """The arms that trained alone, one per organisation."""
        return tuple(arm for arm in self.arms if arm.arm == "local")

    @property
    def gap_closed(self) -> float | None:
        """(local - federated) / (local - central) in EER, local being the mean of the local arms.

        1 where federated equals central, 0 where it equals the mean local arm; beyond both where
        it is better or worse. `None` without all three, or where central is not better than local.
        """
        if self.federated is None or self.central is None or not self.local:
            return None
        alone = local_mean([arm.eer for arm in self.local])
        if alone is None or alone <= self.central.eer:
            return None
        return (alone - self.federated.eer) / (alone - self.central.eer)


def local_mean(values: list[float] | list[float | None]) -> float | None:
    """Return the mean over organisations, each of equal weight; `None` where one is missing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def to_json(result: Result) -> dict[str, Any]:
    """Return what stands in `result.json`."""
    plain = typed_json.to_json(result)
    for arm in plain["arms"]:
        arm |= {key: arm["figures"][key] for key in _REPEATED}
    return {"schema": SCHEMA, **plain, "gap_closed": result.gap_closed}


def from_json(value: object) -> Result:
    """Return the result that `to_json` wrote.

    Raises:
        ArtifactError: another schema, a missing key, a value of another type, or a figure that
            contradicts the one that it repeats.
    """
    if not isinstance(value, Mapping) or value.get("schema") != SCHEMA:
        got = value.get("schema") if isinstance(value, Mapping) else type(value).__name__
        raise ArtifactError(
            f"expected a result of schema {SCHEMA}, got {got!r}",
            hint="a newer veilface wrote it, or another program",
        )
    result = typed_json.from_json(Result, value, FILE_NAME)
    for arm in value["arms"]:
        for key in _REPEATED:
            if arm.get(key) != arm["figures"][key]:
                raise ArtifactError(f"expected {key} as in figures, got {arm.get(key)!r}")
    return result


def save_result(result: Result, path: Path) -> None:
    """Write `result` to the file `path`: whole, or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(to_json(result), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode(), mode=PUBLIC)


def load_result(path: Path) -> Result:
    """Read a `result.json`, or the one in a run's folder.

    Raises:
        ArtifactError: there is none, or it is not what `save_result` writes.
    """
    path = path / FILE_NAME if path.is_dir() else path
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ArtifactError(
            f"expected a result in {path}, got: {error.strerror}",
            hint="a run writes it when it ends; `veilface-sim run --out DIR`",
        ) from error
    except ValueError as error:
        raise ArtifactError(f"expected JSON in {path}, got: {error}") from error
    return from_json(value)
