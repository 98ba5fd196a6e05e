"""Videos of people, as a source of photographs holds them: some frames of each, in their order.

A frame is a photograph named `PERSON/VIDEO_FRAME`, or one in a folder of its own for each video,
`PERSON/VIDEO/FRAME`. The frames of a video are one track: they show one person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from veilface_client.folders import Tally, printable
from veilface_client.perturbations.levels import PERTURBATIONS, perturb
from veilface_client.pseudo_tracks import KINDS
from veilface_client.sources import Photograph, Source
from veilface_common.errors import DataError
from veilface_simulations.robustness.scenes import Cropped, Scene

FRAMES = 5  # of a video, evenly over those that there are
SPOILT_SHARE = 0.4  # of the frames of a video
LEVELS = (3, 4, 5)
Condition = Literal["clean", "known", "new"]
# What goes wrong with frames: nothing, what training shows, what it never shows.
CONDITIONS: Mapping[Condition, tuple[str, ...]] = {
    "clean": (),
    "known": KINDS,
    "new": tuple(kind for kind in PERTURBATIONS if kind not in KINDS),
}
Half = Literal["choosing", "reporting"]
_VIDEO = re.compile(r"(.+)/([^/]+)/[^/]+|(.+)/([^/]+)_[^_/]+")


@dataclass(frozen=True, kw_only=True, eq=False)
class Video:
    """One person, some frames of her, and which of them were spoilt."""

    person: str
    name: str
    frames: tuple[Scene, ...]
    spoilt: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Videos:
    """Videos of half of the people."""

    videos: tuple[Video, ...]
    warnings: tuple[str, ...]


def read_videos(
    source: Source, *, half: Half, seed: int, progress: Callable[[int, int], None]
) -> Videos:
    """Return the videos of half of a source's people, who are dealt out by the seed.

    Raises:
        DataError: there are no videos of two people, or nobody has two.
    """
    held = _by_video(source.photographs())
    names = sorted({person for person, _ in held})
    dealt = np.random.default_rng(seed).permutation(names)
    count = len(names) // 2
    chosen = set(dealt[:count] if half == "choosing" else dealt[count:])
    eye, tally = Cropped(source.crop), Tally()
    found = []
    wanted = [key for key in held if key[0] in chosen]
    for done, key in enumerate(wanted, start=1):
        frames = _frames(held[key], eye, tally)
        if frames:
            spoilt = (False,) * len(frames)
            found.append(Video(person=key[0], name=key[1], frames=frames, spoilt=spoilt))
        progress(done, len(wanted))
    people = [video.person for video in found]
    if len(set(people)) < 2 or len(set(people)) == len(people):
        raise DataError(
            f"expected videos of two people or more, somebody with two, got {len(people)} videos "
            f"of {len(set(people))} people",
            hint="a folder for each person, frames named VIDEO_FRAME or VIDEO/FRAME",
        )
    return Videos(videos=tuple(found), warnings=(*source.warnings, *tally.lines()))


def spoil(video: Video, condition: Condition, seed: int) -> Video:
    """Return the video with some of its frames gone wrong, each in its own way."""
    kinds = CONDITIONS[condition]
    if not kinds:
        return video
    text = f"{seed} {condition} {video.person} {video.name}".encode()
    random = np.random.default_rng(list(text))
    count = len(video.frames)
    bad = set(random.permutation(count)[: round(SPOILT_SHARE * count)].tolist())
    frames = [
        _spoilt(frame, random, kinds) if number in bad else frame
        for number, frame in enumerate(video.frames)
    ]
    return replace(
        video, frames=tuple(frames), spoilt=tuple(number in bad for number in range(count))
    )


def _spoilt(frame: Scene, random: np.random.Generator, kinds: Sequence[str]) -> Scene:
    kind = kinds[int(random.integers(len(kinds)))]
    level = LEVELS[int(random.integers(len(LEVELS)))]
    seed = int(random.integers(2**31))
    return replace(frame, pixels=perturb(frame.pixels, kind, level, seed=seed, face=frame.face))


def _by_video(photographs: Iterable[Photograph]) -> dict[tuple[str, str], list[Photograph]]:
    held: dict[tuple[str, str], list[Photograph]] = {}
    for photograph in photographs:
        parts = _VIDEO.fullmatch(photograph.name)
        if parts is None:
            raise DataError(
                "expected frames named PERSON/VIDEO_FRAME or PERSON/VIDEO/FRAME, got others",
                hint="only a set of videos can be measured so",
            )
        held.setdefault((photograph.person, parts[2] or parts[4]), []).append(photograph)
    return held


def _frames(photographs: Sequence[Photograph], eye: Cropped, tally: Tally) -> tuple[Scene, ...]:
    """Return at most FRAMES frames, evenly over those that can be read."""
    places = np.linspace(0, len(photographs) - 1, min(FRAMES, len(photographs)))
    found = []
    for place in places.round().astype(int):
        try:
            found.append(eye.scene(photographs[place].load()))
        except DataError as error:
            # The warning stands in a page that is passed on: it names no file, so nobody.
            tally.add("frame", "left out: it cannot be read", printable(str(error)))
    return tuple(found)
