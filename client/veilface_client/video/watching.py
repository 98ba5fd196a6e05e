"""Who is there from when to when: frames in, events out.

The pure part of `veilface watch`: what finds faces, looks at them and names them is handed in, and
time comes with the frames. A track is somebody once it was seen in `LEAST_FRAMES` frames; before,
it is taken for a mistake of the detector. It is asked who that is after `FIRST_LOOKS` good looks,
after each doubling of them, and at its end; a name that was given stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from veilface_client.detectors.detection import Detection, Stream
from veilface_client.images import Pixels
from veilface_client.video.looking import in_view
from veilface_client.video.reading import Frame
from veilface_client.video.sightings import Look, Sighting, Track
from veilface_client.video.tracks import Linking, Tracker

LEAST_FRAMES = 3
FIRST_LOOKS = 3
EACH_SECONDS = 0.3  # between two looks at a face
MOST_LOOKS = 8  # at the faces of one frame: a crowd must not stop the video
UNUSABLE = "no frame was good enough"
LIMITED = "a limit was reached"
KEEP = 9  # sightings of a track

Looking = Callable[[Pixels, Detection], Look]
# (a track with a good look, was it asked about before?) -> (name or None, why)
Naming = Callable[[Track, bool], tuple[str | None, str]]


@dataclass(frozen=True, kw_only=True)
class Began:
    """Somebody is there."""

    track: int
    seconds: float  # since when


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Somebody is known again: a track that began goes on as an older one."""

    track: int
    seconds: float
    into: int


@dataclass(frozen=True, kw_only=True)
class Named:
    """It is known who that is; said once of a track, in the moment when it is sure."""

    track: int
    seconds: float
    name: str
    is_there: bool  # in the frame of this moment; False: it was found out afterwards


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Somebody is there no more."""

    track: int
    start: float
    end: float
    name: str | None
    reason: str
    frames: int  # in which they were seen
    looks: int  # that were good enough
    way: Track = field(repr=False)


Event = Began | Joined | Named | Ended


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A face in the frame that was just given."""

    sighting: Sighting
    track: int
    name: str | None


@dataclass(kw_only=True)
class _Person:
    """What is known of a track that has begun."""

    name: str | None = None
    reason: str = UNUSABLE
    asked_looks: int = 0  # that there were when it was asked last


class Watcher:
    """Watches one video; frames come in order. Memory is bounded, however long it is."""

    def __init__(self, stream: Stream, look: Looking, name: Naming, linking: Linking) -> None:
        """Begin with nobody.

        Args:
            stream: finds the faces of each frame.
            look: looks at one of them closely.
            name: says who a track is, if anybody.
            linking: how faces are followed.
        """
        self._stream, self._look, self._name = stream, look, name
        self._tracker = Tracker(linking)
        self._people: dict[int, _Person] = {}

    def step(self, frame: Frame) -> tuple[tuple[Event, ...], tuple[Shown, ...]]:
        """Take the next frame; return what happened, and who is in it."""
        detections = self._stream.detect(frame.pixels)
        wanted = self._tracker.wanted(frame.seconds, detections, each_seconds=EACH_SECONDS)
        looks: list[Look | None] = [None] * len(detections)
        can_see = in_view(detections, *frame.pixels.shape[:2])
        for index in [index for index in wanted if can_see[index]][:MOST_LOOKS]:
            looks[index] = self._look(frame.pixels, detections[index])
        live = self._tracker.step(frame.number, frame.seconds, detections, looks)
        events: list[Event] = []
        for track in self._tracker.ended():
            events += self._end(track)
        for one in live:
            if one.joined is not None and one.joined in self._people:
                del self._people[one.joined]
                events.append(Joined(track=one.joined, seconds=frame.seconds, into=one.track))
            if one.index is not None:
                events += self._go_on(self._tracker.track(one.track), frame.seconds)
        shown = (
            Shown(sighting=one.now, track=one.track, name=self._people[one.track].name)
            for one in live
            if one.track in self._people
        )
        return tuple(events), tuple(shown)

    def finish(self) -> tuple[Event, ...]:
        """End everybody's track: the video is over."""
        return tuple(event for track in self._tracker.finish() for event in self._end(track))

    def _go_on(self, track: Track, seconds: float) -> list[Event]:
        events: list[Event] = []
        person = self._people.get(track.number)
        if person is None:
            if track.seen_frames < LEAST_FRAMES:
                return []
            person = self._people[track.number] = _Person()
            events.append(Began(track=track.number, seconds=track.first.seconds))
        if track.good_looks >= max(FIRST_LOOKS, 2 * person.asked_looks):
            events += self._ask(track, person, seconds, is_there=True)
        return events

    def _end(self, track: Track) -> list[Event]:
        person = self._people.pop(track.number, None)
        if person is None:
            return []
        events = self._ask(track, person, track.last.seconds, is_there=False)
        ended = Ended(
            track=track.number,
            start=track.first.seconds,
            end=track.last.seconds,
            name=person.name,
            reason=person.reason,
            frames=track.seen_frames,
            looks=track.good_looks,
            way=track,
        )
        return [*events, ended]

    def _ask(self, track: Track, person: _Person, seconds: float, *, is_there: bool) -> list[Event]:
        """Ask who a track is, unless that is known or there was no good look since; say who."""
        if person.name is not None or track.good_looks == person.asked_looks:
            return []
        person.name, reason = self._name(track, person.asked_looks > 0)
        if reason != LIMITED or not person.asked_looks:  # else what was found before holds
            person.reason = reason
        person.asked_looks = track.good_looks
        if person.name is None:
            return []
        return [Named(track=track.number, seconds=seconds, name=person.name, is_there=is_there)]
