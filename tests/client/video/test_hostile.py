"""A video is a stranger's file: what is refused, what is told, and what it may cost."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.client.video.films import make_film, plain

from veilface_client.video import pipe, reading
from veilface_client.video.decoding import MEMORY_BYTES
from veilface_client.video.reading import Limits, Video, open_video
from veilface_common.errors import DataError

PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{}'\n"
DASH = '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>'


def refusal(path: Path) -> str:
    with pytest.raises(DataError, match="expected") as caught, open_video(str(path)) as video:
        list(video)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "target"),
    [
        ("a.m3u8", PLAYLIST, "secret.mp4"),
        ("a.mp4", PLAYLIST, "http://127.0.0.1:9/x.mp4"),
        ("a.ffconcat", CONCAT, "secret.mp4"),
        ("a.mp4", CONCAT, "secret.mp4"),
        ("a.mpd", DASH, "secret.mp4"),
    ],
)
def test_a_list_of_other_files_is_refused(
    tmp_path: Path, name: str, text: str, target: str
) -> None:
    """Attack: FFmpeg's playlists read other files and ask the network; theirs is not a video."""
    make_film(tmp_path / "secret.mp4", [plain(100)] * 3)
    (tmp_path / name).write_text(text.format(target))
    assert "got something else" in refusal(tmp_path / name)


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/a.mp4", "concat:a.mp4|b.mp4", "file:a.mp4"])
def test_an_address_is_no_file(source: str) -> None:
    """Attack: a name that FFmpeg would take for a protocol."""
    with pytest.raises(DataError, match="no such file"):
        open_video(source)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """Attack: a pipe would block, a device would never end."""
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "regular" in refusal(tmp_path / "pipe.mp4")
    assert "regular" in refusal(Path("/dev/zero"))
    assert "regular" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 5000, b"plain words\n" * 999, b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    """Nothing, zeros, text, another kind of file."""
    (tmp_path / "a.mp4").write_bytes(content)
    refusal(tmp_path / "a.mp4")


def test_a_codec_that_is_not_read_is_named(tmp_path: Path) -> None:
    """One of FFmpeg's hundreds: the message says which are read, the hint how to get there."""
    make_film(tmp_path / "a.avi", [plain(100)] * 3, codec="huffyuv", pix_fmt="yuv422p")
    said = refusal(tmp_path / "a.avi")
    assert "h264" in said
    assert "huffyuv" in said


def test_a_container_that_is_not_read_is_refused(tmp_path: Path) -> None:
    """A known codec in one of FFmpeg's hundreds of containers."""
    make_film(tmp_path / "a.nut", [plain(100)] * 3, codec="mpeg4")
    refusal(tmp_path / "a.nut")


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    """Told as what it is."""
    import av
    from tests.client.video.films import add_sound

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        add_sound(container, container.add_stream("aac", rate=8000))
    assert "sound alone" in refusal(tmp_path / "a.mp4")


def test_a_video_without_pictures_is_refused(tmp_path: Path) -> None:
    """Zero frames: a track is there, with nothing in it."""
    path = tmp_path / "a.mp4"
    path.write_bytes(bomb(0))
    assert "none that decodes" in refusal(path)


def huge_gif() -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0" + b"\xff" * 50


