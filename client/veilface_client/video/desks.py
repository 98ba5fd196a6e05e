"""What an open organisation hands to whoever watches a video: eyes, thresholds and names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from veilface_client.calibration import Question
from veilface_client.limits import LimitReached
from veilface_client.recognition import lines, matching
from veilface_client.recognition.desk import Desk
from veilface_client.roles import Actor
from veilface_client.video.looking import Looker, probe_of
from veilface_client.video.sightings import Track
from veilface_client.video.tracks import Linking
from veilface_client.video.watching import KEEP, LIMITED, Naming
from veilface_common.models import track_of

# (probe [D], was this track asked about before?) -> (name or None, why)
Answering = Callable[[NDArray[np.float32], bool], tuple[str | None, str]]


def looker_of(desk: Desk, *, keep_pixels: bool = False) -> Looker:
    """Return what looks at faces as this organisation's enrolment does.

    Raises:
        ConfigError: no model is accepted yet.
        ArtifactError: its files are missing or altered.
    """
    return Looker(
        aligner=desk.detector,
        embed=desk.template,
        pixels=desk.embedder.manifest.model.pixels,
        keep_pixels=keep_pixels,
    )


def linking_of(desk: Desk) -> Linking:
    """Return how faces are followed.

    Who was lost is known again as surely as a strong match of `verify`: each face that comes is
    compared with everybody who was lost. Who is below what `verify` calls alike at all is another.

    Raises:
        ConfigError: the organisation has no threshold.
    """
    question: Question = "verify" if lines.is_drawn(desk, "verify") else "identify"
    line = lines.line(desk, question)
    return Linking(
        join_cosine=max(line.strong, line.threshold),
        apart_cosine=lines.lenient(desk),
        keep=KEEP,
    )


def naming_of(desk: Desk, actor: Actor, tell: Callable[[str], None]) -> Naming:
    """Return what says who a track is, as `answering_of` does."""
    answer = answering_of(desk, actor, tell)

    def name(track: Track, was_asked: bool) -> tuple[str | None, str]:  # noqa: FBT001 -- as `Naming` has it
        return answer(probe_of(track, track_of(desk.embedder.network)), was_asked)

    return name


def answering_of(desk: Desk, actor: Actor, tell: Callable[[str], None]) -> Answering:
    """Return what says whose a track's probe is, through the same door as every identification.

    Args:
        desk: the organisation's.
        actor: who asks.
        tell: is told, once, of each limit that is reached; nobody is named beyond it.
    """
    told = set[str]()

    def answer(probe: NDArray[np.float32], was_asked: bool) -> tuple[str | None, str]:  # noqa: FBT001 -- as `Naming`
        try:
            found = matching.identify_track(desk, actor, probe, again=was_asked)
        except LimitReached as limit:
            text = f"{limit}; {limit.hint}; until then nobody is named"
            if text not in told:
                told.clear()  # an older one: hours of video must not fill memory
                told.add(text)
                tell(text)
            return None, LIMITED
        return found.answer, found.reason

    return answer


def warning_of(desk: Desk, detector: str) -> str:
    """Return what must be known of the threshold, where faces are found by another detector too.

    Raises:
        ConfigError: there is no threshold.
    """
    with desk.gallery() as gallery:
        templates = len(gallery)
        told = [lines.line(desk, "identify", templates).warning]
    if not templates:
        told = ["nobody is enrolled who could be identified"]
    if detector != desk.detector.name:
        told.append(
            f"{detector} finds the faces; only those that {desk.detector.name} sees too are named, "
            "for which the threshold holds"
        )
    return "; ".join(filter(None, told))
