"""Where what was watched goes: lines as they come, pictures, and a command for whoever is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from veilface_client.video.on_match import OnMatch
from veilface_client.video.picturing import UNKNOWN, ContactSheet, overlaid
from veilface_client.video.reading import Frame, Video
from veilface_client.video.sightings import Sighting
from veilface_client.video.watching import Began, Ended, Event, Joined, Named, Shown
from veilface_client.video.writing import VideoWriter

Line = Mapping[str, object]


@dataclass(kw_only=True)
class Telling:
    """Passes on what happens, as it happens."""

    say: Callable[[str], None]  # is given one line at a time
    as_json: bool = False  # every event; else a line of text for each track that ended
    on_match: OnMatch | None = None
    sheet: ContactSheet | None = None
    overlay: VideoWriter | None = None
    _frames: int = 0
    _seconds: float = 0.0

    def begin(self, line: Line) -> None:
        """Say what is watched."""
        self._say(line)

    def show(self, frame: Frame, events: Sequence[Event], shown: Sequence[Shown]) -> None:
        """Pass on what happened in one more frame, and who is in it."""
        self._frames, self._seconds = self._frames + 1, frame.seconds
        self._happened(events)
        if self.on_match:
            named = {one.name for one in shown if one.name is not None and one.sighting.seen}
            self.on_match.are_there(named, frame.seconds)
            self.on_match.look_after()
        if self.overlay:
            self.overlay.add_pixels(overlaid(frame.pixels, shown), frame.seconds)

    def end(self, events: Sequence[Event], problem: str) -> None:
        """Pass on what happened at the end, and wait for the command."""
        self._happened(events)
        if self.on_match:
            self.on_match.close()
        self._say(
            {
                "event": "done",
                "seconds": round(self._seconds, 3),
                "frames": self._frames,
                "problem": problem,
            }
        )

    def _happened(self, events: Sequence[Event]) -> None:
        for event in events:
            self._say(line_of(event))
            # No door is opened for somebody who has gone.
            if isinstance(event, Named) and event.is_there and self.on_match:
                self.on_match.came(event.name, event.seconds)
            if isinstance(event, Ended):
                if not self.as_json:
                    self.say(f"{event.start:.1f}-{event.end:.1f} s  {event.name or UNKNOWN}")
                if self.sheet:
                    self.sheet.add(event)

    def _say(self, line: Line) -> None:
        if self.as_json:
            self.say(json.dumps(line, ensure_ascii=False))


def first_line(source: str, video: Video, now: datetime, warning: str) -> Line:
    """Return what is said before everything else."""
    return {
        "event": "video",
        "source": source,
        "width": video.width,
        "height": video.height,
        "rate": round(video.rate, 3),
        "seconds": None if video.seconds is None else round(video.seconds, 3),
        "watched_at": now.isoformat(timespec="milliseconds"),
        "warning": warning,
    }


def line_of(event: Event) -> Line:
    """Return an event as docs/video.md describes it; no score is in it."""
    if isinstance(event, Began):
        return {"event": "began", "track": event.track, "seconds": round(event.seconds, 3)}
    if isinstance(event, Joined):
        seconds = round(event.seconds, 3)
        return {"event": "joined", "track": event.track, "seconds": seconds, "into": event.into}
    if isinstance(event, Named):
        seconds = round(event.seconds, 3)
        return {
            "event": "named",
            "track": event.track,
            "seconds": seconds,
            "name": event.name,
            "is_there": event.is_there,
        }
    return {
        "event": "ended",
        "track": event.track,
        "start": round(event.start, 3),
        "end": round(event.end, 3),
        "name": event.name,
        "reason": event.reason,
        "frames": event.frames,
        "looks": event.looks,
        "places": [_place(one) for one in event.way.sightings],
    }


def _place(sighting: Sighting) -> list[float]:
    """Return when and where: seconds, then left, top, width and height in pixels."""
    return [round(sighting.seconds, 3), *(round(side, 1) for side in sighting.detection.box)]
