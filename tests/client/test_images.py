"""Photographs from strangers: decoded upright and in RGB, or refused with a reason."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from veilface_client import images
from veilface_client.images import CANVAS, Crop, PhotographError, canvas_pixels, cut_canvas, decode
from veilface_common.errors import ConfigError, DataError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF")


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(width: int = 24, height: int = 16) -> Image.Image:
    """A smooth picture without symmetry: red from left to right, green from top to bottom."""
    ys, xs = np.mgrid[0:height, 0:width]
    channels = (xs * 255 // max(width - 1, 1), ys * 255 // max(height - 1, 1), xs * 0 + 60)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a picture and holds nothing of it."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + body
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(body)) + chunk
    data = b"IDAT" + zlib.compress(b"")
    idat = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return head + struct.pack(">I", zlib.crc32(chunk)) + idat


def fault_of(data: bytes) -> str:
    with pytest.raises(PhotographError) as caught:
        decode(data)
    return caught.value.fault


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_decodes_to_the_same_picture(kind: str) -> None:
    """Whatever the format, the result is the picture as uint8 [H, W, 3]."""
    expected = np.asarray(picture())
    got = decode(encoded(picture(), kind))
    assert got.dtype == np.uint8
    assert got.shape == (16, 24, 3)
    assert np.abs(got.astype(int) - expected).mean() < 25  # GIF has few colours, JPEG blurs


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """A photograph is upright whichever way the camera was held."""
    upright = picture()
    back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if back is None else upright.transpose(back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (decode(encoded(stored, exif=exif)) == np.asarray(upright)).all()


def test_pictures_of_several_frames_give_the_first() -> None:
    """Animations, and the several pictures that telephones put into one JPEG file."""
    first, second = picture(), Image.new("RGB", (24, 16))
    for kind in ("GIF", "WEBP", "TIFF", "MPO"):
        data = encoded(first, kind, save_all=True, append_images=[second])
        assert np.abs(decode(data).astype(int) - np.asarray(first)).mean() < 25, kind


def test_damaged_exif_does_not_lose_the_photograph() -> None:
    """Metadata that cannot be read leaves the pixels as they are stored."""
    data = encoded(picture(), "PNG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    assert decode(data).shape == (16, 24, 3)


def test_sixteen_bits_become_eight() -> None:
    """A 16-bit grey picture keeps its upper byte."""
    values = np.array([[0, 0x1234], [0x8000, 0xFFFF]], dtype=np.uint16)
    for kind in ("PNG", "TIFF", "PPM"):
        got = decode(encoded(Image.fromarray(values), kind))
        assert got[..., 0].tolist() == [[0, 0x12], [0x80, 0xFF]], kind
        assert (got[..., 0] == got[..., 2]).all()


@pytest.mark.parametrize(
    "values", [np.array([[0.5]], "f4"), np.array([[70_000]], "i4"), np.array([[-1]], "i4")]
)
def test_depths_without_a_scale_are_refused(values: NDArray[np.generic]) -> None:
    """A floating-point or 32-bit picture is not guessed at."""
    assert fault_of(encoded(Image.fromarray(values), "TIFF")) == "of a kind that is not read"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    """Grey, palette, transparent and print pictures come out as three channels."""
    kind = "TIFF" if mode == "CMYK" else "PNG"
    assert decode(encoded(picture().convert(mode), kind)).shape == (16, 24, 3)


def test_transparent_parts_become_grey() -> None:
    """What a transparent pixel hides is not shown, in any of PNG's ways to say transparent."""
    hidden = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    for data in (
        encoded(hidden),
        encoded(palette, transparency=0),
        encoded(Image.new("RGB", (2, 2), (255, 0, 0)), transparency=(255, 0, 0)),
        encoded(Image.new("LA", (2, 2), (255, 0))),
    ):
        assert (decode(data) == 128).all()


@pytest.mark.parametrize("side", [7_500, 10_000, 60_000])
def test_decompression_bomb_is_refused(side: int) -> None:
    """A small file that promises a huge picture is refused unread, and Pillow does not warn.

    The sides lie below Pillow's own warning, between its warning and its error, and above.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fault_of(png_header(side, side)) == "larger than the limit"


def test_large_file_is_refused_unread(tmp_path: Path) -> None:
    """A file beyond the byte limit is not read into memory."""
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)  # sparse
    with pytest.raises(PhotographError, match="bytes"):
        images.read_photograph(tmp_path / "a.jpg")


def test_text_named_like_an_image_is_refused() -> None:
    """Text, nothing, and formats that start other programs are not images."""
    assert fault_of(b"these are not pixels") == "not an image"
    assert fault_of(b"") == "not an image"
    assert fault_of(encoded(picture(), "EPS")) == "not an image"


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_file_is_refused(kind: str) -> None:
    """Half a photograph is not a photograph."""
    data = encoded(picture(100, 100), kind)
    assert fault_of(data[: len(data) // 2]) in ("broken or cut short", "not an image")


def test_pipe_does_not_block(tmp_path: Path) -> None:
    """A pipe with a photograph's name is refused at once."""
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(PhotographError, match="regular file"):
        images.read_photograph(tmp_path / "a.jpg")


