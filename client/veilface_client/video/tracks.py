"""Faces followed over the frames of a video: which detections are one person's.

A face is looked for where it should be by now (constant velocity), by overlap, distance and size;
what it looks like decides where that leaves two ways, and joins a track again that was lost for
longer. Pairs are chosen together (Hungarian method; Kuhn 1955), as in SORT (Bewley et al. 2016) and
DeepSORT (Wojke et al. 2017). No clock and no files: time comes with the frames. Memory is bounded,
however long the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from veilface_client.detectors.detection import Detection
from veilface_client.video.motion import IMPOSSIBLE, Costs, Followed, cosines, motion_costs
from veilface_client.video.sightings import Look, Sighting, Track, between, boxes_of
from veilface_common.errors import ConfigError

__all__ = ["LINKING", "Linking", "Live", "Look", "Sighting", "Track", "Tracker"]

_APPEARANCE = 3.0  # what a difference of cosine counts beside a distance in widths
_UNCLEAR = 0.6  # two places that differ by less leave it open which is meant
_SURE = 3  # good looks that say what somebody looks like, to be known again
_FRAMES = 1000  # most that are remembered for filling gaps


@dataclass(frozen=True, kw_only=True)
class Linking:
    """When two detections are one person's, and how much is kept of a track."""

    gap_seconds: float = 1.0  # for which a face may be unseen and still be followed by its motion
    rejoin_seconds: float = 5.0  # for which it is known again by its look
    join_cosine: float = 0.5  # from which a look is taken for the same person's
    apart_cosine: float = -1.0  # below which it is another person's, wherever it is
    keep: int = 12  # sightings of each track
    most_tracks: int = 600  # at a time; beyond, those that were unseen for longest end

    def __post_init__(self) -> None:
        if not 0 <= self.gap_seconds <= self.rejoin_seconds:
            expected = f"a gap of 0 to {self.rejoin_seconds} seconds"
            raise ConfigError(f"expected {expected}, got {self.gap_seconds}")
        if min(self.keep, self.most_tracks) < 1:
            got = min(self.keep, self.most_tracks)
            raise ConfigError(f"expected to keep 1 sighting and track or more, got {got}")


LINKING = Linking()


@dataclass(frozen=True, kw_only=True, eq=False)
class Live:
    """Where a track is in the frame that was just given."""

    track: int  # its number
    now: Sighting  # not seen: where it should be
    index: int | None  # of the detection that it is
    filled: tuple[Sighting, ...] = ()  # of the frames before in which it was missed, between where
    # it was seen last and here; given once, when it is seen again within a gap
    joined: int | None = None  # a track that turned out to be this one; told once, and gone


