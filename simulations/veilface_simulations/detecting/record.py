"""What was measured of detectors: `evaluate.json`, schema 1, described in `docs/detector.md`."""

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

SCHEMA = 1
FILE_NAME = "evaluate.json"


@dataclass(frozen=True, kw_only=True)
class OfSize:
    """Faces of some sizes in stills."""

    low: float  # pixels of the longer side
    high: float | None  # None: any larger one
    faces: int
    average_precision: float
    recall: float  # at the threshold of the stills
    precision: float


@dataclass(frozen=True, kw_only=True)
class OnStills:
    """One detector on single pictures."""

    pictures: int
    threshold: float  # at which so few false alarms are given as is allowed
    false_per_picture: float  # at it
    sizes: tuple[OfSize, ...]  # the first one is all of them
    precision_at_recall: tuple[float, ...]  # of all sizes, at CURVE_RECALLS
    milliseconds: float  # of processor time for a picture


@dataclass(frozen=True, kw_only=True)
class OnClips:
    """One detector on clips of which so many frames are corrupted; the threshold is held."""

    corrupted: int  # frames of each clip
    faces: int  # in all frames
    recall: float
    recall_interval: Interval  # 95%, over clips
    faces_corrupted: int  # in the corrupted frames
    recall_corrupted: float | None  # None where no frame is
    recall_clean: float | None  # in the other frames; None where all are corrupted
    false_per_picture: float
    average_precision: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One detector."""

    name: str  # as `--detectors` has it
    sha256: str | None  # of its file, where it has one
    stills: OnStills
    threshold: float  # on clips: from clean ones
    clips: tuple[OnClips, ...]  # the first one is clean
    milliseconds: float  # of processor time for a frame of a clip


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that was found, and what repeats it."""

    data: str
    frames: int  # of a clip
    height: int
    width: int
    clips: int
    seed: int
    smallest: float  # pixels of the longer side of a face that counts
    allowed: float  # false alarms a picture, that set the thresholds
    detectors: tuple[Measured, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str
    started: str  # ISO 8601, UTC
    seconds: float


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return what stands in `evaluate.json`."""
    return {"schema": SCHEMA, **typed_json.to_json(evaluation)}


def from_json(value: object) -> Evaluation:
    """Return what `to_json` wrote.

    Raises:
        ArtifactError: another schema, a missing key or a value of another type.
    """
    schema = value.get("schema") if isinstance(value, Mapping) else type(value).__name__
    if schema != SCHEMA:
        raise ArtifactError(f"expected {FILE_NAME} of schema {SCHEMA}, got {schema!r}")
    return typed_json.from_json(Evaluation, value, FILE_NAME)


def save_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write it to the file `path`: whole, or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(to_json(evaluation), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode(), mode=PUBLIC)
