"""The process that decodes a video: FFmpeg runs here, away from keys and templates.

    python -P -m veilface_client.video.decoding MOST_PIXELS [camera:N] < FILE > PIPE

A video is a stranger's file, and FFmpeg is a million lines of C. So it gets a process with little
to take or to break: memory that ends at `MEMORY_BYTES` (627 bytes of MP4 can ask for gigabytes),
and, before the first byte of a file is looked at, no more files, sockets or processes. The rules
that a video must pass are in `reading`.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, NoReturn, cast

import av
import av.audio.codeccontext  # these PyAV would import late, when no file can be opened any more
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext
import av.video.reformatter
import numpy as np
from av.buffer import Buffer
from av.codec.context import ThreadType
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from veilface_client.images import Pixels
from veilface_client.video import pipe
from veilface_common.errors import ConfigError, DataError, VeilfaceError

MEMORY_BYTES = 2 << 30  # 16 pictures of 16 megapixels and 10 bits, and the programs themselves
CONTAINERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "gif")  # as FFmpeg calls them
CODECS = (
    *("h264", "hevc", "vp8", "vp9", "libdav1d", "av1"),
    *("mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "prores", "gif"),
)
CAMERA = "camera:"  # and its number

_CAMERA_CODECS = ("rawvideo", "mjpeg")
_USUAL_RATE = 25.0  # pictures a second, where nothing says how many
_LEAST_RATE, _MOST_RATE = 0.01, 1000.0
_SQUEEZED = (0.25, 4.0)  # shapes of a pixel that cameras have; what lies outside is not believed
_MISSING = 0.05  # a track that ends by this share, or by a second, too early was cut short
_CUT_HINT = "copy it again from where it came from"
_KIND_HINT = "ffmpeg -i FILE -c:v libx264 -an copy.mp4 makes one that can be read"
_STDIN, _STDOUT = 0, 1


@dataclass(frozen=True, kw_only=True)
class Turn:
    """How a stored picture is brought upright."""

    transposes: bool = False
    mirrors: bool = False  # left and right, after that
    flips: bool = False  # top and bottom, after that

    def apply(self, pixels: Pixels) -> Pixels:
        """Return [H, W, 3] or [W, H, 3]."""
        if self.transposes:
            pixels = pixels.transpose(1, 0, 2)
        if self.mirrors:
            pixels = pixels[:, ::-1]
        if self.flips:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


class Track:
    """The pictures of an open container."""

    def __init__(self, container: InputContainer, most_pixels: int) -> None:
        """Decode the first picture.

        Raises:
            DataError: there is none, or it is beyond the limit.
        """
        self._container, self._most_pixels = container, most_pixels
        self._stream = _picture_stream(container, most_pixels)
        self._damaged, self._stopped = 0, ""
        self._last = self._shown = 0.0  # time of the last picture, and how long it is to be seen
        self._pictures = self._decoded()
        first = next(self._pictures, None)
        if first is None:
            raise DataError("expected a video with pictures, got none that decodes", hint=_CUT_HINT)
        self._first: VideoFrame | None = first
        self._shape = _square_shape(first, self._stream)
        self._turn = upright(first)
        self._start = _time_of(first)
        width, height = self._shape
        if self._turn.transposes:
            width, height = height, width
        self.opened = pipe.Opened(
            width=width,
            height=height,
            rate=_rate_of(self._stream),
            seconds=_seconds_of(container, self._stream),
        )

    def __iter__(self) -> Iterator[tuple[float, Pixels]]:
        """Give each picture's time and pixels; what does not decode is left out and counted."""
        picture, self._first = self._first, None
        is_first = True
        while picture is not None:
            seconds = 0.0 if is_first else self._seconds(picture)
            try:
                pixels = self._pixels(picture)
            except (av.FFmpegError, ValueError):
                self._damaged += 1
            else:
                self._last, self._shown, is_first = seconds, _shown_seconds(picture), False
                yield seconds, pixels
            picture = next(self._pictures, None)

    @property
    def problem(self) -> str:
        """What was not readable, once all was read; empty: nothing."""
        told = [self._stopped] if self._stopped else []
        stated = self.opened.seconds or 0.0
        # Some containers count their length from the first picture, others from zero.
        reached = self._last + max(self._start or 0.0, 0.0)
        usual = max(self._shown, 2 / self.opened.rate, min(1.0, _MISSING * stated))
        if not told and reached + usual < stated:
            told.append(f"cut short: it ends at {self._last:.1f} of {stated:.1f} seconds")
        if self._damaged:
            told.append(f"damaged pictures: {self._damaged}")
        return "; ".join(told)

    def _decoded(self) -> Iterator[VideoFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, ValueError) as error:
                self._stopped = f"it cannot be read to its end ({_reason(error)})"
                return
            if packet is None:
                return
            try:
                pictures = packet.decode()
            except (av.FFmpegError, ValueError):
                self._damaged += 1
                continue
            for picture in pictures:
                self._damaged += bool(picture.is_corrupt)
                yield picture

    def _seconds(self, picture: VideoFrame) -> float:
        """Return the picture's time: the file's own, unless it has none or runs backwards."""
        time = _time_of(picture)
        if time is None or self._start is None or time - self._start <= self._last:
            return self._last + 1 / self.opened.rate
        return time - self._start

    def _pixels(self, picture: VideoFrame) -> Pixels:
        # FFmpeg was told the limit; a decoder that knows none must not make us allocate.
        if picture.width * picture.height > self._most_pixels:
            raise _too_large(picture.width, picture.height, self._most_pixels)
        width, height = self._shape  # of the first picture: later ones of another size are scaled
        scaled = picture.reformat(width=width, height=height, format="rgb24", threads=1)
        return self._turn.apply(np.asarray(scaled.to_ndarray(), np.uint8))


