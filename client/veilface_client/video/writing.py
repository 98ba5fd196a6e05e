"""A video file: pictures with their times -> H.264 in MP4, which a browser plays.

No sound and no metadata; whole or absent, whatever happens while it is written.
"""

from __future__ import annotations

import os
import tempfile
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.frame import VideoFrame

from veilface_client.images import Pixels
from veilface_client.video.reading import Frame
from veilface_common.errors import DataError
from veilface_common.files import sync_folder

_CLOCK = 90_000  # ticks a second, as in broadcasting: every usual rate falls on them
_QUALITY = "20"  # constant rate factor of x264: 18 is hardly told from the original, 23 the usual
_MOST_SECONDS = 100 * 3600.0  # a time beyond that is a damaged file's


class VideoWriter:
    """Writes a video beside `path` and puts it there when its context ends without an error."""

    def __init__(self, path: Path, *, width: int, height: int, rate: float) -> None:
        """Begin a video of these pictures: width and height in pixels, rate in pictures a second.

        Raises:
            OSError: the folder cannot be written.
        """
        self._path, self._shape = path, (height, width)
        # H.264 keeps colour at half the resolution: odd sides get one more row or column.
        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        self._temporary = Path(name)
        try:
            self._container = av.open(
                name,
                "w",
                format="mp4",
                container_options={"movflags": "+faststart", "fflags": "+bitexact"},
            )
            stream = self._container.add_stream(
                "libx264",
                rate=Fraction(rate).limit_denominator(1001),
                options={"crf": _QUALITY, "preset": "veryfast"},
            )
            stream.width, stream.height = width + width % 2, height + height % 2
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = Fraction(1, _CLOCK)
            # Or the stated length of a video of uneven rate is that of its decoding order.
            stream.max_b_frames = 0
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise
        self._stream = stream
        self._tick = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._container.close()
            self._temporary.unlink(missing_ok=True)

    def add(self, frame: Frame) -> None:
        """Write one more picture, of the size that was told, no earlier than the one before.

        Raises:
            DataError: its size is another, or its time cannot be written.
        """
        self.add_pixels(frame.pixels, frame.seconds)

    def add_pixels(self, pixels: Pixels, seconds: float) -> None:
        """Write one more picture, uint8 [H, W, 3], at this time; otherwise as `add`."""
        if pixels.shape[:2] != self._shape:
            height, width = self._shape
            got = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise DataError(f"expected a picture of {width} x {height} pixels, got {got}")
        if not 0 <= seconds <= _MOST_SECONDS:
            raise DataError(f"expected a time of 0 to {_MOST_SECONDS:.0f} seconds, got {seconds}")
        self._tick = max(round(seconds * _CLOCK), self._tick + 1)
        picture = VideoFrame.from_ndarray(np.pad(pixels, self._padding, mode="edge"))
        picture.pts, picture.time_base = self._tick, Fraction(1, _CLOCK)
        self._container.mux(self._stream.encode(picture))

    def _finish(self) -> None:
        """Write the end, and put the file in its place.

        Raises:
            DataError: no picture was added.
        """
        if self._tick < 0:
            raise DataError("expected pictures to write, got none")
        self._container.mux(self._stream.encode(None))
        self._container.close()
        with self._temporary.open("rb+") as file:
            os.fsync(file.fileno())
        self._temporary.replace(self._path)
        sync_folder(self._path.parent)
