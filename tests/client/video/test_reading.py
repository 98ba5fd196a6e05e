"""What is read of a video: every picture, upright, at its time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tests.client.video.films import CLOCK, corners, make_film, plain, quarters

from veilface_client.video.reading import open_video
from veilface_common.errors import ConfigError

LEVELS = tuple(range(20, 220, 20))


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx265", "yuv420p10le"),
        ("a.mkv", "libx264", "yuv444p"),
        ("a.webm", "libvpx", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.ts", "mpeg2video", "yuv420p"),
        ("a.gif", "gif", "rgb8"),
        ("b.webm", "libvpx-vp9", "yuv420p"),
        ("b.mkv", "libsvtav1", "yuv420p"),
        ("b.mov", "prores_ks", "yuv422p10le"),
        ("b.mpg", "mpeg1video", "yuv420p"),
        ("no_name_of_a_video", "mpeg4", "yuv420p"),
    ],
)
def test_usual_kinds_are_read_whole(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    """Containers and codecs, 8 and 10 bits, whatever the name: all pictures, in order."""
    is_named = "." in name
    path = make_film(
        tmp_path / name,
        [plain(level) for level in LEVELS],
        codec=codec,
        pix_fmt=pix_fmt,
        container_format=None if is_named else "avi",
    )
    with open_video(str(path)) as video:
        frames = list(video)
    assert (video.width, video.height) == (64, 48)
    assert [frame.number for frame in frames] == list(range(len(LEVELS)))
    shown = [float(frame.pixels.mean()) for frame in frames]
    assert np.abs(np.array(shown) - LEVELS).max() < (40 if codec == "gif" else 4), shown
    assert all(frame.pixels.shape == (48, 64, 3) for frame in frames)
    assert np.allclose([f.seconds for f in frames], np.arange(len(LEVELS)) / 25, atol=0.021)
    assert video.problem == ""


def test_uneven_times_are_the_files_own(tmp_path: Path) -> None:
    """A variable frame rate: what stood in the file, from the first picture on."""
    times = [3.0, 3.04, 3.5, 3.51, 7.0]
    path = make_film(tmp_path / "a.mkv", [plain(100)] * 5, times)
    with open_video(str(path)) as video:
        found = [frame.seconds for frame in video]
    assert np.allclose(found, np.array(times) - 3.0, atol=0.002)
    assert video.problem == ""


def test_times_that_run_backwards_go_on_at_the_usual_rate(tmp_path: Path) -> None:
    """A damaged clock: times never fall, and no picture is lost."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        stream.codec_context.time_base = CLOCK
        for number, time in enumerate((0, 400, 200, 600)):
            picture = av.VideoFrame.from_ndarray(plain(100))
            picture.pts, picture.time_base = number, CLOCK
            for packet in stream.encode(picture):
                packet.pts, packet.dts = time, number
                container.mux(packet)
    with open_video(str(path)) as video:
        found = [frame.seconds for frame in video]
    assert found[:2] == pytest.approx([0, 0.4])
    assert 0.4 < found[2] < 0.6
    assert found[3] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("rotation", "expected"), [(0, "rgbw"), (90, "gwrb"), (180, "wbgr"), (-90, "brwg")]
)
def test_a_camera_held_sideways_is_turned_upright(
    tmp_path: Path, rotation: int, expected: str
) -> None:
    """The turn beside the pictures, counterclockwise, is carried out."""
    path = make_film(tmp_path / "a.mp4", [quarters()] * 3, rotation=rotation)
    with open_video(str(path)) as video:
        frames = list(video)
    assert {corners(frame.pixels) for frame in frames} == {expected}
    assert (video.width, video.height) == ((64, 48) if rotation % 180 == 0 else (48, 64))
    assert frames[0].pixels.shape == (video.height, video.width, 3)


def test_squeezed_pixels_become_square(tmp_path: Path) -> None:
    """Faces in an anamorphic recording are not narrow; nothing gets larger than it was."""
    path = make_film(tmp_path / "a.mkv", [plain(100)] * 3, squeezed=Fraction(4, 3))
    with open_video(str(path)) as video:
        frames = list(video)
    assert (video.width, video.height) == (64, 36)
    assert frames[-1].pixels.shape == (36, 64, 3)


def test_another_size_in_the_middle_is_scaled_to_the_first(tmp_path: Path) -> None:
    """A stream that changes: two MPEG recordings, one behind the other."""
    small = make_film(tmp_path / "s.ts", [plain(60)] * 5, codec="mpeg2video").read_bytes()
    large = make_film(tmp_path / "l.ts", [plain(160, 128, 96)] * 5, codec="mpeg2video").read_bytes()
    (tmp_path / "both.ts").write_bytes(small + large)
    with open_video(str(tmp_path / "both.ts")) as video:
        frames = list(video)
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}
    assert float(frames[-1].pixels.mean()) == pytest.approx(160, abs=4)
    assert len(frames) >= 9


def test_sound_is_no_hindrance(tmp_path: Path) -> None:
    """A film with a track of sound, whose decoder is never asked, has its pictures."""
    path = make_film(tmp_path / "a.mp4", [plain(100)] * 5, has_sound=True)
    with open_video(str(path)) as video:
        assert len(list(video)) == 5


def test_a_link_that_the_user_names_is_followed(tmp_path: Path) -> None:
    """As for photographs."""
    make_film(tmp_path / "a.mp4", [plain(100)] * 2)
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    with open_video(str(tmp_path / "link.mp4")) as video:
        assert len(list(video)) == 2


@pytest.mark.parametrize("source", ["camera:77", "camera:", "camera:-1", "camera:../mem"])
def test_a_camera_that_is_not_there_is_told(source: str) -> None:
    """One line and a hint, and no path but /dev/videoN is ever opened."""
    with pytest.raises(ConfigError, match="camera") as caught:
        open_video(source)
    assert caught.value.hint
