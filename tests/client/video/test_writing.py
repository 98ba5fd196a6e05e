"""What is written of a video: whole or absent, nothing beside the pictures."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from tests.client.video.films import plain

from veilface_client.images import Pixels
from veilface_client.video.reading import Frame, open_video
from veilface_client.video.writing import VideoWriter
from veilface_common.errors import DataError


def frame(number: int, seconds: float, pixels: Pixels) -> Frame:
    return Frame(number=number, seconds=seconds, pixels=pixels)


def write(path: Path, pictures: list[Pixels]) -> None:
    with VideoWriter(path, width=64, height=48, rate=25) as writer:
        for number, pixels in enumerate(pictures):
            writer.add(frame(number, number / 25, pixels))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Pictures, uneven times and length, of an odd size, which is padded by its edge."""
    times = [0.0, 0.04, 0.5, 0.51, 3.0]
    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=61, height=45, rate=25) as writer:
        for number, seconds in enumerate(times):
            writer.add(frame(number, seconds, plain(40 * number + 30, 61, 45)))
    with open_video(str(path)) as video:
        frames = list(video)
    assert (video.width, video.height) == (62, 46)
    assert [found.seconds for found in frames] == pytest.approx(times, abs=1e-4)
    shown = [float(found.pixels.mean()) for found in frames]
    assert np.abs(np.array(shown) - [30, 70, 110, 150, 190]).max() < 4
    assert float(np.ptp(frames[2].pixels[-1].astype(float))) < 8  # no black line at the edge
    assert video.seconds == pytest.approx(3.04, abs=0.01)
    assert video.problem == ""


def test_a_browser_can_play_it(tmp_path: Path) -> None:
    """H.264 of 8 bits and 4:2:0 in MP4, the index in front, one track, no sound, no metadata."""
    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=64, height=48, rate=30) as writer:
        for number in range(5):
            writer.add(frame(number, number / 30, plain(100)))
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert set(container.metadata) == {"major_brand", "minor_version", "compatible_brands"}
        assert set(stream.metadata) == {"language", "handler_name"}
    assert b"Lavf" not in content


def test_two_pictures_of_one_time_are_both_kept(tmp_path: Path) -> None:
    """A camera whose clock stood still for a moment."""
    with VideoWriter(tmp_path / "a.mp4", width=64, height=48, rate=25) as writer:
        for number in range(4):
            writer.add(frame(number, 0.5 * (number > 1), plain(100)))
    with open_video(str(tmp_path / "a.mp4")) as video:
        assert len(list(video)) == 4


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    """The old file stays, and nothing lies beside it."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the old one")
    with pytest.raises(DataError):
        write(path, [plain(100), plain(100), plain(100, height=47)])
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_without_pictures_is_not_written(tmp_path: Path) -> None:
    """No empty file that looks like a result."""
    with (
        pytest.raises(DataError, match="got none"),
        VideoWriter(tmp_path / "a.mp4", width=64, height=48, rate=25),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf"), 1e9])
def test_a_time_that_cannot_be_written_is_refused(tmp_path: Path, seconds: float) -> None:
    """From a damaged clock: an error, no overflow inside FFmpeg."""
    writer = VideoWriter(tmp_path / "a.mp4", width=64, height=48, rate=25)
    with pytest.raises(DataError, match="expected a time"), writer:
        writer.add(frame(0, seconds, plain(100)))
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    """A slip of the caller, told with both sizes."""
    writer = VideoWriter(tmp_path / "a.mp4", width=64, height=48, rate=25)
    with pytest.raises(DataError, match="64 x 48 pixels, got 48 x 64"), writer:
        writer.add(frame(0, 0.0, plain(100, 48, 64)))


def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Faces are in it."""
    with VideoWriter(tmp_path / "a.mp4", width=64, height=48, rate=25) as writer:
        writer.add(frame(0, 0.0, plain(100)))
    assert (tmp_path / "a.mp4").stat().st_mode & 0o777 == 0o600
