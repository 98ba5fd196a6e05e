"""Detectors on single pictures and on clips, frame by frame, all on the same ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from veilface_client.detectors.detection import Detector, Stream, stream_of
from veilface_client.images import Pixels
from veilface_simulations.clips.clip import Boxes, Clip, ClipConfig, ClipSource, Flags
from veilface_simulations.clips.photographs import Photographs
from veilface_simulations.detecting.matching import (
    Judged,
    Scores,
    Sizes,
    at_threshold,
    average_precision,
    boxes_of,
    judge,
    pooled,
    precision_at,
    threshold_at,
)
from veilface_simulations.detecting.record import Measured, OfSize, OnClips, OnStills

SMALLEST = 20.0  # pixels of the longer side: smaller faces neither have to be found nor alarm
SIZES = (Sizes(low=SMALLEST), Sizes(low=20, high=40), Sizes(low=40, high=80), Sizes(low=80))
ALLOWED = 0.1  # false alarms a picture, at which recalls are compared
CURVE_RECALLS = np.linspace(0, 1, 41)
FRAMES, SIDE = 8, 256
_RESAMPLES = 1000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A picture and what is in it."""

    pixels: Pixels
    boxes: Boxes
    ignored: Flags


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """A clip and what one detector found in each frame, for the eye."""

    clip: Clip
    found: tuple[tuple[Boxes, Scores], ...]  # T of them


@dataclass(kw_only=True, eq=False)
class Tally:
    """What one detector did so far."""

    name: str
    sha256: str | None
    detector: Detector
    stills: list[tuple[Judged, ...]] = field(default_factory=list)  # by picture and by SIZES
    # By how many frames are corrupted, and then by clip: each frame, and whether it is corrupted.
    clips: dict[int, list[list[tuple[Judged, bool]]]] = field(default_factory=dict)
    sheets: list[Sheet] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"stills": 0.0, "clips": 0.0})

    def find(self, stream: Stream, pixels: Pixels, what: str) -> tuple[Boxes, Scores]:
        """Return boxes [n, 4] and scores [n]; the time is added to that of `what`."""
        started = time.thread_time()
        found = stream.detect(pixels)
        self.seconds[what] += time.thread_time() - started
        return boxes_of(found, *pixels.shape[:2])


def stills_of(source: ClipSource, *, count: int, seed: int) -> Sequence[Callable[[], Shown]]:
    """Return the single pictures of a source: all photographs, or so many drawn scenes."""
    if isinstance(source, Photographs):
        return [partial(_photograph, source, number) for number in range(len(source))]
    config = ClipConfig(frames=1, height=SIDE, width=SIDE, corrupted=0)
    # Not the clips: their first frames would be these.
    numbers = range(count, 2 * count)
    return [partial(_first, source, config, seed, number) for number in numbers]


def look_at_stills(
    tallies: Sequence[Tally], stills: Sequence[Callable[[], Shown]], progress: Progress
) -> None:
    """Have each detector look at each picture by itself."""
    for done, still in enumerate(stills, start=1):
        shown = still()
        for tally in tallies:
            boxes, scores = tally.find(tally.detector, shown.pixels, "stills")
            tally.stills.append(
                tuple(judge(boxes, scores, shown.boxes, shown.ignored, size)[0] for size in SIZES)
            )
        progress(done, len(stills))


def look_at_clips(
    tallies: Sequence[Tally],
    source: ClipSource,
    *,
    corrupted: Sequence[int],
    clips: int,
    seed: int,
    sheets: int,
    progress: Progress,
) -> None:
    """Have each detector look at each clip, once for each number of corrupted frames.

    So many `sheets`, of clips far apart that show faces that count, are kept for the eye.
    """
    for step, frames in enumerate(corrupted):
        config = ClipConfig(frames=FRAMES, height=SIDE, width=SIDE, corrupted=frames)
        kept = 0 if frames == max(corrupted) else sheets
        for number in range(clips):
            clip = source.clip(config, seed, number)
            keep = kept < sheets and number * sheets >= kept * clips and _shows_faces(clip)
            kept += keep
            for tally in tallies:
                _look_at_clip(tally, clip, frames, keep=keep)
            progress(step * clips + number + 1, len(corrupted) * clips)


def _shows_faces(clip: Clip) -> bool:
    pairs = zip(clip.boxes, clip.ignored, strict=True)
    return any((SIZES[0].of(boxes) & ~ignored).any() for boxes, ignored in pairs)