def test_link_put_in_place_of_a_listed_file_is_refused(tmp_path: Path) -> None:
    """A file that was swapped for a link after the listing is not followed."""
    (tmp_path / "secret.png").write_bytes(encoded(picture()))
    (tmp_path / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(PhotographError):
        images.read_photograph(tmp_path / "a.png")


SAMPLES = [encoded(picture(), kind) for kind in FORMATS] + [
    encoded(picture().convert("P"), "GIF"),
    encoded(picture().convert("RGBA"), "PNG"),
    encoded(picture(), "TIFF", compression="tiff_lzw"),
    encoded(picture(), "TIFF", compression="jpeg"),
    encoded(picture(), "JPEG", progressive=True),
    b"P3 2 1 255 1 2 3 4 5 6\n",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real file with bytes changed, cut off or put in."""
    data = bytearray(draw(st.sampled_from(SAMPLES)))
    for place, value in draw(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)))):
        data[place % len(data)] = value
    at = draw(st.integers(0, len(data)))
    filling = draw(st.binary(max_size=8))
    data[at : at + draw(st.integers(0, 8))] = filling
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@given(data=st.one_of(st.binary(max_size=200), mutated()))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_but_a_data_error(data: bytes) -> None:
    """Whatever the bytes, the decoder gives pixels or a DataError, and no warning leaks."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(DataError):
            got = decode(data)
            assert got.dtype == np.uint8
            assert got.ndim == 3
            assert got.shape[2] == 3


def test_reasons_hold_no_address() -> None:
    """A reason is the same in every process, so that warnings repeat."""
    with pytest.raises(PhotographError) as caught:
        decode(encoded(picture(100, 100))[:200])
    assert "0x" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_canvas_is_a_quarter_wider_than_the_face() -> None:
    """Networks of 64 and 112 pixels look at canvases of 80 and 140."""
    assert (canvas_pixels(64), canvas_pixels(112)) == (80, 140)


def test_canvas_centre_is_the_face_region() -> None:
    """The centre 1 / 1.25 of the canvas is the square that the crop names, in channels first."""
    photograph = np.zeros((100, 200, 3), dtype=np.uint8)
    photograph[30:70, 80:120] = (250, 100, 50)  # 40 x 40 around the middle
    canvas = cut_canvas(photograph, Crop(share=0.4), 50)
    assert canvas.shape == (3, 50, 50)
    assert canvas[:, 7:43, 7:43].min(axis=(1, 2)).tolist() == [250, 100, 50]
    assert canvas[:, :3].max() == 0
    assert canvas[:, :, 47:].max() == 0


def test_canvas_beyond_the_photograph_repeats_its_edge() -> None:
    """A face that fills the picture gets a margin of the picture's own border."""
    photograph = np.full((40, 40, 3), 200, dtype=np.uint8)
    photograph[:, :4] = 10
    canvas = cut_canvas(photograph, Crop(), 50)
    assert (canvas[:, :, :8] == 10).all()
    assert (canvas[:, :, 11:] > 150).all()


def test_a_picture_that_is_a_canvas_stays_as_it_is() -> None:
    """Pictures of the canvas's size, taken as canvases, are not resampled."""
    photograph = np.asarray(picture(80, 80))
    assert (cut_canvas(photograph, CANVAS, 80) == photograph.transpose(2, 0, 1)).all()


def test_shrinking_is_antialiased() -> None:
    """A fine chequerboard becomes grey, not black or white."""
    board = (np.indices((400, 400)).sum(axis=0) % 2 * 255).astype(np.uint8)
    canvas = cut_canvas(np.repeat(board[..., None], 3, axis=2), CANVAS, 40)
    assert abs(int(canvas.min()) - 127) < 5
    assert abs(int(canvas.max()) - 127) < 5


def test_originals_and_centre_crops_give_the_same_region() -> None:
    """LFW's 250 px originals and the 160 px crops of their middle give the same canvas."""
    original = np.asarray(picture(250, 250))
    crop = Crop(share=0.62, within_pixels=160)
    assert (cut_canvas(original, crop, 80) == cut_canvas(original[45:205, 45:205], crop, 80)).all()


def test_a_centre_is_for_the_size_that_it_was_made_for() -> None:
    """In a picture of another size the face is looked for in the middle."""
    crop = Crop(share=0.5, centre_y=0.9, made_for=(178, 218))
    assert crop.canvas_box(178, 218)[1] > crop.canvas_box(178, 217)[1]
    assert not crop.fits(178, 217)


@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    share=st.floats(0.01, 1),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    pixels=st.integers(1, 20),
)
@settings(max_examples=150, deadline=None)
def test_every_crop_of_every_photograph_gives_a_canvas(
    width: int, height: int, share: float, x: float, y: float, pixels: int
) -> None:
    """No size and no crop is out of bounds."""
    photograph = np.full((height, width, 3), 77, dtype=np.uint8)
    canvas = cut_canvas(photograph, Crop(share=share, centre_x=x, centre_y=y), pixels)
    assert canvas.shape == (3, pixels, pixels)
    assert (canvas == 77).all()


@pytest.mark.parametrize("options", [{"share": 0.0}, {"share": 1.5}, {"centre_x": -0.1}])
def test_crops_outside_the_picture_are_refused(options: dict[str, float]) -> None:
    """A share or centre that cannot be is a ConfigError, also when it is not a number."""
    with pytest.raises(ConfigError):
        Crop(**options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        Crop(share=float("nan"))


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"TIFF"}))  # libtiff itself cannot be told
def test_broken_pictures_leave_the_terminal_clean(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The C libraries below say nothing on standard error either."""
    data = encoded(picture(), kind)
    for start in range(0, len(data), max(len(data) // 50, 1)):
        with contextlib.suppress(DataError):
            decode(data[:start] + bytes(9) + data[start + 9 :])
        with contextlib.suppress(DataError):
            decode(data[:start])
    assert capfd.readouterr() == ("", "")
