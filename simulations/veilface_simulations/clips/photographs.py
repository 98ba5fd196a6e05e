"""Clips out of still photographs: a window moves and zooms over each, as a camera would.

A folder as WIDER FACE's is read: `train/*.jpg` with `train.csv`, and `val/*.jpg` with `val.csv`,
whose columns are `file,x,y,width,height`.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from veilface_client.detectors.opencv import load_opencv
from veilface_client.images import Pixels, read_photograph
from veilface_common.errors import DataError
from veilface_simulations.clips.clip import (
    LEAST_PIXELS,
    LEAST_SEEN,
    Boxes,
    Clip,
    ClipConfig,
    Split,
    chance,
    within,
)
from veilface_simulations.clips.composing import View
from veilface_simulations.clips.taking import finished

_FILES: dict[Split, str] = {"train": "train", "validation": "val"}
_COLUMNS = ("x", "y", "width", "height")
_STREAM = 12
_LONGEST = 640  # pixels of a photograph that is kept: 700 of them are 0.4 GB
_GONE = 0.02
_SMALLEST_WINDOW = 0.3  # of the largest one that fits


@dataclass(frozen=True, kw_only=True, eq=False)
class Still:
    """A photograph and every face in it; N of them."""

    name: str
    pixels: Pixels  # [H, W, 3]
    boxes: Boxes


@dataclass(frozen=True, kw_only=True, eq=False)
class Photographs:
    """Photographs with boxes, in the order of their names."""

    name: str
    folder: Path
    split: Split
    _held: dict[int, Still] = field(default_factory=dict)

    @cached_property
    def _entries(self) -> tuple[tuple[str, Boxes], ...]:
        part = _FILES[self.split]
        table = self.folder / f"{part}.csv"
        boxes: dict[str, list[list[float]]] = {
            path.name: [] for path in sorted((self.folder / part).glob("*.jpg"))
        }
        try:
            with table.open(newline="") as lines:
                for row in csv.DictReader(lines):
                    place = [float(row[name]) for name in _COLUMNS]
                    if row["file"] in boxes and min(place[2:]) > 0:
                        boxes[row["file"]].append(place)
        except (OSError, KeyError, ValueError, TypeError):
            raise DataError(
                f"expected a table of boxes at {table}, got none that can be read",
                hint=f"columns file,{','.join(_COLUMNS)}",
            ) from None
        if not boxes:
            raise DataError(f"expected photographs in {self.folder / part}, got none")
        return tuple((name, np.reshape(places, (-1, 4))) for name, places in boxes.items())

    def __len__(self) -> int:
        """How many photographs there are."""
        return len(self._entries)

    def still(self, number: int) -> Still:
        """Return the photograph of that number, as it is in its file.

        Raises:
            DataError: the file cannot be read.
        """
        name, boxes = self._entries[number]
        path = self.folder / _FILES[self.split] / name
        return Still(name=name, pixels=read_photograph(path), boxes=boxes)

    def clip(self, config: ClipConfig, seed: int, number: int) -> Clip:
        """Return a clip over photograph `number` modulo how many there are."""
        draw = chance(_STREAM, _FILES_WORDS[self.split], seed, number)
        still = self._kept(number % len(self))
        ways = _windows(still, config, draw)
        mirrored = draw.random() < 0.5
        views = [_through(still, way, config, mirrored=mirrored) for way in ways]
        return finished(views, config, draw)

    def _kept(self, number: int) -> Still:
        """Return a photograph, small enough that all may stay in memory."""
        if number not in self._held:
            still = self.still(number)
            scale = min(1.0, _LONGEST / max(still.pixels.shape[:2]))
            if scale < 1:
                size = [max(1, round(scale * side)) for side in still.pixels.shape[1::-1]]
                smaller = Image.fromarray(still.pixels).resize(
                    (size[0], size[1]), Image.Resampling.BICUBIC
                )
                still = Still(
                    name=still.name, pixels=np.asarray(smaller), boxes=still.boxes * scale
                )
            self._held[number] = still
        return self._held[number]


_FILES_WORDS: dict[Split, int] = {"train": 1, "validation": 2}


def _windows(still: Still, config: ClipConfig, draw: np.random.Generator) -> np.ndarray:
    """Return left, top and scale (pixels of the photograph that one of the frame takes), [T, 3].

    Most windows have a face near their middle; the camera pans, zooms and shakes.
    """
    height, width, _ = still.pixels.shape
    largest = min(height / config.height, width / config.width)
    scale = largest * math.exp(math.log(_SMALLEST_WINDOW) * draw.random() ** 1.5)
    times = np.arange(config.frames) - (config.frames - 1) / 2
    scales = np.minimum(scale * np.exp(times * draw.normal(0, 0.015)), largest)
    view = np.array((config.width, config.height))
    if len(still.boxes) and draw.random() < 0.85:
        face = still.boxes[int(draw.integers(len(still.boxes)))]
        middle = face[:2] + face[2:] / 2 + draw.normal(0, 0.25, 2) * view * scale
    else:
        middle = draw.uniform((0, 0), (width, height))
    pan = draw.normal(0, (0.025, 0.012)) * view * scale * (draw.random() > 0.15)
    shaking = draw.uniform(0, 0.004) * config.width * scale
    middles = middle + times[:, None] * pan + draw.normal(0, 1, (config.frames, 2)) * shaking
    corners = middles - scales[:, None] * view / 2
    room = np.array((width, height)) - scales[:, None] * view
    return np.column_stack((np.clip(corners, 0, np.maximum(room, 0)), scales))


def _through(still: Still, window: np.ndarray, config: ClipConfig, *, mirrored: bool) -> View:
    """Return what the window shows."""
    cv2 = load_opencv()
    left, top, scale = window.tolist()
    # To the frame's pixel centres from the photograph's; `INTER_AREA` does not warp, so a large
    # photograph is smoothed first.
    pixels = still.pixels
    if scale > 1.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), 0.4 * scale)
    place = np.array(((scale, 0, left + scale / 2 - 0.5), (0, scale, top + scale / 2 - 0.5)))
    frame: Pixels = cv2.warpAffine(
        pixels,
        place,
        (config.width, config.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    boxes = (still.boxes - (left, top, 0, 0)) / scale
    if mirrored:
        frame = np.ascontiguousarray(frame[:, ::-1])
        boxes[:, 0] = config.width - boxes[:, 0] - boxes[:, 2]
    inside, shown = within(boxes, config.height, config.width)
    kept = shown > _GONE
    small = inside[:, 2:].max(axis=1, initial=0.0) < LEAST_PIXELS
    return View(
        pixels=frame,
        boxes=inside[kept],
        people=np.flatnonzero(kept),
        ignored=(small | (shown < LEAST_SEEN))[kept],
    )