class Tracker:
    """Follows the faces of one video; frames come in order."""

    def __init__(self, linking: Linking = LINKING) -> None:
        """Begin with nobody."""
        self._linking = linking
        self._live: dict[int, Followed] = {}  # by number
        self._ended: list[Track] = []
        self._next = 0
        self._frames: deque[tuple[int, float]] = deque(maxlen=_FRAMES)

    def wanted(
        self, seconds: float, detections: Sequence[Detection], *, each_seconds: float
    ) -> tuple[int, ...]:
        """Return which detections of the next frame should be looked at closely, by index.

        Those of which motion alone does not say whose they are, then those of faces whose last look
        is `each_seconds` old; in both, those that were looked at longest ago come first.
        """
        followed = self._followed(seconds)
        places = [Sighting(frame=-1, seconds=seconds, detection=one) for one in detections]
        costs = motion_costs(followed, boxes_of(places), seconds)
        owners = {column: row for row, column in _pairs(costs)}
        wanted: list[tuple[bool, float, int]] = []
        for index in range(len(detections)):
            owner = owners.get(index)
            is_clear = owner is not None and _is_clear(costs, owner, index)
            looked = -np.inf if owner is None else followed[owner].looked
            if not is_clear or looked + each_seconds <= seconds:
                wanted.append((is_clear, looked, index))
        return tuple(index for _, _, index in sorted(wanted))

    def step(
        self,
        frame: int,
        seconds: float,
        detections: Sequence[Detection],
        looks: Sequence[Look | None] | None = None,
    ) -> tuple[Live, ...]:
        """Take the next frame and return every face that is there, or should be, in it.

        Args:
            frame: its number, larger than the last one's.
            seconds: its time; one before the last one's counts as the last one's.
            detections: of it.
            looks: of the detections, where they were taken.
        """
        seconds = max(seconds, self._frames[-1][1] if self._frames else seconds)
        sightings = [
            Sighting(frame=frame, seconds=seconds, detection=detection, look=look)
            for detection, look in zip(
                detections, looks if looks is not None else [None] * len(detections), strict=True
            )
        ]
        followed = self._by_motion(sightings, seconds)
        found_again = self._by_look(sightings, followed)
        found = [
            self._rejoined(found_again[index], followed.get(index), sighting, index)
            if index in found_again
            else self._seen(followed.get(index), sighting, index)
            for index, sighting in enumerate(sightings)
        ]
        self._frames.append((frame, seconds))
        self._end(seconds)
        found += [
            Live(track=track.number, now=track.expected(frame, seconds), index=None)
            for track in self._followed(seconds)
            if track.last.frame != frame
        ]
        return tuple(sorted(found, key=lambda live: live.track))

    def track(self, number: int) -> Track:
        """Return a track that has not ended, as it is now. Raises KeyError."""
        return self._live[number].frozen()

    def ended(self) -> tuple[Track, ...]:
        """Return the tracks that ended since this was last asked, and forget them."""
        ended, self._ended = tuple(self._ended), []
        return ended

    def finish(self) -> tuple[Track, ...]:
        """End all tracks, for the video is over, and return them as `ended` does."""
        self._ended += [track.frozen() for track in self._live.values()]
        self._live = {}
        return self.ended()

    def _followed(self, seconds: float) -> list[Followed]:
        """Return the tracks whose place is known: seen in the last frame or within a gap."""
        newest = self._frames[-1][0] if self._frames else -1
        return [
            track
            for track in self._live.values()
            if track.last.frame == newest
            or seconds - track.last.seconds <= self._linking.gap_seconds
        ]

    def _by_motion(self, sightings: Sequence[Sighting], seconds: float) -> dict[int, Followed]:
        """Return whose the sightings are that are where somebody should be, by index."""
        followed = self._followed(seconds)
        costs = motion_costs(followed, boxes_of(sightings), seconds)
        alike = cosines(followed, sightings)
        known = np.isfinite(alike)
        costs[known] += _APPEARANCE * (self._linking.join_cosine - alike[known])
        costs[known & (alike < self._linking.apart_cosine)] = IMPOSSIBLE
        return {column: followed[row] for row, column in _pairs(costs)}

    def _by_look(
        self, sightings: Sequence[Sighting], followed: Mapping[int, Followed]
    ) -> dict[int, Followed]:
        """Return who of the lost ones the sightings are of which this was not known, by index."""
        busy = {track.number for track in followed.values()}
        lost = [
            track
            for track in self._live.values()
            if track.number not in busy and track.good_looks >= _SURE
        ]
        alike = cosines(lost, sightings)
        for index, track in followed.items():
            # Who was never looked at well before may be somebody who was lost before they came.
            since = -1 if track.centre is not None else track.first.frame
            alike[[row for row, one in enumerate(lost) if one.last.frame >= since], index] = np.nan
        is_same = np.isfinite(alike) & (alike >= self._linking.join_cosine)
        return {
            column: lost[row] for row, column in _pairs(np.where(is_same, 1 - alike, IMPOSSIBLE))
        }

    def _rejoined(
        self, track: Followed, young: Followed | None, sighting: Sighting, index: int
    ) -> Live:
        filled = self._missed(track.last, sighting)
        track.rejoin(sighting, self._linking.keep, young)
        if young is None:
            return Live(track=track.number, now=sighting, index=index, filled=filled)
        del self._live[young.number]
        return Live(track=track.number, now=sighting, index=index, joined=young.number)

    def _seen(self, track: Followed | None, sighting: Sighting, index: int) -> Live:
        if track is None:
            track = self._live[self._next] = Followed(self._next, sighting)
            self._next += 1
            return Live(track=track.number, now=sighting, index=index)
        filled = self._missed(track.last, sighting)
        track.see(sighting, self._linking.keep)
        return Live(track=track.number, now=sighting, index=index, filled=filled)

    def _missed(self, last: Sighting, now: Sighting) -> tuple[Sighting, ...]:
        """Return where a face was in the frames between two sightings, unless it was lost."""
        if now.seconds - last.seconds > self._linking.gap_seconds:
            return ()
        return tuple(
            between(last, now, frame, seconds)
            for frame, seconds in self._frames
            if frame > last.frame
        )

    def _end(self, seconds: float) -> None:
        """End the tracks that nobody can find again, and those beyond the bound."""
        followed = {track.number for track in self._followed(seconds)}
        kept: list[Followed] = []
        ended: list[Followed] = []
        for track in self._live.values():
            lost_for = seconds - track.last.seconds
            can_join = track.good_looks >= _SURE and lost_for <= self._linking.rejoin_seconds
            (kept if track.number in followed or can_join else ended).append(track)
        if len(kept) > self._linking.most_tracks:
            kept.sort(key=lambda track: (track.last.frame, track.number))
            beyond = len(kept) - self._linking.most_tracks
            ended += kept[:beyond]
            kept = kept[beyond:]
        self._live = {track.number: track for track in kept}
        self._ended += [track.frozen() for track in ended]


def _pairs(costs: Costs) -> list[tuple[int, int]]:
    """Return (row, column) of the pairs that cost least together, without impossible ones."""
    rows, columns = linear_sum_assignment(costs)
    found = zip(rows.tolist(), columns.tolist(), strict=True)
    return [pair for pair in found if costs[pair] < IMPOSSIBLE / 2]


def _is_clear(costs: Costs, owner: int, index: int) -> bool:
    """Say whether no other pair of this track or this detection is nearly as good."""
    nearly = costs[owner, index] + _UNCLEAR
    return int((costs[:, index] < nearly).sum() + (costs[owner] < nearly).sum()) == 2
