"""Small video files, made by PyAV where the tests run."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from veilface_client.images import Pixels

CLOCK = Fraction(1, 1000)


def plain(level: int, width: int = 64, height: int = 48) -> Pixels:
    """Return a picture of one grey."""
    return np.full((height, width, 3), level, np.uint8)


def quarters() -> Pixels:
    """Return a picture whose corners tell how it was turned: red, green, blue, white."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32] = (220, 20, 20)
    pixels[:24, 32:] = (20, 220, 20)
    pixels[24:, :32] = (20, 20, 220)
    pixels[24:, 32:] = (220, 220, 220)
    return pixels


def corners(pixels: Pixels) -> str:
    """Return the letters of the corners: top left, top right, bottom left, bottom right."""
    height, width, _ = pixels.shape
    found = ""
    for y, x in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)):
        red, green, blue = pixels[int(y * height), int(x * width)] > 128
        found += {(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (1, 1, 1): "w"}[
            (int(red), int(green), int(blue))
        ]
    return found


def make_film(
    path: Path,
    pictures: Sequence[Pixels],
    times: Sequence[float] | None = None,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation: int | None = None,
    squeezed: Fraction | None = None,
    has_sound: bool = False,
    container_format: str | None = None,
) -> Path:
    """Write pictures at these times (in seconds; else 25 a second) and return the file's path."""
    height, width, _ = pictures[0].shape
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "10"}
        if times is not None:
            stream.codec_context.time_base = CLOCK
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if squeezed is not None:
            stream.sample_aspect_ratio = squeezed
        sound = container.add_stream("aac", rate=8000) if has_sound else None
        for number, pixels in enumerate(pictures):
            picture = VideoFrame.from_ndarray(pixels)
            if times is not None:
                picture.pts, picture.time_base = round(times[number] / CLOCK), CLOCK
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if sound is not None:
            add_sound(container, sound)
    return path


def add_sound(container: av.container.OutputContainer, sound: av.AudioStream) -> None:
    """Add a second of silence."""
    for _ in range(8):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
    container.mux(sound.encode(None))
