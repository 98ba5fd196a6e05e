"""Where a face that is followed should be by now, and how far each detection is from there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veilface_client.video.sightings import Boxes, Sighting, Track, boxes_of, moved

Costs = NDArray[np.float64]  # [tracks, detections]
IMPOSSIBLE = 1e6

# Distances in widths of the face, which is 0.15 m: who walks does about 8 of them a second.
_REACH = 0.7  # of the next place from where it should be, in one moment
_SPEED = 4.0  # and so much more for each second since, of a face whose motion is known
_FIRST_SPEED = 8.0  # and of one that was seen once
_FARTHEST = 3.0
_SIZES = 1.6  # a face's size changes at most by this factor
_MEMORY_SECONDS = 0.2  # over which a velocity is averaged
_UNSEEN = 0.5  # what a face costs more that was not in the last frame
_FORGET = 0.1  # share of the newest look in what a face looks like, once there are ten


class Followed:
    """A track that has not ended."""

    def __init__(self, number: int, sighting: Sighting) -> None:
        """Begin here."""
        self.number = number
        self.first = self.last = sighting
        self.seen_frames = 1
        self.looked = -np.inf  # when it was last looked at closely, in seconds
        self.centre: NDArray[np.float64] | None = None  # what it looks like, [D]; newer counts more
        self.velocity = np.zeros(2)  # of the middle, in pixels a second
        self.good_looks = 0
        self._best: list[Sighting] = []
        self._remember(sighting)

    def see(self, sighting: Sighting, keep: int) -> None:
        """Go on here; keep the newest sighting and the `keep` - 1 best of the others."""
        span = sighting.seconds - self.last.seconds
        if span > 0:
            velocity = (sighting.middle - self.last.middle) / span
            share = 1.0 if self.seen_frames == 1 else -np.expm1(-span / _MEMORY_SECONDS)
            self.velocity = self.velocity + share * (velocity - self.velocity)
        self._best.append(self.last)
        if len(self._best) >= keep:
            self._best.sort(key=lambda one: one.worth, reverse=True)
            del self._best[keep - 1 :]
        self.last = sighting
        self.seen_frames += 1
        self._remember(sighting)

    def rejoin(self, sighting: Sighting, keep: int, young: Followed | None) -> None:
        """Go on here after having been lost; `young` is a track that turns out to be this one."""
        if young is not None:
            self.seen_frames += young.seen_frames
        self.see(sighting, keep)
        # How somebody moved meanwhile says nothing of how they move now.
        self.velocity = np.zeros(2) if young is None else young.velocity

    def expected(self, frame: int, seconds: float) -> Sighting:
        """Return where it should be."""
        shift = self.velocity * (seconds - self.last.seconds)
        return moved(self.last, shift, frame, seconds)

    def frozen(self) -> Track:
        """Return it as it is now."""
        return Track(
            number=self.number,
            first=self.first,
            last=self.last,
            sightings=(*sorted(self._best, key=lambda one: one.frame), self.last),
            seen_frames=self.seen_frames,
            good_looks=self.good_looks,
        )

    def _remember(self, sighting: Sighting) -> None:
        if sighting.look is None:
            return
        self.looked = sighting.seconds
        if sighting.look.embedding is None:
            return
        self.good_looks += 1
        new = sighting.look.embedding.astype(np.float64)
        share = max(1 / self.good_looks, _FORGET)
        self.centre = new if self.centre is None else self.centre + share * (new - self.centre)


def motion_costs(tracks: Sequence[Followed], boxes: Boxes, seconds: float) -> Costs:
    """Return how far each box is from where each track should be: [T], [N, 4] -> [T, N].

    In widths, with what they do not overlap and how much their sizes differ added; `IMPOSSIBLE`
    where nobody could have come there.
    """
    if not tracks or not len(boxes):
        return np.empty((len(tracks), len(boxes)))
    spans = np.array([seconds - track.last.seconds for track in tracks])  # [T]
    places = boxes_of([track.last for track in tracks])  # [T, 4]
    places[:, :2] += np.stack([track.velocity for track in tracks]) * spans[:, None]
    areas = np.maximum(places[:, None, 2:].prod(-1), 1e-6)
    others = np.maximum(boxes[None, :, 2:].prod(-1), 1e-6)
    middles = places[:, :2] + places[:, 2:] / 2
    apart = middles[:, None] - (boxes[:, :2] + boxes[:, 2:] / 2)  # [T, N, 2]
    distances = np.linalg.norm(apart, axis=-1) / (areas * others) ** 0.25
    sizes = np.abs(np.log(areas / others)) / 2  # of the sides
    speeds = np.array([_SPEED if track.seen_frames > 1 else _FIRST_SPEED for track in tracks])
    reach = np.minimum(_REACH + speeds * spans, _FARTHEST)
    newest = max(track.last.frame for track in tracks)
    unseen = np.array([_UNSEEN * (track.last.frame < newest) for track in tracks])
    costs = distances + (1 - overlaps(places, boxes)) / 2 + sizes + unseen[:, None]
    return np.where((distances > reach[:, None]) | (sizes > np.log(_SIZES)), IMPOSSIBLE, costs)


def overlaps(some: Boxes, others: Boxes) -> Costs:
    """Return common area over the area of both: [T, 4], [N, 4] -> [T, N]."""
    common = common_areas(some, others)
    areas = some[:, 2:].prod(-1)[:, None] + others[:, 2:].prod(-1)
    return np.asarray(common / np.maximum(areas - common, 1e-6))


def common_areas(some: Boxes, others: Boxes) -> Costs:
    """Return what boxes have in common, in pixels: [T, 4], [N, 4] -> [T, N]."""
    starts = np.maximum(some[:, None, :2], others[None, :, :2])
    ends = np.minimum((some[:, :2] + some[:, 2:])[:, None], others[:, :2] + others[:, 2:])
    return np.asarray(np.clip(ends - starts, 0, None).prod(-1))


def cosines(tracks: Sequence[Followed], sightings: Sequence[Sighting]) -> Costs:
    """Return how alike tracks and sightings look, NaN where one was not looked at: [T, N]."""
    found = np.full((len(tracks), len(sightings)), np.nan)
    known = {row: track.centre for row, track in enumerate(tracks) if track.centre is not None}
    looks = {
        column: one.look.embedding
        for column, one in enumerate(sightings)
        if one.look is not None and one.look.embedding is not None
    }
    if known and looks:
        centres = np.stack(list(known.values()))
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
        found[np.ix_(list(known), list(looks))] = centres @ np.stack(list(looks.values())).T
    return found
