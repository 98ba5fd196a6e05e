"""`veilface watch` at the terminal: lines, pictures, a command, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.client.command_parts import settle
from tests.client.recognition.desks import enrol, open_desk
from tests.client.video.squares import COLOURS, Person, SquareDesk, Squares, scene, write_film

from veilface_client.cli import main
from veilface_client.commands import watching as command
from veilface_client.recognition import desk
from veilface_client.video.picturing import ContactSheet, overlaid, shortened
from veilface_client.video.reading import open_video
from veilface_client.video.sightings import Look, Sighting, Track
from veilface_client.video.watching import Ended, Shown

Watch = Callable[..., tuple[int, list[Any], str]]
FIELDS = {
    "video": {
        *("event", "source", "width", "height", "rate", "seconds", "watched_at", "warning"),
    },
    "began": {"event", "track", "seconds"},
    "named": {"event", "track", "seconds", "name", "is_there"},
    "joined": {"event", "track", "seconds", "into"},
    "ended": {
        *("event", "track", "start", "end", "name", "reason", "frames", "looks", "places"),
    },
    "done": {"event", "seconds", "frames", "problem"},
}


@pytest.fixture
def watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Watch:
    """Return a function that watches: (exit code, lines, errors). Ada and bob are enrolled."""
    with open_desk(tmp_path / "shop") as made:
        enrol(made, "ada", "bob")
    settle(tmp_path, monkeypatch, SquareDesk)
    monkeypatch.setattr(desk, "open_detector", lambda _text: Squares())

    def run(*arguments: str) -> tuple[int, list[Any], str]:
        code = main(["watch", *arguments])
        told = capsys.readouterr()
        lines: list[Any] = told.out.splitlines()
        return code, list(map(json.loads, lines)) if "--json" in arguments else lines, told.err

    return run


def scenes(count: int = 40) -> list[list[Person]]:
    """Return ada walking for three seconds, and eve who comes after two."""
    return [
        [("ada", 60.0 + 4 * t, 60.0)] * (t < 30) + [("eve", 300.0, 140.0)] * (t >= 20)
        for t in range(count)
    ]


@pytest.fixture
def film(tmp_path: Path) -> str:
    return str(write_film(tmp_path / "film.mp4", [scene(people) for people in scenes()]))


def test_a_line_for_each_who_was_there(watch: Watch, film: str) -> None:
    """From when to when and who; what must be known of the threshold on standard error."""
    code, lines, errors = watch(film)
    assert code == 0
    assert lines == ["0.0-2.9 s  ada", "2.0-3.9 s  unknown"]
    assert errors.startswith("note: the threshold is of the model's maker")


def test_lines_of_json(watch: Watch, film: str) -> None:
    """Each has the documented fields and no score; they come in order of time."""
    code, lines, _ = watch(film, "--json")
    assert code == 0
    assert [line["event"] for line in lines] == [
        *("video", "began", "named", "began", "ended", "ended", "done"),
    ]
    for line in lines:
        assert set(line) == FIELDS[line["event"]]
    video, began, named, _, ada, eve, done = lines
    assert (video["width"], video["height"], video["rate"]) == (400, 200, 10.0)
    assert began == {"event": "began", "track": 0, "seconds": 0.0}
    assert (named["track"], named["name"], named["is_there"]) == (0, "ada", True)
    assert named["seconds"] == 0.6
    assert (ada["start"], ada["end"], ada["name"], ada["frames"]) == (0.0, 2.9, "ada", 30)
    assert ada["places"][-1] == [2.9, 146.0, 30.0, 60.0, 60.0]
    assert (eve["name"], eve["reason"]) == (None, "below the threshold")
    assert done == {"event": "done", "seconds": 3.9, "frames": 40, "problem": ""}


def test_the_documentation_has_every_field() -> None:
    """docs/video.md names each event and each of its fields."""
    text = (Path(__file__).parents[3] / "docs" / "video.md").read_text()
    for event, fields in FIELDS.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{event}` |"))
        assert all(f"`{name}`" in line for name in fields - {"event"})


def test_less_is_looked_at_on_request(watch: Watch, film: str) -> None:
    """Each fourth frame, or five a second."""
    for option in (("--every", "4"), ("--rate", "2.5")):
        _, lines, _ = watch(film, "--json", *option)
        assert lines[-1]["frames"] == 10
        assert [line["name"] for line in lines if line["event"] == "ended"] == ["ada", None]


def test_pictures(watch: Watch, film: str, tmp_path: Path) -> None:
    """The sheet shows each of them, the overlay a box around each; nobody else may read them."""
    sheet, overlay = tmp_path / "sheet.png", tmp_path / "over.mp4"
    assert watch(film, "--contact-sheet", str(sheet), "--overlay", str(overlay))[0] == 0
    for made in (sheet, overlay):
        assert stat.S_IMODE(made.stat().st_mode) == 0o600
    picture = np.asarray(Image.open(sheet))
    assert len(picture) == 8 + 2 * 104
    for top, name in ((8, "ada"), (112, "eve")):
        face = picture[top + 38 : top + 58, 240 + 38 : 240 + 58].reshape(-1, 3).mean(0)
        assert np.abs(face / face.max() - np.array(COLOURS[name]) / max(COLOURS[name])).max() < 0.2
    with open_video(str(overlay)) as video:
        frames = list(video)
    assert len(frames) == 40
    left = 60 + 4 * 15 - 30
    edge = frames[15].pixels[45:75, left - 1 : left + 2].reshape(-1, 3).mean(0)
    assert edge.argmax() == 1  # green: known by then
    assert frames[1].pixels[45:75, 34 - 1 : 34 + 2].reshape(-1, 3).mean(0).argmax() == 0


def test_a_command_runs_for_whoever_is_known(watch: Watch, film: str, tmp_path: Path) -> None:
    """Once for ada, never for a stranger; its failure is told and ends nothing."""
    code = "import os; open('told', 'a').write(os.environ['VEILFACE_NAME']); raise SystemExit(5)"
    script = tmp_path / "door.py"
    script.write_text(code.replace("'told'", repr(str(tmp_path / "told"))))
    done, lines, errors = watch(film, "--on-match", f"{sys.executable} '{script}'")
    assert (done, len(lines)) == (0, 2)
    assert (tmp_path / "told").read_text() == "ada"
    assert "note: the command of --on-match failed with exit code 5" in errors
    assert watch(film, "--on-match", "'unclosed")[0] == 2
    assert watch(film, "--on-match", "")[0] == 2


def test_no_command_runs_for_whoever_has_gone(watch: Watch, tmp_path: Path) -> None:
    """Ada passes with two looks: she is named at her track's end, and the door stays shut."""
    film = write_film(tmp_path / "short.mp4", [scene([("ada", 100, 100)])] * 5 + [scene([])] * 60)
    touch = f"touch {tmp_path / 'opened'}"
    assert watch(str(film), "--on-match", touch)[:2] == (0, ["0.0-0.4 s  ada"])
    assert not (tmp_path / "opened").exists()


