"""What was watched, as pictures: boxes with names in a frame, and a sheet of faces."""

from __future__ import annotations

import heapq
import io
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from veilface_client.images import Pixels
from veilface_client.video.watching import Ended, Shown

UNKNOWN = "unknown"
_KNOWN_COLOUR, _UNKNOWN_COLOUR = (32, 160, 70), (200, 120, 20)
_PAPER, _INK, _LIGHT = (255, 255, 255), (30, 30, 30), (120, 120, 120)
_MOST_ROWS = 40
_MOST_FACES = 6  # in a row
_FACE = 96  # pixels of a face's side on the sheet
_LABEL = 240  # pixels of width for who it was, and when
_GAP = 8
_LONGEST_NAME = 28  # letters of a name that are shown


def overlaid(frame: Pixels, faces: Iterable[Shown]) -> Pixels:
    """Return a copy of a frame with a box and a name for each face; thin where it was not seen."""
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    size = max(12, min(picture.size) // 28)
    font = ImageFont.load_default(size)
    for face in faces:
        left, top, width, height = face.sighting.detection.box
        if width < 1 or height < 1:
            continue
        colour = _UNKNOWN_COLOUR if face.name is None else _KNOWN_COLOUR
        line = max(2, size // 7) if face.sighting.seen else 1
        draw.rectangle((left, top, left + width, top + height), outline=colour, width=line)
        text = shortened(face.name or UNKNOWN)
        place = (left, top - size - 6) if top > size + 6 else (left, top + height + 2)
        draw.rectangle(draw.textbbox(place, text, font=font), fill=colour, outline=colour, width=3)
        draw.text(place, text, fill=_PAPER, font=font)
    return np.asarray(picture)


class ContactSheet:
    """A row for each track: who, from when to when, and some of its faces over time.

    The tracks that were seen in most frames are kept, those with a name first.
    """

    def __init__(self, most_rows: int = _MOST_ROWS) -> None:
        """Begin with an empty sheet."""
        self._most_rows = most_rows
        self._rows: list[tuple[bool, int, int, _Row]] = []  # a heap, the least important first
        self._count = itertools.count()
        self._left_out = 0

    def add(self, ended: Ended) -> None:
        """Take note of a track."""
        faces = tuple(
            np.asarray(Image.fromarray(pixels).resize((_FACE, _FACE), Image.Resampling.LANCZOS))
            for pixels in _spread([look.pixels for look in ended.way.looks])
        )
        row = _Row(name=ended.name, start=ended.start, end=ended.end, faces=faces)
        heapq.heappush(self._rows, (ended.name is not None, ended.frames, -next(self._count), row))
        if len(self._rows) > self._most_rows:
            heapq.heappop(self._rows)
            self._left_out += 1

    def picture(self) -> bytes:
        """Return the sheet as a PNG, in order of time."""
        rows = sorted((row for *_, row in self._rows), key=lambda row: (row.start, row.end))
        height = _GAP + max(1, len(rows)) * (_FACE + _GAP) + (24 if self._left_out else 0)
        width = _LABEL + _MOST_FACES * (_FACE + _GAP) + _GAP
        sheet = Image.new("RGB", (width, height), _PAPER)
        draw = ImageDraw.Draw(sheet)
        large, small = ImageFont.load_default(18), ImageFont.load_default(14)
        for number, row in enumerate(rows):
            top = _GAP + number * (_FACE + _GAP)
            colour = _UNKNOWN_COLOUR if row.name is None else _KNOWN_COLOUR
            name = shortened(row.name or UNKNOWN)
            draw.text((_GAP, top + 24), name, fill=colour, font=large)
            draw.text((_GAP, top + 50), f"{row.start:.1f}-{row.end:.1f} s", fill=_INK, font=small)
            for place, face in enumerate(row.faces):
                left = _LABEL + place * (_FACE + _GAP)
                sheet.paste(Image.fromarray(face), (left, top))
        note = f"and {self._left_out} more" if self._left_out else "" if rows else "nobody was seen"
        draw.text((_GAP, height - 22 if self._left_out else _GAP), note, fill=_LIGHT, font=small)
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG")
        return buffer.getvalue()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    name: str | None
    start: float
    end: float
    faces: tuple[Pixels, ...]  # [96, 96, 3]


def _spread(pixels: Iterable[Pixels | None]) -> list[Pixels]:
    """Return at most as many as a row holds, evenly over what there is."""
    there = [one for one in pixels if one is not None]
    count = min(_MOST_FACES, len(there))
    return [there[round(at)] for at in np.linspace(0, len(there) - 1, count)]


def shortened(name: str) -> str:
    """Return as much of a name as a picture has place for."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
