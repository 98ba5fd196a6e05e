"""`veilface hide`: from file to file, whole or not at all; nothing of the source goes along."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tests.client.face_parts import beside, portrait
from tests.client.hiding.told import Told, face
from tests.client.video.films import make_film, plain

from veilface_client import faces
from veilface_client.cli import main
from veilface_client.hiding.files import encode, list_media, target_name
from veilface_client.images import decode
from veilface_client.video.reading import open_video


def hide(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, dict[str, Any], str]:
    code = main(["hide", *map(str, arguments), "--json"])
    told = capsys.readouterr()
    return code, json.loads(told.out) if told.out else {}, told.err


def digest(folder: Path) -> dict[str, str]:
    """Return what every file under a folder holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make detectors see nothing, which is fast."""
    monkeypatch.setattr(faces, "Haar", lambda: Told(()))


@pytest.fixture
def staring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make detectors see a face whatever is done."""
    monkeypatch.setattr(faces, "Haar", lambda: Told((face(10, 10, 30, 30),)))


def telling_jpeg() -> tuple[bytes, bytes]:
    """Return a JPEG with a face, and the face's thumbnail inside its EXIF."""
    picture = Image.fromarray(beside(portrait(), height=320))
    thumbnail = io.BytesIO()
    picture.resize((80, 80)).save(thumbnail, "JPEG")
    small = thumbnail.getvalue()
    # Little-endian TIFF: no entries in the first directory; in the second, where a JPEG lies.
    directory = b"II*\0\x08\0\0\0" + b"\0\0" + b"\x0e\0\0\0" + b"\x02\0"
    start = len(directory) + 24 + 4
    for tag, value in ((0x0201, start), (0x0202, len(small))):
        directory += tag.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + value.to_bytes(4, "little")
    exif = b"Exif\0\0" + directory + b"\0\0\0\0" + small
    whole = io.BytesIO()
    picture.save(
        whole,
        "JPEG",
        exif=exif,
        icc_profile=b"a profile that names its owner" * 9,
        comment=b"Ada at home",
        xmp=b"<x:xmpmeta>Ada</x:xmpmeta>",
    )
    return whole.getvalue(), small


def test_no_thumbnail_and_no_other_metadata_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Attack: the thumbnail that a camera put into EXIF shows the face that was hidden."""
    source, thumbnail = telling_jpeg()
    assert thumbnail in source
    (tmp_path / "a.jpg").write_bytes(source)
    code, told, _ = hide(capsys, tmp_path / "a.jpg", "--out", tmp_path / "b.jpg")
    assert (code, told["written"][0]["hidden"]) == (0, 1)
    written = (tmp_path / "b.jpg").read_bytes()
    for part in (thumbnail, thumbnail[20:200], b"Exif", b"ICC_PROFILE", b"Ada", b"xmpmeta"):
        assert part not in written, part
    with Image.open(io.BytesIO(written)) as image:
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}
    assert (decode(written) != decode(source)).any(-1).mean() > 0.05


@pytest.mark.usefixtures("blind")
def test_no_text_of_a_png_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Comments, transparency and what lies behind the end."""
    notes = PngInfo()
    notes.add_text("Comment", "Ada at home")
    buffer = io.BytesIO()
    Image.fromarray(plain(90)).save(buffer, "PNG", pnginfo=notes)
    (tmp_path / "a.png").write_bytes(buffer.getvalue() + b"Ada, appended")
    assert hide(capsys, tmp_path / "a.png", "--out", tmp_path / "b.png")[0] == 0
    written = (tmp_path / "b.png").read_bytes()
    assert b"Ada" not in written
    assert (decode(written) == 90).all()


def test_an_organisation_is_not_needed_without_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No house, no passphrase, no model; PyTorch is not even imported."""
    monkeypatch.delenv("VEILFACE_HOME", raising=False)
    (tmp_path / "a.png").write_bytes(encode(beside(portrait(), height=320), ".png"))
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from veilface_client.cli import main\n"
        f"sys.exit(main(['hide', {str(tmp_path / 'a.png')!r}, '--out', "
        f"{str(tmp_path / 'b.png')!r}, '--how', 'drawn']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"1 hidden, 0 shown" in done.stdout
    code, _, error = hide(
        capsys, tmp_path / "a.png", "--out", tmp_path / "c.png", "--except", "ada"
    )
    assert (code, "organisation's folder" in error) == (2, True)


def test_a_video_is_hidden_without_its_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Faces in every picture; one track is left, and times are kept."""
    scene = beside(portrait(), height=320)
    times = [0.0, 0.1, 0.5, 0.6, 2.0]
    path = make_film(tmp_path / "a.mkv", [scene] * 5, times, has_sound=True)
    code, told, _ = hide(capsys, path, "--out", tmp_path / "b.mp4")
    assert (code, told["written"][0]["kind"], told["written"][0]["hidden"]) == (0, "video", 1)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    with open_video(str(tmp_path / "b.mp4")) as video:
        shown = list(video)
    assert [frame.seconds for frame in shown] == pytest.approx(times, abs=2e-3)
    for frame in shown:
        assert np.abs(frame.pixels.astype(int) - scene).mean() > 8


