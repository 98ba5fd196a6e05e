"""One video: a stranger's file, or a camera, -> upright pictures with their times.

The rules of a file, in the order in which they run:

1. It is a regular file (no pipe, no device, no link put there since it was named).
2. Another process decodes it, `decoding`, with limited memory, which opens nothing else.
3. Its content, whatever its name says, is of one of `decoding.CONTAINERS`. FFmpeg's playlists,
   which would have it read other files and ask the network, are not among them.
4. It has a track of pictures in one of `decoding.CODECS`; sound is not decoded.
5. A picture has at most `most_pixels`; the decoder is told before it decodes.
6. One picture decodes.

What is damaged further on does not end it: the pictures that are readable are given, one in memory
at a time, and `Video.problem` says at the end what was not.
"""

from __future__ import annotations

import math
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from veilface_client.images import Pixels
from veilface_client.video import pipe
from veilface_common.errors import ConfigError, DataError

SUFFIXES = frozenset(
    (".mp4", ".mov", ".m4v", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg")
)
CAMERA = "camera:"  # and its number
PATIENCE_SECONDS = 60.0  # for the next picture

_DECODER = "veilface_client.video.decoding"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a picture of a video may have at most."""

    most_pixels: int = 16_777_216  # twice those of 4K


LIMITS = Limits()


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One picture of a video."""

    number: int  # from 0, of those given
    seconds: float  # since the first; never falls
    pixels: Pixels  # [H, W, 3], RGB, upright, pixels square


class Video:
    """An open video; `open_video` makes it. Its context ends with the decoder's process."""

    width: int  # of the pictures given
    height: int
    rate: float  # nominal pictures a second
    seconds: float | None  # how long it says that it is

    def __init__(self, decoder: subprocess.Popen[bytes], limits: Limits) -> None:
        """Wait until the first picture is decoded.

        Raises:
            DataError, ConfigError: there is none.
        """
        assert decoder.stdout is not None
        self._decoder, self._pipe = decoder, decoder.stdout.fileno()
        self._problem = ""
        try:
            opened = self._opened(limits)
        except pipe.PipeBroken:
            self.close()
            raise DataError(
                f"expected a video, got one that the decoder cannot take: {self._fate()}",
                hint="ffmpeg -i FILE -vf scale=1920:-2 -c:v libx264 -an copy.mp4 makes a plain one",
            ) from None
        self.width, self.height = opened.width, opened.height
        self.rate, self.seconds = opened.rate, opened.seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the decoder, and with it let the file or the camera go."""
        self._decoder.kill()
        self._decoder.wait()
        assert self._decoder.stdout is not None
        self._decoder.stdout.close()

    @property
    def problem(self) -> str:
        """What was not readable, once all was read; empty: nothing."""
        return self._problem

    def __iter__(self) -> Iterator[Frame]:
        """Give the pictures in order, once; what does not decode is left out and counted."""
        before, number = 0.0, 0
        while True:
            pixels = np.empty((self.height, self.width, 3), np.uint8)
            try:
                kind, size = pipe.read_head(self._pipe, PATIENCE_SECONDS)
                if kind == pipe.ENDED:
                    ended = pipe.read_message(self._pipe, size, pipe.Ended, PATIENCE_SECONDS)
                    self._problem = ended.problem
                    return
                if kind != pipe.PICTURE:
                    raise pipe.PipeBroken  # noqa: TRY301 -- told in one place
                place = pixels.data.cast("B")
                seconds = pipe.read_picture(self._pipe, size, place, PATIENCE_SECONDS)
            except pipe.PipeBroken:
                self._decoder.kill()
                self._problem = f"the decoder gave up after {before:.1f} seconds: {self._fate()}"
                return
            if math.isfinite(seconds):
                before = max(before, seconds)
            yield Frame(number=number, seconds=before, pixels=pixels)
            number += 1

    def _opened(self, limits: Limits) -> pipe.Opened:
        kind, size = pipe.read_head(self._pipe, PATIENCE_SECONDS)
        if kind == pipe.REFUSED:
            refused = pipe.read_message(self._pipe, size, pipe.Refused, PATIENCE_SECONDS)
            self.close()
            raise refused.error()
        opened = pipe.read_message(self._pipe, size, pipe.Opened, PATIENCE_SECONDS)
        if kind != pipe.OPENED or not opened.fits(limits.most_pixels):
            raise pipe.PipeBroken
        return opened

    def _fate(self) -> str:
        """Return what became of the decoder that broke off."""
        code = self._decoder.wait()
        if code == -9:  # by us, who lost patience
            return f"nothing for {PATIENCE_SECONDS:.0f} seconds"
        return f"it ended with code {code}"


def open_video(source: str, limits: Limits = LIMITS) -> Video:
    """Return the video in a file, or what a camera (`camera:0`) sees, its first picture decoded.

    Raises:
        DataError: it cannot be read, or is beyond the limits.
        ConfigError: there is no such camera, or PyAV is not installed.
    """
    if find_spec("av") is None:
        raise ConfigError("expected PyAV to read videos with, got none", hint="pip install av")
    if source.startswith(CAMERA):
        return _decoded(None, source, limits)
    # A link that the user names is followed, as for a photograph.
    with _open_regular(Path(os.path.realpath(source))) as file:
        return _decoded(file, "", limits)


def _decoded(file: IO[bytes] | None, camera: str, limits: Limits) -> Video:
    decoder = subprocess.Popen(  # noqa: S603 -- our own command line
        # -P: whatever lies in the folder that we were started in is not imported.
        [sys.executable, "-P", "-m", _DECODER, str(limits.most_pixels), *filter(None, [camera])],
        stdin=file or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        pipesize=1 << 20,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    return Video(decoder, limits)


def _open_regular(path: Path) -> IO[bytes]:
    try:
        # A pipe must not block the reader; a link put here since must not lead elsewhere.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DataError(
            f"expected a video, got: {str(error.strerror).lower()}", hint="check the path"
        ) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DataError("expected a video, got something that is no regular file")
    return os.fdopen(handle, "rb")
