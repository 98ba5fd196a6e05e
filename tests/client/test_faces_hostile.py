"""Photographs made to hurt: each gives a face or a DataError, soon."""

from __future__ import annotations

import contextlib
import os
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.client.face_parts import encoded, portrait

from veilface_client.faces import Aligned, find_face, open_detector
from veilface_client.images import MAX_SCANS, MAX_SEGMENTS, PhotographError, decode
from veilface_common.errors import DataError

HAAR = cache(open_detector)
SAMPLES = [
    encoded(portrait(pixels=96), kind, **options)
    for kind, options in (
        ("JPEG", {"quality": 85}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {"quality": 80}),
        ("WEBP", {"lossless": True}),
    )
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real photograph with bytes changed, cut off, put in or taken from another one."""
    data = bytearray(draw(st.sampled_from(SAMPLES)))
    for place, value in draw(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)))):
        data[place % len(data)] = value
    at = draw(st.integers(0, len(data)))
    other = draw(st.sampled_from(SAMPLES))
    start = draw(st.integers(0, len(other)))
    filling = other[start : start + draw(st.integers(0, 200))]
    data[at : at + draw(st.integers(0, 200))] = filling
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@given(data=st.one_of(st.sampled_from(SAMPLES), st.binary(max_size=200), mutated()))
@settings(max_examples=200, deadline=None)
def test_no_bytes_give_anything_but_a_face_or_a_data_error(data: bytes) -> None:
    """Whatever the bytes, also those that decode to noise: no other error, no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(DataError):
            face = find_face(data, HAAR("haar"))
            assert isinstance(face, Aligned)
            assert face.pixels.shape == (112, 112, 3)
            assert face.pixels.dtype == np.uint8


@pytest.mark.parametrize("data", SAMPLES, ids=range(len(SAMPLES)))
def test_the_samples_hold_a_face(data: bytes) -> None:
    """Or the test above would try nothing."""
    assert find_face(data, HAAR("haar")).path.startswith("haar/")


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70))
    | st.sampled_from(((1, 5000), (5000, 1))),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_pictures_of_every_size_are_looked_at(size: tuple[int, int], seed: int) -> None:
    """One pixel, a strip, noise: no size is out of bounds for detection or alignment."""
    photo = encoded(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
    for detector in ("haar", "centre"):
        with contextlib.suppress(DataError):
            find_face(photo, HAAR(detector))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_the_way_of_storing_colours_does_not_matter(mode: str) -> None:
    """Grey, palette, transparent, print and 16-bit files show the same face."""
    picture = Image.fromarray(portrait())
    if mode == "I;16":
        stored = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    else:
        stored = picture.convert(mode)
    got = find_face(encoded(stored, "TIFF" if mode == "CMYK" else "PNG"), HAAR("haar"))
    grey = find_face(encoded(picture.convert("L")), HAAR("haar"))
    difference = got.pixels.mean(axis=2) - grey.pixels.mean(axis=2)
    assert np.abs(difference).mean() < 12


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_an_animation_is_its_first_picture(kind: str) -> None:
    """A second picture cannot slip in another face."""
    other = Image.fromarray(portrait(1))
    data = encoded(portrait(), kind, save_all=True, append_images=[other])
    alone = find_face(encoded(portrait(), kind), HAAR("haar"))
    got = find_face(data, HAAR("haar"))
    assert np.abs(got.pixels.astype(int) - alone.pixels).mean() < 8


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    """A PNG named .jpg is a photograph; a program named .jpg is none; a link that is given is."""
    photo = tmp_path / "a.jpg"
    photo.write_bytes(encoded(portrait()))
    assert find_face(photo, HAAR("haar")).path == "haar/eyes"
    (tmp_path / "link").symlink_to(photo)
    assert find_face(tmp_path / "link", HAAR("haar")).path == "haar/eyes"
    (tmp_path / "b.jpg").write_bytes(Path(os.__file__).read_bytes())
    with pytest.raises(PhotographError) as caught:
        find_face(tmp_path / "b.jpg", HAAR("haar"))
    assert caught.value.fault == "not an image"
    assert caught.value.hint


@pytest.mark.parametrize("what", ["missing", "a folder", "a pipe", "a link to itself"])
def test_what_is_no_file_is_refused(tmp_path: Path, what: str) -> None:
    """And at once: a pipe must not block the reader."""
    path = tmp_path / "a.jpg"
    if what == "a folder":
        path.mkdir()
    elif what == "a pipe":
        os.mkfifo(path)
    elif what == "a link to itself":
        path.symlink_to(path)
    with pytest.raises(PhotographError):
        find_face(path, HAAR("haar"))


def repeated_scans(times: int) -> bytes:
    """A progressive JPEG whose last scan, some dozens of bytes, stands there many times."""
    data = encoded(portrait(pixels=96), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * times + data[-2:]


def test_jpeg_that_is_decoded_a_thousand_times_is_refused() -> None:
    """Each further scan costs its sender 75 bytes and us a pass over fifty million pixels."""
    assert decode(repeated_scans(10)).shape == (96, 96, 3)
    with pytest.raises(PhotographError, match="scans") as caught:
        decode(repeated_scans(MAX_SCANS))
    assert caught.value.fault == "larger than the limit"


def test_jpeg_of_countless_segments_is_refused() -> None:
    """Pillow keeps a Python object for each of them."""
    data = encoded(portrait(pixels=96), "JPEG")
    padded = data[:2] + b"\xff\xe5\x00\x02" * 500 + data[2:]
    assert (decode(padded) == decode(data)).all()
    with pytest.raises(PhotographError, match="segments"):
        decode(data[:2] + b"\xff\xe5\x00\x02" * (MAX_SEGMENTS + 1) + data[2:])


def test_what_a_camera_appends_is_not_counted() -> None:
    """Telephones put a video behind the picture, in which any bytes may stand."""
    data = encoded(portrait(pixels=96), "JPEG")
    assert (decode(data + b"\xff\xda\x00\x02" * 50_000) == decode(data)).all()


def test_a_preview_inside_is_not_counted() -> None:
    """A thumbnail in the metadata has scans of its own, and an end that is not the picture's."""
    data = encoded(portrait(pixels=96), "JPEG", progressive=True)
    preview = b"\xff\xda\x00\x02" * 1000 + b"\xff\xd9"
    holding = b"\xff\xe5" + (len(preview) + 2).to_bytes(2) + preview
    assert (decode(data[:2] + holding + data[2:]) == decode(data)).all()
    hidden = repeated_scans(MAX_SCANS)
    with pytest.raises(PhotographError, match="scans"):
        decode(hidden[:2] + holding + hidden[2:])