@pytest.mark.usefixtures("blind")
def test_a_video_cut_short_is_written_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And told: in the note, and by the exit code."""
    rng = np.random.default_rng(0)
    path = make_film(
        tmp_path / "a.mkv", [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(60)]
    )
    path.write_bytes(path.read_bytes()[:150_000])
    code, told, _ = hide(capsys, path, "--out", tmp_path / "b.mp4")
    assert code == 3
    assert "cut short" in told["written"][0]["note"]
    with open_video(str(tmp_path / "b.mp4")) as video:
        assert len(list(video)) > 20


@pytest.mark.usefixtures("staring")
@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_what_cannot_be_hidden_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """An error, an exit code, a hint, and nothing in the folder."""
    if name == "a.png":
        (tmp_path / name).write_bytes(encode(plain(90), ".png"))
    else:
        make_film(tmp_path / name, [plain(90)] * 5)
    code, told, error = hide(capsys, tmp_path / name, "--out", tmp_path / f"b{name}")
    assert (code, told) == (3, {})
    assert "nothing is written" in error
    assert "hint: --how drawn" in error
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.usefixtures("blind")
def test_without_a_face_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A detector misses faces: whoever passes the picture on should look at it."""
    (tmp_path / "a.png").write_bytes(encode(plain(90), ".png"))
    code, told, _ = hide(capsys, tmp_path / "a.png", "--out", tmp_path / "b.png")
    assert code == 0
    assert "no face was found" in told["written"][0]["note"]


@pytest.mark.usefixtures("blind")
def test_a_folder_is_mirrored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file is written, failed or left out, by name; the source stays as it was."""
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "a.jpg").write_bytes(encode(plain(50), ".jpg"))
    Image.fromarray(plain(60)).save(source / "deep" / "b.bmp")
    make_film(source / "deep" / "er" / "c.mov", [plain(70)] * 3)
    (source / "deep" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (source / "notes.txt").write_text("Ada")
    (source / "link.jpg").symlink_to(source / "a.jpg")
    (source / "away").symlink_to("/etc")
    before = digest(source)
    code, told, _ = hide(capsys, source, "--out", out)
    assert code == 3  # one failed
    assert set(digest(out)) == {"a.jpg", "deep/b.bmp.png", "deep/er/c.mov.mp4"}
    assert [Path(one["source"]).name for one in told["failed"]] == ["broken.png"]
    assert {one["source"]: one["why"] for one in told["left_out"]} == {
        "away": "a link",
        "link.jpg": "a link",
        "notes.txt": "neither a photograph nor a video",
    }
    assert digest(source) == before
    assert (decode((out / "deep" / "b.bmp.png").read_bytes()) == 60).all()


def test_what_is_there_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The source, another file, a folder with something in it, a link, a place in the source."""
    photo = tmp_path / "a.png"
    photo.write_bytes(encode(plain(90), ".png"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    before = digest(tmp_path)
    for out in (photo, tmp_path / "full", tmp_path / "link.png", tmp_path / "no" / "b.png"):
        assert hide(capsys, photo, "--out", out)[0] == 2, out
    for out in (tmp_path, tmp_path / "full", tmp_path / "full" / "new", photo):
        assert hide(capsys, tmp_path / "full", "--out", out)[0] == 2, out
    assert hide(capsys, tmp_path / "gone.png", "--out", tmp_path / "b.png")[0] == 3
    assert digest(tmp_path) == before


@pytest.mark.parametrize(
    ("source", "out"), [("a.txt", "b.txt"), ("a.png", "b.mp4"), ("a.mp4", "b.png"), ("a.png", "b")]
)
def test_a_kind_that_is_not_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, out: str
) -> None:
    """By the names' ends, before anything is read."""
    (tmp_path / source).touch()
    code, _, error = hide(capsys, tmp_path / source, "--out", tmp_path / out)
    assert code == 2
    assert "expected" in error


def test_two_files_never_take_one_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`a.mov` and `a.mov.mp4` of one folder would become the same file."""
    (tmp_path / "in").mkdir()
    for name in ("a.mov", "a.mov.mp4"):
        (tmp_path / "in" / name).touch()
    code, _, error = hide(capsys, tmp_path / "in", "--out", tmp_path / "out")
    assert (code, "a.mov.mp4" in error) == (2, True)
    assert not (tmp_path / "out").exists()


def test_names_of_what_is_written() -> None:
    """As they were, where that kind is written; else with an end of ours behind."""
    names = ["a.JPG", "a.webp", "a.b.png", "a.tiff", "a.gif", "a.mp4", "a.mkv"]
    expected = ["a.JPG", "a.webp", "a.b.png", "a.tiff.png", "a.gif.png", "a.mp4", "a.mkv.mp4"]
    assert [target_name(name) for name in names] == expected


def test_a_folder_lists_everything_once(tmp_path: Path) -> None:
    """Also what cannot be opened; pipes are not files."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "b.MP4").touch()
    media = list_media(tmp_path)
    assert media.files == (Path("b.MP4"),)
    assert [path for path, _ in media.left_out] == [Path("pipe.jpg")]


def test_killed_in_the_middle_it_leaves_no_video(tmp_path: Path) -> None:
    """kill -9 while it writes: nothing of the name that was asked for."""
    scene = beside(portrait(), height=320)
    path = make_film(tmp_path / "a.mp4", [scene] * 400)
    program = "import sys; from veilface_client.cli import main; sys.exit(main())"
    arguments = ["hide", str(path), "--out", str(tmp_path / "b.mp4"), "--how", "drawn"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.DEVNULL
    )
    for _ in range(600):
        if list(tmp_path.glob(".b.mp4.*")):
            break
        time.sleep(0.1)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "b.mp4").exists()
