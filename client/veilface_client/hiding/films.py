"""A video: pictures in order -> the same with heads hidden, some pictures later.

A detector misses a face now and then, and one picture with the face gives a person away. So faces
are followed, and pictures wait in a buffer for `WAIT_SECONDS`: a head is hidden in the pictures
between two in which it was found, in those right before it was found first, and for a while after
it was found last. Each track keeps one cover for all its time: many pictures of one head tell no
more than the first. Each picture is looked at again once it is hidden, as a photograph is.

Where people are kept by name, a face is shown only between looks that all said so, and only where
it was found: a follower that goes over to another person, or a look that is in doubt, shows nobody.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from veilface_client.detectors.detection import Detection, Detector, stream_of
from veilface_client.hiding.covering import Cover, How
from veilface_client.hiding.photographs import Covers, settle
from veilface_client.hiding.regions import Box, common_share, grown, head_of
from veilface_client.images import Pixels
from veilface_client.video.reading import Frame
from veilface_client.video.sightings import Look
from veilface_client.video.tracks import LINKING, Linking, Live, Tracker

Looking = Callable[[Pixels, Detection], Look]
Templates = Sequence[NDArray[np.float32]]  # [D] each, unit length
# (a face's looks, the newest last; what was said of it before) -> does it stay visible?
Judge = Callable[[Templates, bool | None], bool]

WAIT_SECONDS = 1.0  # that a picture is held back
BEFORE_SECONDS = 0.5  # for which a head is hidden before it was found first
LOOK_SECONDS = 0.2  # between two looks at a face that may stay
LOOKS = 3  # that one must have had, and that count
_MOST_BYTES = 256 << 20  # of pictures that wait
_LEAST_PICTURES = 4
_SAME = 0.4  # what boxes of one face have in common at least, by two detectors
_GUESSED = 0.15  # shares of its sides by which a head is larger where it was not seen
_EARLIER = 0.3  # where it may only just have come in


@dataclass(frozen=True, kw_only=True)
class People:
    """What says who stays visible."""

    look: Looking
    judge: Judge
    linking: Linking


@dataclass(eq=False)
class _Waiting:
    frame: Frame
    heads: dict[int, list[Box]] = field(default_factory=dict)  # by track
    faces: dict[int, Detection] = field(default_factory=dict)  # that were seen, by track
    shown: set[int] = field(default_factory=set)  # tracks that stay visible

    def hide(self, track: int, head: Box) -> None:
        self.heads.setdefault(track, []).append(head)


@dataclass(eq=False)
class _Standing:
    """What is known of a track that may stay."""

    # The newest, each with the number of its picture; begun anew when anything is in doubt.
    looks: deque[tuple[int, NDArray[np.float32]]] = field(
        default_factory=lambda: deque(maxlen=LOOKS)
    )
    stays: bool | None = None  # what was said last


class FilmHider:
    """Hides heads in one video."""

    def __init__(
        self,
        detectors: Sequence[Detector],
        how: How,
        secret: random.Random,
        people: People | None = None,
    ) -> None:
        """Begin.

        Args:
            detectors: a face is what any of them finds.
            how: what is shown instead of a head.
            secret: makes the noise.
            people: says who stays visible; None: nobody.
        """
        self._detectors = detectors
        self._streams = [stream_of(detector) for detector in detectors]
        self._how, self._secret, self._people = how, secret, people
        self._tracker = Tracker(people.linking if people else LINKING)
        self._standings: dict[int, _Standing] = {}
        self._covers: dict[int, Cover] = {}
        self._waiting: deque[_Waiting] = deque()
        self.hidden: set[int] = set()  # tracks of which a head was hidden somewhere
        self.shown: set[int] = set()  # tracks that were visible somewhere
        self.strays = 0  # heads that were found in a result alone

    def step(self, frame: Frame) -> Iterator[Frame]:
        """Take the next picture and give those that have waited long enough, hidden.

        Raises:
            FaceNotHidden: one cannot be hidden.
        """
        detections = self._found(frame.pixels)
        looks = self._looks(frame, detections)
        self._waiting.append(_Waiting(frame))
        known = {track for waiting in self._waiting for track in waiting.heads}
        for live in self._tracker.step(frame.number, frame.seconds, detections, looks):
            self._place(live, is_new=live.track not in known)
            if live.index is not None and looks[live.index] is not None:
                self._judge(live.track, looks[live.index])
        self._forget()
        most = max(_LEAST_PICTURES, _MOST_BYTES // max(frame.pixels.nbytes, 1))
        while self._waiting and (
            len(self._waiting) > most
            or frame.seconds - self._waiting[0].frame.seconds > WAIT_SECONDS
        ):
            yield self._hide(self._waiting.popleft())

    def finish(self) -> Iterator[Frame]:
        """Give the pictures that still wait. Raises FaceNotHidden, as `step` does."""
        while self._waiting:
            yield self._hide(self._waiting.popleft())

    def _found(self, picture: Pixels) -> tuple[Detection, ...]:
        found: list[Detection] = []
        for stream in self._streams:
            for face in stream.detect(picture):
                if all(common_share(face.box, other.box) < _SAME for other in found):
                    found.append(face)
        return tuple(found)

    def _looks(self, frame: Frame, detections: Sequence[Detection]) -> list[Look | None]:
        looks: list[Look | None] = [None] * len(detections)
        if self._people is not None:
            for index in self._tracker.wanted(frame.seconds, detections, each_seconds=LOOK_SECONDS):
                looks[index] = self._people.look(frame.pixels, detections[index])
        return looks

    def _place(self, live: Live, *, is_new: bool) -> None:
        """Say in which of the waiting pictures a head is, and where."""
        head = head_of(live.now.detection.box)
        now = self._waiting[-1]
        if live.now.seen:
            now.hide(live.track, head)
            now.faces[live.track] = live.now.detection
        else:
            now.hide(live.track, grown(head, _GUESSED))
            self._where_it_was(live.track, now)
            if live.track in self._standings:
                self._standings[live.track].looks.clear()
        filled = {sighting.frame: sighting for sighting in live.filled}
        start = now.frame.seconds - BEFORE_SECONDS
        for waiting in self._waiting:
            sighting = filled.get(waiting.frame.number)
            if sighting is not None:
                waiting.hide(live.track, grown(head_of(sighting.detection.box), _GUESSED))
            elif is_new and waiting is not now and waiting.frame.seconds >= start:
                waiting.hide(live.track, grown(head, _EARLIER))

    def _where_it_was(self, track: int, now: _Waiting) -> None:
        """Hide the last place too: who is no longer found may have stopped there."""
        for waiting in reversed(self._waiting):
            if track in waiting.faces:
                now.hide(track, grown(head_of(waiting.faces[track].box), _GUESSED))
                return

    def _judge(self, track: int, look: Look | None) -> None:
        """Let a track stay in the pictures from the oldest look that counts to this one."""
        assert self._people is not None
        standing = self._standings.setdefault(track, _Standing())
        if look is None or look.embedding is None:
            standing.looks.clear()
            return
        now = self._waiting[-1].frame.number
        standing.looks.append((now, look.embedding))
        if len(standing.looks) < LOOKS:
            return
        looks = tuple(embedding for _, embedding in standing.looks)
        standing.stays = self._people.judge(looks, standing.stays)
        if not standing.stays:
            standing.looks.clear()
            return
        oldest = standing.looks[0][0]
        for waiting in self._waiting:
            if waiting.frame.number >= oldest and track in waiting.faces:
                waiting.shown.add(track)

    def _forget(self) -> None:
        """Drop what belongs to tracks that are over."""
        waiting = {track for one in self._waiting for track in one.heads}
        for track in set(self._covers) - waiting:
            self._covers.pop(track)
        for ended in self._tracker.ended():
            self._standings.pop(ended.number, None)

    def _hide(self, waiting: _Waiting) -> Frame:
        picture = waiting.frame.pixels
        covers = Covers(how=self._how, secret=self._secret)
        tracks: list[int] = []  # whose each cover is
        for track, heads in waiting.heads.items():
            if track in waiting.shown:
                covers.shown.append(waiting.faces[track])
                self.shown.add(track)
                continue
            self.hidden.add(track)
            for head in heads:
                cover = covers.add(picture, head, self._covers.get(track))
                if cover is not None:
                    self._covers[track] = cover
                    tracks.append(track)
        result = settle(picture, covers, self._found_again)
        self.strays += len(covers.places) - len(tracks)
        for track, (_, cover) in zip(tracks, covers.places, strict=False):
            if cover.weaker > self._covers[track].weaker:
                self._covers[track] = cover
        return Frame(number=waiting.frame.number, seconds=waiting.frame.seconds, pixels=result)

    def _found_again(self, picture: Pixels) -> list[Detection]:
        return [face for detector in self._detectors for face in detector.detect(picture)]
