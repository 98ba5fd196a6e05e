"""Tracks against the truth: whose they are, whether the name is right, who was missed.

A track is of whomever its boxes overlap most, a fifth of intersection over union or more, in most
of the frames that it tells of. Where these frames are of two people, it was passed on: a switch.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from veilface_client.video.motion import overlaps
from veilface_simulations.film_report.told import STRANGER, Moment, Track, Truth

_SAME = 0.2  # detectors differ in what a face is
Verdict = Literal["right", "stranger", "missed", "wrong", "nobody"]
VERDICTS: dict[Verdict, str] = {
    "right": "named, and rightly",
    "stranger": "a stranger, unknown as they should be",
    "missed": "enrolled, but unknown",
    "wrong": "named as somebody else",
    "nobody": "where nobody is",
}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A track, and what the truth says of it."""

    track: Track
    person: str | None  # None: nobody was there
    switches: int  # to another person
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Presence:
    """How long one person is to be seen, and for how much of it they were followed."""

    name: str
    intervals: tuple[tuple[float, float], ...]  # seconds
    seconds: float  # to be seen
    followed: float  # of these, in a track of theirs
    tracks: int


def judge(tracks: Sequence[Track], truth: Truth) -> tuple[Judged, ...]:
    """Return what each track is of, in their order."""
    return tuple(_judged(track, truth) for track in tracks)


def presences(judged: Sequence[Judged], truth: Truth) -> tuple[Presence, ...]:
    """Return what became of each person of the film, in the order of their coming."""
    return tuple(_presence(name, judged, truth) for name in truth.people)


def _judged(track: Track, truth: Truth) -> Judged:
    whose = [person_at(truth.at(seconds), tuple(box)) for seconds, *box in track.places]
    known = [name for name in whose if name is not None]
    switches = sum(before != after for before, after in itertools.pairwise(known))
    person = None
    if 2 * len(known) >= len(whose) and known:
        person = Counter(known).most_common(1)[0][0]
    return Judged(
        track=track, person=person, switches=switches, verdict=_verdict(track.name, person)
    )


def person_at(moment: Moment, box: tuple[float, ...]) -> str | None:
    """Return whose face a box [4] is on."""
    if not moment.people:
        return None
    shares = overlaps(np.array((box,)), moment.boxes())[0]
    best = int(shares.argmax())
    return moment.people[best].name if shares[best] >= _SAME else None


def _verdict(name: str | None, person: str | None) -> Verdict:
    if person is None:
        return "nobody"
    if name is None:
        return "stranger" if person.startswith(STRANGER) else "missed"
    return "right" if name == person else "wrong"


def _presence(name: str, judged: Sequence[Judged], truth: Truth) -> Presence:
    own = [one.track for one in judged if one.person == name]
    step = 1 / truth.rate
    seen = [
        moment.seconds
        for moment in truth.frames
        if any(person.name == name and person.seen for person in moment.people)
    ]
    followed = [at for at in seen if any(one.start <= at <= one.end for one in own)]
    return Presence(
        name=name,
        intervals=_joined(seen, step),
        seconds=len(seen) * step,
        followed=len(followed) * step,
        tracks=len(own),
    )


def _joined(times: Sequence[float], step: float) -> tuple[tuple[float, float], ...]:
    """Return from when to when: frames that follow one another are one interval."""
    intervals: list[tuple[float, float]] = []
    for at in times:
        if intervals and at - intervals[-1][1] <= 0.5 * step:
            intervals[-1] = intervals[-1][0], at + step
        else:
            intervals.append((at, at + step))
    return tuple(intervals)
