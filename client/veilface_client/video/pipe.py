"""What the process that decodes says to the one that asked: a kind, a length and a content each.

The reader does not trust the writer: a video may have taken it over.
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
from dataclasses import dataclass
from typing import TypeVar

from veilface_common.errors import ConfigError, DataError, VeilfaceError
from veilface_common.typed_json import from_json, to_json

OPENED, REFUSED, PICTURE, ENDED = b"O", b"R", b"P", b"E"  # the second and the last end it
_HEAD = struct.Struct("<cQ")
_TIME = struct.Struct("<d")
_MOST_JSON = 10_000  # bytes
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What is known once the first picture is decoded; first, and once."""

    width: int  # of the pictures that follow
    height: int
    rate: float  # nominal pictures a second
    seconds: float | None  # how long it says that it is

    def fits(self, most_pixels: int) -> bool:
        """Return whether these are numbers of a video within the limit."""
        return (
            min(self.width, self.height) >= 1
            and self.width * self.height <= most_pixels
            and 0 < self.rate < math.inf
            and (self.seconds is None or 0 <= self.seconds < math.inf)
        )


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Why there is nothing to see."""

    message: str
    hint: str | None
    is_setting: bool  # a camera that is not there, rather than a file that is not read

    def error(self) -> VeilfaceError:
        """Return it as what is raised."""
        return (ConfigError if self.is_setting else DataError)(self.message, hint=self.hint)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """All was read; `problem` says what was not readable."""

    problem: str


class PipeBroken(Exception):  # noqa: N818 -- named for what happened
    """The other process is gone, silent, or says what it may not."""


def write_message(pipe: int, kind: bytes, content: Opened | Refused | Ended) -> None:
    """Say one thing that is not a picture."""
    text = json.dumps(to_json(content)).encode()
    write_all(pipe, _HEAD.pack(kind, len(text)) + text)


def write_picture(pipe: int, seconds: float, pixels: memoryview) -> None:
    """Pass a picture on: its time, then its bytes."""
    write_all(pipe, _HEAD.pack(PICTURE, _TIME.size + pixels.nbytes) + _TIME.pack(seconds))
    write_all(pipe, pixels)


def write_all(pipe: int, content: bytes | memoryview) -> None:
    """Write all of it."""
    left = memoryview(content)
    while left:
        left = left[os.write(pipe, left) :]


def read_head(pipe: int, patience_seconds: float) -> tuple[bytes, int]:
    """Return (the kind of the next message, how many bytes follow).

    Raises:
        PipeBroken: none comes within the time.
    """
    head = bytearray(_HEAD.size)
    read_into(pipe, memoryview(head), patience_seconds)
    kind, size = _HEAD.unpack(head)
    return kind, size


def read_message(pipe: int, size: int, form: type[T], patience_seconds: float) -> T:
    """Return the message of this form that follows a head.

    Raises:
        PipeBroken: it is none.
    """
    if size > _MOST_JSON:
        raise PipeBroken
    text = bytearray(size)
    read_into(pipe, memoryview(text), patience_seconds)
    try:
        return from_json(form, json.loads(text), "the decoder's message")
    except (ValueError, RecursionError, VeilfaceError):
        raise PipeBroken from None


def read_picture(pipe: int, size: int, pixels: memoryview, patience_seconds: float) -> float:
    """Fill the bytes of a picture and return its time, in seconds.

    Raises:
        PipeBroken: it has another size, or does not come.
    """
    if size != _TIME.size + pixels.nbytes:
        raise PipeBroken
    time = bytearray(_TIME.size)
    read_into(pipe, memoryview(time), patience_seconds)
    read_into(pipe, pixels, patience_seconds)
    (seconds,) = _TIME.unpack(time)
    return float(seconds)


def read_into(pipe: int, place: memoryview, patience_seconds: float) -> None:
    """Fill `place` from the pipe; each part of it may take so long."""
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    while place:
        is_ready = waiting.poll(patience_seconds * 1000)
        count = os.readv(pipe, [place]) if is_ready else 0
        if count == 0:
            raise PipeBroken
        place = place[count:]
