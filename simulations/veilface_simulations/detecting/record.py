"""What was measured of detectors: `evaluate.json`, schema 1, described in `docs/detector.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from veilface_common.metrics import Interval
from veilface_simulations.record_file import RecordFile


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


RECORD = RecordFile("evaluate.json", Evaluation)
