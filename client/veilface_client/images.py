"""One photograph: untrusted bytes -> uint8 [H, W, 3], and from there the canvas around the face.

A photograph is a stranger's file. The rules, in the order in which they run:

1. It is a regular file (no pipe, no device, no link at its last step) of at most `MAX_BYTES`.
2. Its bytes are of one of `FORMATS`; Pillow's other decoders, some of which start programs, are
   never asked.
3. A JPEG passes over its pixels at most `MAX_SCANS` times.
4. Its header promises at most `MAX_PIXELS`; nothing is decoded before that is known.
5. Every pixel of it decodes.

Whatever fails is a `PhotographError`, whose `fault` says which rule, for counting.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from veilface_common.errors import ConfigError, DataError

Pixels = NDArray[np.uint8]
Fault = Literal[
    "not an image", "broken or cut short", "larger than the limit", "of a kind that is not read"
]

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000  # the largest camera pictures have about this many; 150 MB decoded
MAX_SCANS = 32  # progressive pictures have about 10
MAX_SEGMENTS = 10_000  # 640 MB of metadata, were each full
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff", ".gif")
)
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
CANVAS_MARGIN = 1.25  # the canvas is this much wider than the face, so that augmentation has room

_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG_START = b"\xff\xd8"
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_JPEG_ALONE = (0x01, 0xD8)  # markers that nothing follows
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_HINTS: dict[Fault, str] = {
    "not an image": "save it as JPEG or PNG",
    "broken or cut short": "copy it again from where it came from",
    "larger than the limit": "save a smaller copy",
    "of a kind that is not read": "save it as JPEG or PNG",
}
_one_at_a_time = threading.Lock()
_BEHIND_TRANSPARENCY = (128, 128, 128)  # mid grey: no edge against either dark or light hair


class PhotographError(DataError):
    """A photograph that cannot be read; `fault` names the kind of trouble."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message, hint=_HINTS[fault])
        self.fault = fault


def canvas_pixels(network_pixels: int) -> int:
    """Return the side of the canvas for a network that looks at `network_pixels`: 64 -> 80."""
    return round(CANVAS_MARGIN * network_pixels)


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Where the face is: a square of side `share` * shorter side around (centre_x, centre_y).

    `within_pixels` reads the share from the centre square of that size instead, where the
    photograph is larger: LFW's 250 px originals then give the same region as 160 px crops of them.
    `made_for` is the (width, height) that the centre was chosen for; in a photograph of another
    size the face is looked for in the middle.
    """

    share: float = 1.0
    centre_x: float = 0.5
    centre_y: float = 0.5
    within_pixels: int | None = None
    made_for: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not 0.01 <= self.share <= 1:
            raise ConfigError(f"expected a crop share in [0.01, 1], got {self.share!r}")
        if not (0 <= self.centre_x <= 1 and 0 <= self.centre_y <= 1):
            got = (self.centre_x, self.centre_y)
            raise ConfigError(f"expected a crop centre in [0, 1] x [0, 1], got {got}")

    def fits(self, width: int, height: int) -> bool:
        """Return whether the crop was made for photographs of this size."""
        return self.made_for is None or self.made_for == (width, height)

    def canvas_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return (left, top, right, bottom) of the canvas; it may reach beyond the photograph."""
        x, y = (self.centre_x, self.centre_y) if self.fits(width, height) else (0.5, 0.5)
        shorter = min(width, height, self.within_pixels or width)
        half = CANVAS_MARGIN * self.share * shorter / 2
        return x * width - half, y * height - half, x * width + half, y * height + half


CANVAS = Crop(share=1 / CANVAS_MARGIN)  # for pictures that are a canvas already, such as drawn ones


def cut_canvas(photograph: Pixels, crop: Crop, pixels: int) -> Pixels:
    """Return the square around the face: [H, W, 3] -> [3, pixels, pixels].

    What lies outside the photograph repeats its edge.
    """
    height, width, _ = photograph.shape
    left, top, right, bottom = crop.canvas_box(width, height)
    before = math.ceil(max(-left, -top, 0))
    after = math.ceil(max(right - width, bottom - height, 0))
    # Only the part under the canvas is padded: a panorama must not be copied whole.
    x0, x1 = max(math.floor(left) - 1, 0), min(math.ceil(right) + 1, width)
    y0, y1 = max(math.floor(top) - 1, 0), min(math.ceil(bottom) + 1, height)
    part = photograph[y0:y1, x0:x1]
    if before or after:
        part = np.pad(part, ((before, after), (before, after), (0, 0)), mode="edge")
    dx, dy = before - x0, before - y0
    resized = Image.fromarray(part).resize(
        (pixels, pixels),
        Image.Resampling.BICUBIC,  # Pillow widens the kernel when it shrinks: antialiased
        box=(left + dx, top + dy, right + dx, bottom + dy),
    )
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def read_photograph(path: Path) -> Pixels:
    """Return the photograph in a file as uint8 [H, W, 3].

    Raises:
        PhotographError: the file is not a regular file, is too large, or does not decode.
    """
    return decode(read_picture_file(path))