def test_a_truncated_file_is_watched_as_far_as_it_goes(watch: Watch, tmp_path: Path) -> None:
    """What was readable is told, then what was not; the exit code says so."""
    noise = np.random.default_rng(0)
    people = [scene(one) for one in scenes(60)]
    frames = [np.maximum(one, noise.integers(0, 30, one.shape, np.uint8)) for one in people]
    film = write_film(tmp_path / "whole.mp4", frames)
    content = film.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) * 3 // 5])
    code, lines, errors = watch(str(tmp_path / "cut.mp4"), "--json")
    assert code == 3
    assert lines[-1]["event"] == "done"
    assert lines[-1]["problem"]
    assert next(line["name"] for line in lines if line["event"] == "ended") == "ada"
    assert "expected a whole video, got a damaged one: " in errors


def test_what_is_no_video_is_refused(watch: Watch, tmp_path: Path) -> None:
    """One line and the exit code of bad data; nothing is written."""
    (tmp_path / "no.mp4").write_bytes(b"not a video")
    sheet = tmp_path / "sheet.png"
    code, lines, errors = watch(str(tmp_path / "no.mp4"), "--contact-sheet", str(sheet))
    assert (code, lines, sheet.exists()) == (3, [], False)
    assert errors.splitlines()[-1].startswith("veilface: expected a video")
    assert watch("camera:x")[0] == 2