def huge_avi(tmp_path: Path, *, in_header: bool) -> bytes:
    """Return motion JPEG whose pictures say that they are 65500 x 65500."""
    path = make_film(tmp_path / "small.avi", [plain(9)] * 2, codec="mjpeg", pix_fmt="yuvj420p")
    content = bytearray(path.read_bytes())
    at = 0
    while (at := content.find(b"\xff\xc0\x00\x11", at)) >= 0:  # the start of a frame
        content[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
        at += 1
    if in_header:
        at = content.index(b"strf") + 8
        content[at + 4 : at + 12] = struct.pack("<ii", 65500, 65500)
    return bytes(content)


_REFUSED = """
import resource, sys
from veilface_client.video.reading import open_video
from veilface_common.errors import DataError
try:
    open_video(sys.argv[1])
except DataError:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("kind", ["gif", "avi", "avi whose header lies"])
def test_huge_pictures_are_refused_before_they_are_decoded(tmp_path: Path, kind: str) -> None:
    """Attack: 12 GB a picture. A clear error, in little time and memory."""
    content = huge_gif() if kind == "gif" else huge_avi(tmp_path, in_header=kind == "avi")
    (tmp_path / "a").write_bytes(content)
    # In a process of its own, as what is counted is the largest of all children so far.
    told = subprocess.run(
        [sys.executable, "-c", _REFUSED, tmp_path / "a"], check=True, capture_output=True, text=True
    )
    assert 0 < int(told.stdout) < 300_000  # KiB


def test_the_limit_on_pixels_is_the_callers(tmp_path: Path) -> None:
    """One pixel too many is refused with both numbers; at the limit it is read."""
    path = str(make_film(tmp_path / "a.mp4", [plain(100)] * 2))
    with open_video(path, Limits(most_pixels=64 * 48)) as video:
        assert len(list(video)) == 2
    with pytest.raises(DataError, match="at most 3071 pixels, got 64 x 48"):
        open_video(path, Limits(most_pixels=64 * 48 - 1))


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def bomb(samples: int) -> bytes:
    """Return an MP4 of 600 bytes that says that it has so many pictures."""
    zero = bytes(4)
    entry = box(b"avc1", bytes(6), b"\0\1", bytes(16), struct.pack(">HH", 64, 64), bytes(50))
    table = box(
        b"stbl",
        box(b"stsd", zero, struct.pack(">I", 1), entry),
        box(b"stts", zero, struct.pack(">III", 1, samples, 1)),
        box(b"stsc", zero, struct.pack(">IIII", 1, 1, samples, 1)),
        box(b"stsz", zero, struct.pack(">II", 1, samples)),
        box(b"stco", zero, struct.pack(">II", 1, 0)),
    )
    media = box(
        b"mdia",
        box(b"mdhd", zero, struct.pack(">IIIII", 0, 0, 25, 100, 0)),
        box(b"hdlr", zero, bytes(4), b"vide", bytes(13)),
        box(b"minf", table),
    )
    track = box(b"trak", box(b"tkhd", zero, bytes(80)), media)
    header = box(b"mvhd", zero, struct.pack(">IIII", 0, 0, 1000, 1000), bytes(80))
    return box(b"ftyp", b"isom", bytes(4)) + box(b"moov", header, track) + box(b"mdat", bytes(99))


def test_an_index_of_gigabytes_ends_at_the_decoders_limit(tmp_path: Path) -> None:
    """Attack: FFmpeg would make 24 bytes for each of 80 million pictures that are not there."""
    (tmp_path / "a.mp4").write_bytes(bomb(80_000_000))
    before = time.monotonic()
    refusal(tmp_path / "a.mp4")
    assert time.monotonic() - before < 30
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < MEMORY_BYTES


def test_a_video_cut_short_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    """Truncated in the middle, with the index in front: half of the pictures and a problem."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(100)]
    path = make_film(tmp_path / "a.mkv", noise)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with open_video(str(path)) as video:
        count = sum(1 for _ in video)
    assert 30 < count < 70
    assert "cut short" in video.problem


def test_an_mp4_without_its_end_is_refused(tmp_path: Path) -> None:
    """Truncated where the index stands at the end: nothing can be read, which is told."""
    path = make_film(tmp_path / "a.mp4", [plain(level) for level in range(50)])
    path.write_bytes(path.read_bytes()[:-400])
    assert "damaged" in refusal(path)


def test_damaged_pictures_are_counted_not_fatal(tmp_path: Path) -> None:
    """Pictures overwritten in the middle: what is before and behind is read."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(30)]
    path = make_film(tmp_path / "a.avi", noise, codec="mjpeg", pix_fmt="yuvj420p")
    content = bytearray(path.read_bytes())
    starts = [at for at in range(len(content)) if content[at : at + 3] == b"\xff\xd8\xff"]
    for at in starts[10:14]:
        content[at : at + 1000] = b"\xaa" * 1000
    path.write_bytes(content)
    with open_video(str(path)) as video:
        count = sum(1 for _ in video)
    assert (count, video.problem) == (26, "damaged pictures: 4")


@pytest.mark.parametrize("seed", range(6))
def test_random_damage_never_raises_anything_else(tmp_path: Path, seed: int) -> None:
    """Bytes changed anywhere: pictures or a DataError, never another error, never a hang."""
    rng = np.random.default_rng(seed)
    name, codec = [("a.mp4", "libx264"), ("a.mkv", "libvpx"), ("a.avi", "mpeg4")][seed % 3]
    noise = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(10)]
    content = bytearray(make_film(tmp_path / name, noise, codec=codec).read_bytes())
    for at in rng.integers(0, len(content), 40):
        content[at] = rng.integers(0, 256)
    (tmp_path / name).write_bytes(content)
    try:
        with open_video(str(tmp_path / name)) as video:
            assert all(frame.pixels.shape == (video.height, video.width, 3) for frame in video)
    except DataError:
        pass


def test_memory_stays_flat_over_a_long_video(tmp_path: Path) -> None:
    """10,000 pictures: neither our process nor the decoder's grows with them."""
    shades = [plain(level, 32, 32) for level in range(100)]
    path = make_film(tmp_path / "a.mkv", shades * 100, codec="mpeg4")
    with open_video(str(path)) as video:
        decoder, ours = psutil.Process(video._decoder.pid), psutil.Process()
        sizes = [
            (ours.memory_info().rss, decoder.memory_info().rss)
            for frame in video
            if frame.number % 1000 == 500
        ]
    assert len(sizes) == 10
    growth = np.array(sizes[-1]) - np.array(sizes[1])
    assert (growth < 8 << 20).all(), growth


def test_the_decoder_can_open_nothing_more() -> None:
    """Attack: a video that takes the decoder over. No file, no socket, no file to write on."""
    program = (
        "import os, socket\n"
        "from veilface_client.video.decoding import lock_in\n"
        "lock_in()\n"
        "for act in (lambda: open('/etc/passwd'), socket.socket, os.pipe):\n"
        "    try:\n"
        "        act()\n"
        "    except OSError as error:\n"
        "        os.write(1, error.strerror.encode() + b'\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.stdout == b"Too many open files\n" * 3, done.stderr


def test_the_decoder_is_locked_in_before_it_sees_the_file(tmp_path: Path) -> None:
    """Its limits, as the kernel has them, while it decodes."""
    path = make_film(tmp_path / "a.mp4", [plain(100)] * 300)
    with open_video(str(path)) as video:
        decoder = psutil.Process(video._decoder.pid)
        assert decoder.rlimit(psutil.RLIMIT_NOFILE) == (0, 0)
        assert decoder.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
        assert decoder.rlimit(psutil.RLIMIT_AS) == (MEMORY_BYTES, MEMORY_BYTES)
    assert video._decoder.poll() is not None  # and it ends with the context


def speaker(words: bytes) -> subprocess.Popen[bytes]:
    """Return a process that says this instead of what the decoder would."""
    program = f"import os; os.write(1, {words!r})"
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )


def message(kind: bytes, content: bytes) -> bytes:
    return struct.pack("<cQ", kind, len(content)) + content


def opened(**changes: object) -> bytes:
    content = {"width": 2, "height": 1, "rate": 25.0, "seconds": 1.0} | changes
    return message(pipe.OPENED, json.dumps(content).encode())


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"\0" * 9,
        opened(width=65500, height=65500),
        opened(width=0),
        opened(width=-2, height=-1),
        opened(width="2"),
        opened(rate=0.0),
        opened(seconds=-1.0),
        struct.pack("<cQ", pipe.OPENED, 1 << 40),
        message(pipe.OPENED, b"[" * 5000),
        message(pipe.PICTURE, opened()),
    ],
)
def test_a_decoder_that_was_taken_over_cannot_open_what_is_no_video(words: bytes) -> None:
    """Attack: sizes and numbers that no video has; nothing is allocated for them."""
    with pytest.raises(DataError, match="cannot take"):
        Video(speaker(words), Limits())


@pytest.mark.parametrize(
    "words",
    [
        b"",
        message(pipe.PICTURE, bytes(8 + 5)),
        message(pipe.PICTURE, bytes(8 + 7)),
        struct.pack("<cQ", pipe.PICTURE, 1 << 60),
        message(pipe.ENDED, b"{}"),
        message(b"?", b""),
    ],
)
def test_a_decoder_that_was_taken_over_cannot_break_off_unseen(words: bytes) -> None:
    """Attack: a picture of another size, half a message, silence: it ends, with a problem."""
    picture = message(pipe.PICTURE, struct.pack("<d", float("nan")) + bytes(6))
    with Video(speaker(opened() + picture + words), Limits()) as video:
        frames = list(video)
    assert [frame.seconds for frame in frames] == [0.0]
    assert "decoder gave up" in video.problem


def test_a_decoder_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack: a file that FFmpeg never gets through."""
    monkeypatch.setattr(reading, "PATIENCE_SECONDS", 0.3)
    sleeper = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.PIPE
    )
    with pytest.raises(DataError, match="cannot take"):
        Video(sleeper, Limits())
    assert sleeper.poll() is not None