def read_picture_file(path: Path) -> bytes:
    """Return the bytes of a file that may hold a photograph.

    Raises:
        PhotographError: it cannot be read, is not a regular file, or is too large.
    """
    try:
        # A pipe must not block the reader, and a link put here after the folder was listed
        # must not lead out of it.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise PhotographError("broken or cut short", _reason(error)) from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise PhotographError("not an image", "expected a regular file, got something else")
        _check_bytes(status.st_size)
        with open(handle, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PhotographError("broken or cut short", _reason(error)) from None
    finally:
        os.close(handle)


def decode(data: bytes) -> Pixels:
    """Return the photograph in `data` upright, as RGB: uint8 [H, W, 3].

    The first picture of an animation; 16 bits become 8; transparent parts become grey. Threads wait
    for each other: it holds back Pillow's warnings, which are global to a process.

    Raises:
        PhotographError: the bytes are no picture, a broken one, or one beyond the limits.
    """
    _check_bytes(len(data))
    if not data:
        raise PhotographError("not an image", "expected an image, got an empty file")
    _check_scans(data)
    # Pillow warns of bombs, which are refused here, and of odd metadata, which does not matter.
    with _one_at_a_time, warnings.catch_warnings(record=True):
        warnings.simplefilter("always")  # or a caller's "error" would make these pictures broken
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_pixels(image)
                image.load()
                return np.array(_to_rgb(_upright(image)), dtype=np.uint8)
        except PhotographError:
            raise
        except UnidentifiedImageError:
            raise PhotographError(
                "not an image",
                f"expected one of {', '.join(FORMATS)}, got something else",
            ) from None
        except Image.DecompressionBombError:
            raise _too_many_pixels("many more") from None
        except Exception as error:  # noqa: BLE001 -- decoders fed by strangers raise anything
            raise PhotographError("broken or cut short", _reason(error)) from None


def _check_bytes(size: int) -> None:
    if size > MAX_BYTES:
        raise PhotographError(
            "larger than the limit", f"expected at most {MAX_BYTES} bytes, got {size}"
        )


def _check_scans(data: bytes) -> None:
    """Stop a JPEG whose scans take hours: each costs its sender 75 bytes, and us all its pixels."""
    if not data.startswith(_JPEG_START):
        return
    at, scans, segments = len(_JPEG_START), 0, 0
    while found := _JPEG_MARKER.search(data, at):
        marker = found[1][0]
        if marker == _JPEG_END:  # what a camera appends, such as a video, is not read
            return
        at = found.end()
        if marker not in _JPEG_ALONE:
            at += int.from_bytes(data[at : at + 2])
        scans += marker == _JPEG_SCAN
        segments += 1
        if scans > MAX_SCANS or segments > MAX_SEGMENTS:
            raise PhotographError(
                "larger than the limit",
                f"expected a JPEG of at most {MAX_SCANS} scans and {MAX_SEGMENTS} segments, "
                "got more",
            )


def _check_pixels(image: Image.Image) -> None:
    """Stop a decompression bomb: a small file whose header promises a huge picture."""
    if image.width * image.height > MAX_PIXELS:
        raise _too_many_pixels(f"{image.width} x {image.height}")
    if image.width < 1 or image.height < 1:
        raise PhotographError("broken or cut short", "expected at least one pixel, got none")


def _too_many_pixels(got: str) -> PhotographError:
    message = f"expected at most {MAX_PIXELS} pixels, got {got}"
    return PhotographError("larger than the limit", message)


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a photograph with unreadable EXIF stays as it is stored."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 -- the same as in `decode`; the pixels are good
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (*_BEHIND_TRANSPARENCY, 255))
        image = Image.alpha_composite(backdrop, image)
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Return a grey picture of 16 bits as one of 8; wider ones have no scale to go by."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise PhotographError(
            "of a kind that is not read", f"expected 8 or 16 bits a channel, got mode {image.mode}"
        )
    return Image.fromarray((values >> 8).astype(np.uint8))


def _reason(error: Exception) -> str:
    """Return what a decoder said, without paths, line breaks or memory addresses."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    said = str(error).partition("\n")[0].partition(" <")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