def test_nobody_in_a_video(watch: Watch, tmp_path: Path) -> None:
    """No line; an empty sheet that says so."""
    film = write_film(tmp_path / "empty.mp4", [scene([])] * 10)
    sheet = tmp_path / "sheet.png"
    assert watch(str(film), "--contact-sheet", str(sheet))[:2] == (0, [])
    assert sheet.stat().st_size > 0


def test_ctrl_c_writes_who_is_still_there(
    watch: Watch, film: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open tracks and pictures are written; a file that was not watched to its end says so."""
    before = signal.getsignal(signal.SIGINT)
    original = command._progress

    def interrupted(seconds: float, length: float | None) -> None:
        original(seconds, length)
        if 1.45 < seconds < 1.55:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(command, "_progress", interrupted)
    overlay, sheet = tmp_path / "over.mp4", tmp_path / "sheet.png"
    code, lines, _ = watch(film, "--overlay", str(overlay), "--contact-sheet", str(sheet))
    assert (code, lines) == (130, ["0.0-1.5 s  ada"])
    assert sheet.exists()
    with open_video(str(overlay)) as video:
        assert len(list(video)) == 16
    assert signal.getsignal(signal.SIGINT) is before


def ended(number: int, name: str | None, frames: int) -> Ended:
    pixels = np.full((112, 112, 3), number % 256, np.uint8)
    look = Look(embedding=None, qualities=np.zeros(8, np.float32), pixels=pixels)
    (face,) = Squares().detect(scene([("ada", 100, 100)]))
    sighting = Sighting(frame=0, seconds=float(number), detection=face, look=look)
    way = Track(
        number=number,
        first=sighting,
        last=sighting,
        sightings=(sighting,) * 9,
        seen_frames=frames,
        good_looks=0,
    )
    return Ended(
        track=number,
        start=float(number),
        end=float(number),
        name=name,
        reason="",
        frames=frames,
        looks=0,
        way=way,
    )


def test_a_sheet_of_hours_is_bounded() -> None:
    """Those with a name first, then those who were there longest, in order of time."""
    sheet = ContactSheet(most_rows=3)
    for number in range(100):
        name = "x" * 200 if number == 5 else None
        sheet.add(ended(number, name, frames=number % 50))
    picture = np.asarray(Image.open(io.BytesIO(sheet.picture())))
    assert len(picture) == 8 + 3 * 104 + 24
    shades = [picture[8 + row * 104 + 48, 240 + 48, 0] for row in range(3)]
    assert shades == [5, 49, 99]


def test_names_that_are_long_are_shortened() -> None:
    """And a face at the border or without extent draws nothing outside."""
    assert shortened("ada") == "ada"
    assert len(shortened("a" * 500)) == 28
    (face,) = Squares().detect(scene([("ada", 100, 100)]))
    frame = scene([])
    boxes = ((-50.0, -50.0, 60.0, 60.0), (390.0, 190.0, 90.0, 90.0), (5.0, 5.0, 0.0, 0.0))
    faces = [
        Shown(
            sighting=Sighting(frame=0, seconds=0.0, detection=replace(face, box=box), seen=False),
            track=0,
            name="ada",
        )
        for box in boxes
    ]
    assert overlaid(frame, faces).shape == frame.shape
    np.testing.assert_array_equal(frame, scene([]))