def open_file(file: IO[bytes], most_pixels: int) -> InputContainer:
    """Return the container in an open file, which can lead FFmpeg to no other.

    Raises:
        DataError: it is none that is read.
    """
    try:
        return av.open(
            file,
            "r",
            options=_options(most_pixels),
            container_options={
                "format_whitelist": ",".join(CONTAINERS),
                "codec_whitelist": ",".join(CODECS),
                "protocol_whitelist": "",
            },
            metadata_errors="replace",
            io_open=_open_nothing_else,
        )
    except (av.FFmpegError, ValueError) as error:
        raise DataError(
            f"expected a video ({', '.join(CONTAINERS)}), got something else or a damaged one: "
            f"{_reason(error)}",
            hint=f"{_CUT_HINT}, or: {_KIND_HINT}",
        ) from None


def open_camera(source: str, most_pixels: int) -> InputContainer:
    """Return what `camera:N` sees.

    Raises:
        ConfigError: there is no such camera.
    """
    number = source.removeprefix(CAMERA)
    if not (number.isascii() and number.isdecimal()):
        raise ConfigError(f"expected a camera's number, got {source!r}", hint="camera:0")
    device = f"/dev/video{int(number)}"
    try:
        return av.open(device, "r", format="video4linux2", options=_options(most_pixels))
    except (av.FFmpegError, ValueError) as error:
        raise ConfigError(
            f"expected a camera at {device}, got: {_reason(error)}",
            hint="camera:0 is the first; is another program using it?",
        ) from None


def upright(picture: VideoFrame) -> Turn:
    """Return the turn that the camera wrote beside the pictures, to the nearest of eight."""
    try:
        kept = cast("Mapping[SideDataType, Buffer]", picture.side_data)  # PyAV's types are wrong
        matrix = np.frombuffer(bytes(kept[SideDataType.DISPLAYMATRIX]), np.int32)
    except (KeyError, ValueError):
        return Turn()
    if len(matrix) != 9 or not matrix[[0, 1, 3, 4]].any():
        return Turn()
    # x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 8.3.2.3), of which a quarter turn
    # leaves either a and d or b and c.
    a, b, c, d = (float(matrix[at]) for at in (0, 1, 3, 4))
    if math.hypot(a, d) >= math.hypot(b, c):
        return Turn(mirrors=a < 0, flips=d < 0)
    return Turn(transposes=True, mirrors=c < 0, flips=b < 0)


