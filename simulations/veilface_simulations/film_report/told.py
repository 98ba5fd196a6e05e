"""What a film's maker and `veilface watch` say of it: `truth.json`, and a line for each track."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from veilface_client.video.sightings import Boxes
from veilface_common import typed_json
from veilface_common.errors import DataError

STRANGER = "stranger-"  # what the names of those begin with whom nobody can have enrolled


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody in a frame."""

    name: str
    box: tuple[float, float, float, float]  # left, top, width, height in pixels
    seen: bool  # False: hardly to be seen, at the border or behind somebody


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A frame, and who is in it."""

    frame: int
    seconds: float
    corrupted: bool
    people: tuple[Person, ...]

    def boxes(self) -> Boxes:
        """Return the boxes of everybody: [N, 4]."""
        return np.array([person.box for person in self.people], np.float64).reshape(-1, 4)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Who is where in a film."""

    rate: float  # frames a second
    people: tuple[str, ...]  # in the order of their coming
    frames: tuple[Moment, ...]

    def at(self, seconds: float) -> Moment:
        """Return the frame that is shown then."""
        return min(self.frames, key=lambda moment: abs(moment.seconds - seconds))


@dataclass(frozen=True, kw_only=True)
class Track:
    """What `veilface watch` says of one person's way through the film."""

    track: int
    start: float
    end: float
    name: str | None  # None: unknown
    reason: str
    places: tuple[tuple[float, float, float, float, float], ...]  # seconds and box of some frames


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Everything that it says."""

    tracks: tuple[Track, ...]
    warning: str  # of the threshold; empty: none


def load_truth(path: Path) -> Truth:
    """Return what `veilface-sim film` wrote.

    Raises:
        DataError: there is no such file, or nobody in it.
        ArtifactError: it says something else.
    """
    truth = typed_json.from_json(Truth, _json(_text(path), path), path.name)
    if not truth.frames:
        raise DataError(f"expected frames in {path}, got none")
    return truth


def load_watched(path: Path) -> Watched:
    """Return what `veilface watch --json` printed of a whole film.

    Raises:
        DataError: there is no such file, or it ends before the film does.
        ArtifactError: it says something else.
    """
    lines = [_json(line, path) for line in _text(path).splitlines()]
    by_kind: dict[object, list[Mapping[str, Any]]] = {}
    for line in lines:
        by_kind.setdefault(line.get("event"), []).append(line)
    if len(by_kind.get("video", ())) != 1 or len(by_kind.get("done", ())) != 1:
        raise DataError(
            f"expected all lines of one film in {path}, got others",
            hint="veilface watch FILM --json > LINES",
        )
    ended = by_kind.get("ended", ())
    return Watched(
        tracks=tuple(typed_json.from_json(Track, line, path.name) for line in ended),
        warning=str(by_kind["video"][0].get("warning") or ""),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"expected a text file at {path}, got none that is readable") from error


def _json(text: str, path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, Mapping):
        raise DataError(f"expected JSON objects in {path}, got something else")
    return value