def _look_at_clip(tally: Tally, clip: Clip, corrupted: int, *, keep: bool) -> None:
    stream = stream_of(tally.detector)
    found = tuple(tally.find(stream, frame, "clips") for frame in clip.frames)
    judged = [
        judge(boxes, scores, clip.boxes[frame], clip.ignored[frame], SIZES[0])[0]
        for frame, (boxes, scores) in enumerate(found)
    ]
    tally.clips.setdefault(corrupted, []).append(
        list(zip(judged, clip.corrupted.tolist(), strict=True))
    )
    if keep:
        tally.sheets.append(Sheet(clip=clip, found=found))


def measured(tally: Tally) -> Measured:
    """Return the figures of a detector that has looked at everything."""
    clean = pooled([frame for clip in tally.clips[0] for frame, _ in clip])
    threshold = threshold_at(clean, ALLOWED)
    frames = FRAMES * sum(map(len, tally.clips.values()))
    return Measured(
        name=tally.name,
        sha256=tally.sha256,
        stills=_on_stills(tally),
        threshold=threshold,
        clips=tuple(
            _on_clips(clips, corrupted, threshold) for corrupted, clips in tally.clips.items()
        ),
        milliseconds=round(1000 * tally.seconds["clips"] / frames, 2),
    )


def _on_stills(tally: Tally) -> OnStills:
    by_size = [pooled(parts) for parts in zip(*tally.stills, strict=True)]
    everything = by_size[0]
    threshold = threshold_at(everything, ALLOWED)
    return OnStills(
        pictures=everything.pictures,
        threshold=threshold,
        false_per_picture=at_threshold(everything, threshold)[1] / everything.pictures,
        sizes=tuple(
            _of_size(judged, sizes, threshold) for judged, sizes in zip(by_size, SIZES, strict=True)
        ),
        precision_at_recall=tuple(precision_at(everything, CURVE_RECALLS)),
        milliseconds=round(1000 * tally.seconds["stills"] / everything.pictures, 2),
    )


def _of_size(judged: Judged, sizes: Sizes, threshold: float) -> OfSize:
    hits, false = at_threshold(judged, threshold)
    return OfSize(
        low=sizes.low,
        high=None if sizes.high == float("inf") else sizes.high,
        faces=judged.faces,
        average_precision=average_precision(judged),
        recall=hits / max(judged.faces, 1),
        precision=hits / max(hits + false, 1),
    )


def _on_clips(
    clips: Sequence[Sequence[tuple[Judged, bool]]], corrupted: int, threshold: float
) -> OnClips:
    every = pooled([frame for clip in clips for frame, _ in clip])
    bad = pooled([frame for clip in clips for frame, spoilt in clip if spoilt])
    good = pooled([frame for clip in clips for frame, spoilt in clip if not spoilt])
    hits, false = at_threshold(every, threshold)
    counts = np.array(
        [
            (at_threshold(own, threshold)[0], own.faces)
            for own in (pooled([frame for frame, _ in clip]) for clip in clips)
        ]
    )
    return OnClips(
        corrupted=corrupted,
        faces=every.faces,
        recall=hits / max(every.faces, 1),
        recall_interval=_interval(counts),
        faces_corrupted=bad.faces,
        recall_corrupted=_recall(bad, threshold),
        recall_clean=_recall(good, threshold),
        false_per_picture=false / every.pictures,
        average_precision=average_precision(every),
    )


def _recall(judged: Judged, threshold: float) -> float | None:
    return at_threshold(judged, threshold)[0] / judged.faces if judged.faces else None


def _interval(counts: np.ndarray) -> tuple[float, float]:
    """Return the 95% bootstrap interval of a recall from hits and faces of each clip, [C, 2]."""
    draw = np.random.default_rng(0)
    weights = draw.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), _RESAMPLES)
    hits, faces = (weights @ counts).T
    low, high = np.quantile(hits / np.maximum(faces, 1), (0.025, 0.975)).tolist()
    return low, high


def _photograph(source: Photographs, number: int) -> Shown:
    still = source.still(number)
    return Shown(
        pixels=still.pixels, boxes=still.boxes, ignored=np.zeros(len(still.boxes), np.bool_)
    )


def _first(source: ClipSource, config: ClipConfig, seed: int, number: int) -> Shown:
    clip = source.clip(config, seed, number)
    return Shown(pixels=clip.frames[0], boxes=clip.boxes[0], ignored=clip.ignored[0])