def lock_in() -> None:
    """Give up files, sockets and processes that are not open yet; for good, unless we are root."""
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))


def main() -> None:
    """Decode one video from standard input, or a camera, onto standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asked decides when this ends
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    most_pixels, cameras = int(sys.argv[1]), sys.argv[2:]
    try:
        if cameras:
            container = open_camera(cameras[0], most_pixels)
            lock_in()
        else:
            lock_in()
            container = open_file(os.fdopen(_STDIN, "rb"), most_pixels)
        track = Track(container, most_pixels)
    except VeilfaceError as error:
        is_setting = isinstance(error, ConfigError)
        refused = pipe.Refused(message=str(error), hint=error.hint, is_setting=is_setting)
        pipe.write_message(_STDOUT, pipe.REFUSED, refused)
        return
    pipe.write_message(_STDOUT, pipe.OPENED, track.opened)
    for seconds, pixels in track:
        pipe.write_picture(_STDOUT, seconds, pixels.data.cast("B"))
    pipe.write_message(_STDOUT, pipe.ENDED, pipe.Ended(problem=track.problem))


def _options(most_pixels: int) -> dict[str, str]:
    return {"max_pixels": str(most_pixels), "threads": "1"}


def _open_nothing_else(*_: object) -> NoReturn:
    """Refuse what a file wants FFmpeg to open beside it."""
    raise PermissionError("a video may name no other file")


def _picture_stream(container: InputContainer, most_pixels: int) -> VideoStream:
    """Return the first stream of moving pictures, ready to be decoded.

    Raises:
        DataError: there is none, or none that is read.
    """
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic  # a cover is no video
    ]
    if not streams:
        got = "sound alone" if container.streams.audio else "none"
        raise DataError(f"expected a track of pictures, got {got}")
    stream = streams[0]
    context = stream.codec_context
    if context is None or context.name not in (*CODECS, *_CAMERA_CODECS):
        got = context.name if context else "an unknown one"
        raise DataError(f"expected one of {', '.join(CODECS)}, got {got}", hint=_KIND_HINT)
    if context.width * context.height > most_pixels:
        raise _too_large(context.width, context.height, most_pixels)
    context.thread_count = 1  # more keep more pictures
    context.thread_type = ThreadType.NONE
    context.options = _options(most_pixels)
    return stream


def _too_large(width: int, height: int, most_pixels: int) -> DataError:
    return DataError(
        f"expected pictures of at most {most_pixels} pixels, got {width} x {height}",
        hint="ffmpeg -i FILE -vf scale=1920:-2 -an copy.mp4 makes a smaller one",
    )


def _time_of(picture: VideoFrame) -> float | None:
    """Return the picture's time by the file's clock, in seconds, if it has one."""
    if picture.pts is None or picture.time_base is None:
        return None
    return float(picture.pts * picture.time_base)


def _shown_seconds(picture: VideoFrame) -> float:
    """Return how long the file says that the picture is to be seen; 0: it does not."""
    return float((picture.duration or 0) * (picture.time_base or 0))


def _rate_of(stream: VideoStream) -> float:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and _LEAST_RATE <= rate <= _MOST_RATE:
            return float(rate)
    return _USUAL_RATE


def _seconds_of(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    if container.duration and container.duration > 0:
        return float(Fraction(container.duration, av.time_base))
    return None


def _square_shape(picture: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Return (width, height) with square pixels: some cameras store a squeezed picture."""
    shape = float(stream.sample_aspect_ratio or 1)
    narrow, wide = _SQUEEZED
    if not narrow <= shape <= wide:
        shape = 1.0
    if shape >= 1:  # never larger than what was stored, which has been checked
        return picture.width, max(1, round(picture.height / shape))
    return max(1, round(picture.width * shape)), picture.height


def _reason(error: Exception) -> str:
    """Return what FFmpeg or the system said, without a path."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(said).partition("\n")[0].lower()


if __name__ == "__main__":
    main()
