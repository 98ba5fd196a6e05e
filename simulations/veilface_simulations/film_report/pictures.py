"""Frames of the videos, and a drawing of who was there when."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from veilface_client.images import Pixels
from veilface_client.video.reading import open_video
from veilface_common.errors import DataError
from veilface_simulations.film_report.judging import Judged, Presence, Verdict
from veilface_simulations.film_report.told import Moment, Truth
from veilface_simulations.plots import CENTRAL, FEDERATED, GRID, INK, LOCAL, Plot, canvas, to_svg

_MOMENTS = 5
_QUALITY = 85
_MOST_PIXELS = 4096 * 8192  # of a contact sheet
COLOURS: dict[Verdict, str] = {
    "right": CENTRAL,
    "stranger": FEDERATED,
    "missed": LOCAL,
    "wrong": LOCAL,
    "nobody": LOCAL,
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One moment of the film: watched, and hidden; both as data URIs."""

    moment: Moment
    watched: str
    hidden: str


def moments_of(truth: Truth) -> tuple[Moment, ...]:
    """Return some frames over the whole film with many people in them, and one that is damaged."""
    length = len(truth.frames)
    parts = [
        truth.frames[length * part // _MOMENTS : length * (part + 1) // _MOMENTS]
        for part in range(_MOMENTS)
    ]
    chosen = [max(part, key=_seen) for part in parts if part]
    damaged = [moment for moment in truth.frames if moment.corrupted]
    if damaged:
        chosen.append(max(damaged, key=lambda moment: sum(one.seen for one in moment.people)))
    unique = {moment.frame: moment for moment in chosen}
    return tuple(unique[frame] for frame in sorted(unique))


def _seen(moment: Moment) -> tuple[bool, int]:
    return not moment.corrupted, sum(person.seen for person in moment.people)


def pairs_of(moments: Sequence[Moment], overlay: Path, hidden: Path) -> tuple[Pair, ...]:
    """Return the moments as pictures of both videos.

    Raises:
        DataError: one of them cannot be read.
    """
    watched, covered = (_frames(path, moments) for path in (overlay, hidden))
    return tuple(
        Pair(moment=moment, watched=jpeg(one), hidden=jpeg(other))
        for moment, one, other in zip(moments, watched, covered, strict=True)
    )


def _frames(path: Path, moments: Sequence[Moment]) -> list[Pixels]:
    """Return the frame of a video that is nearest to each moment."""
    nearest: list[tuple[float, Pixels] | None] = [None] * len(moments)
    with open_video(str(path)) as video:
        for frame in video:
            for index, moment in enumerate(moments):
                apart, best = abs(frame.seconds - moment.seconds), nearest[index]
                if best is None or apart < best[0]:
                    nearest[index] = apart, frame.pixels
    found = [best[1] for best in nearest if best is not None]
    if len(found) != len(moments):
        raise DataError(f"expected frames in {path}, got none")
    return found


def jpeg(pixels: Pixels) -> str:
    """Return a picture [H, W, 3] as a data URI."""
    return _uri(Image.fromarray(pixels))


def sheet_of(path: Path) -> str:
    """Return a contact sheet as a data URI. Raises DataError where it is no picture."""
    try:
        with Image.open(path) as sheet:
            if sheet.width * sheet.height > _MOST_PIXELS:
                raise DataError(f"expected a contact sheet in {path}, got too large a picture")
            return _uri(sheet.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"expected a contact sheet in {path}, got no picture") from error


def _uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def timeline(judged: Sequence[Judged], people: Sequence[Presence], length: float) -> Plot:
    """Draw who is there, in grey, and over it the tracks with the names that they were given."""
    rows = [person.name for person in people]
    nobody = any(one.person is None for one in judged)
    names = [*rows, "nobody"] if nobody else rows
    drawing, axes = canvas(height=0.9 + 0.42 * len(names))
    for row, person in enumerate(people):
        spans = [(start, end - start) for start, end in person.intervals]
        axes.broken_barh(spans, (row - 0.4, 0.8), color=GRID)
    for one in judged:
        row = len(rows) if one.person is None else rows.index(one.person)
        start, span = one.track.start, one.track.end - one.track.start
        axes.broken_barh([(start, span)], (row - 0.26, 0.52), color=COLOURS[one.verdict], alpha=0.6)
        text = one.track.name or "unknown"
        label = axes.text(start + 0.15, row, text, va="center", size=8, color=INK, clip_on=True)
        label.set_parse_math(False)
    axes.set_xlim(0, length)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
        label.set_color(INK)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("Seconds")
    return Plot(
        name="timeline",
        title="Who was there when",
        caption="Grey: to be seen in truth. Bars: tracks, with the name that was given. Green is "
        "a right name, blue a stranger who stayed unknown, orange whoever was missed or mistaken.",
        svg=to_svg(drawing, "timeline", "Who was there when, in truth and as it was told"),
    )
