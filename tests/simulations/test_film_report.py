"""The page of a film: tracks against the truth, and a page that shows what is true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from veilface_client.video.reading import Frame
from veilface_client.video.writing import VideoWriter
from veilface_common.errors import ArtifactError, DataError
from veilface_simulations.cli import main
from veilface_simulations.film_report.judging import judge, presences
from veilface_simulations.film_report.pictures import moments_of
from veilface_simulations.film_report.told import load_truth, load_watched

RATE = 10.0
HOSTILE = "<script>alert('x')</script>$title"
ADA, STRANGER = [10.0, 10.0, 40.0, 40.0], [100.0, 10.0, 40.0, 40.0]


def truth_of() -> dict[str, Any]:
    """Return 4 s: ada all the time, a stranger in the middle; frame 25 is damaged."""
    frames = []
    for number in range(40):
        people = [{"name": "ada", "box": ADA, "seen": True}]
        if 10 <= number < 30:
            people.append({"name": "stranger-1", "box": STRANGER, "seen": number != 29})
        frame = {"frame": number, "seconds": number / RATE, "corrupted": number == 25}
        frames.append(frame | {"people": people})
    whole = {"schema": 1, "width": 160, "height": 64, "rate": RATE}
    return whole | {"people": ["ada", "stranger-1"], "frames": frames}


def ended(number: int, start: float, end: float, name: str | None, *boxes: list[float]) -> str:
    """Return the line of a track that is at these places, evenly from start to end."""
    times = np.linspace(start, end, len(boxes)).tolist()
    places = [[at, *box] for at, box in zip(times, boxes, strict=True)]
    line = {"event": "ended", "track": number, "start": start, "end": end, "name": name}
    return json.dumps(line | {"reason": "", "frames": 9, "looks": 3, "places": places})


def lines_of(*tracks: str, warning: str = "") -> str:
    video = json.dumps({"event": "video", "source": "film.mp4", "warning": warning})
    return "\n".join([video, *tracks, json.dumps({"event": "done", "problem": ""})]) + "\n"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    folder = tmp_path / "film"
    folder.mkdir()
    (folder / "truth.json").write_text(json.dumps(truth_of()))
    return folder


def watched(folder: Path, *tracks: str, warning: str = "") -> Path:
    path = folder / "watched.jsonl"
    path.write_text(lines_of(*tracks, warning=warning))
    return path


CASES = {
    "right": ("ada", [ADA] * 5, "ada", 0, "right"),
    "missed": (None, [ADA] * 5, "ada", 0, "missed"),
    "a stranger unknown": (None, [STRANGER] * 5, "stranger-1", 0, "stranger"),
    "a stranger named": ("ada", [STRANGER] * 5, "stranger-1", 0, "wrong"),
    "another's name": ("bob", [ADA] * 5, "ada", 0, "wrong"),
    "nobody there": ("ada", [[60.0, 10.0, 20.0, 20.0]] * 5, None, 0, "nobody"),
    "mostly nobody": (None, [[60.0, 10.0, 20.0, 20.0]] * 3 + [ADA] * 2, None, 0, "nobody"),
    "passed on": ("ada", [ADA, ADA, ADA, STRANGER, STRANGER], "ada", 1, "right"),
    "to and fro": ("ada", [ADA, STRANGER, ADA, ADA, ADA], "ada", 2, "right"),
    "a box that is a little off": ("ada", [[18.0, 14.0, 46.0, 46.0]] * 5, "ada", 0, "right"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_track_is_judged_by_whose_face_it_is_on(case: str, film: Path) -> None:
    """Its name is right or wrong of the person under most of its boxes."""
    name, boxes, person, switches, verdict = CASES[case]
    lines = watched(film, ended(0, 1.2, 2.8, name, *boxes))
    (found,) = judge(load_watched(lines).tracks, load_truth(film / "truth.json"))
    assert (found.person, found.switches, found.verdict) == (person, switches, verdict)


def test_whoever_is_not_followed_counts(film: Path) -> None:
    """Time in which they are to be seen, and how much of it lies in a track of theirs."""
    lines = watched(
        film, ended(0, 0.0, 1.0, "ada", ADA), ended(1, 2.0, 2.9, None, ADA), ended(2, 0, 4, None)
    )
    truth = load_truth(film / "truth.json")
    ada, stranger = presences(judge(load_watched(lines).tracks, truth), truth)
    assert (ada.name, ada.tracks, ada.intervals) == ("ada", 2, ((0.0, 4.0),))
    assert (ada.seconds, ada.followed) == (pytest.approx(4.0), pytest.approx(2.1))
    assert (stranger.tracks, stranger.followed) == (0, 0.0)
    assert stranger.seconds == pytest.approx(1.9)  # a frame in which they are hardly seen is none


def test_moments_are_spread_and_one_is_damaged(film: Path) -> None:
    """Each part of the film has one, with as many people as there are in it."""
    moments = moments_of(load_truth(film / "truth.json"))
    assert [moment.frame // 8 for moment in moments] == [0, 1, 2, 3, 3, 4]
    assert [len(moment.people) for moment in moments] == [1, 2, 2, 2, 2, 1]
    assert [moment.corrupted for moment in moments].count(True) == 1


def video(path: Path, shade: int) -> Path:
    with VideoWriter(path, width=160, height=64, rate=RATE) as writer:
        for number in range(40):
            pixels = np.full((64, 160, 3), shade, np.uint8)
            writer.add(Frame(number=number, seconds=number / RATE, pixels=pixels))
    return path


def options(film: Path, *tracks: str, warning: str = "") -> list[str]:
    """Return the command's arguments, with all files that they name."""
    sheet = film / "sheet.png"
    Image.new("RGB", (80, 40), "green").save(sheet)
    again = film / "again.jsonl"
    again.write_text(lines_of(ended(0, 0.0, 3.9, "ada", ADA), ended(1, 1.0, 2.9, None, STRANGER)))
    return [
        *("film-report", str(film), "--watched", str(watched(film, *tracks, warning=warning))),
        *("--sheet", str(sheet), "--overlay", str(video(film / "named.mp4", 60))),
        *("--hidden", str(video(film / "hidden.mp4", 200)), "--again", str(again)),
        *("--except", "ada", "--out", str(film / "report.html")),
    ]


def test_the_command_writes_a_page_that_loads_nothing(
    film: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The counts, a drawing, the sheet, two pictures of each moment; nothing that is fetched."""
    told = [
        ended(0, 0.0, 3.9, "ada", ADA, ADA),
        ended(1, 1.0, 2.9, HOSTILE, STRANGER),
        ended(2, 1.0, 1.2, None, [60.0, 10.0, 20.0, 20.0]),
    ]
    assert main(options(film, *told, warning=HOSTILE)) == 0
    said = capsys.readouterr().out
    assert "2 of 2 people were found and followed; 1 of 2 names were right." in said
    assert "3 tracks, 0 switches: 1 named, and rightly, 1 named as somebody else, 1 where" in said
    assert "hiding: 2 tracks, named: ada (1 track). Nobody is known who was to be hidden." in said
    page = (film / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 1 + 2 * 6
    assert page.count("<svg ") == 1
    assert "this frame is damaged" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    addresses = re.findall(r"\w+://[^\s\"')]+", page)
    assert {address.split("/")[2] for address in addresses} <= {"www.w3.org"}


def test_a_name_that_was_to_be_hidden_is_not_passed_over(
    film: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the hidden film still gives somebody away, the page says so."""
    arguments = options(film, ended(0, 0.0, 3.9, "ada", ADA))
    (film / "again.jsonl").write_text(lines_of(ended(0, 0.0, 3.9, "bob", ADA)))
    assert main(arguments) == 0
    assert "1 track, named: bob (1 track). Not all are hidden." in capsys.readouterr().out


def test_what_is_no_film_is_one_line(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file, lines that were cut off, another kind of page: no traceback."""
    arguments = options(film, ended(0, 0.0, 3.9, "ada", ADA))
    assert main([*arguments[:-1], "report.pdf"]) == 2
    lines = film / "watched.jsonl"
    lines.write_text("\n".join(lines.read_text().splitlines()[:-1]))
    assert main(arguments) == 3
    assert "expected all lines of one film" in capsys.readouterr().err
    (film / "truth.json").unlink()
    assert main(arguments) == 3


def test_damaged_truth_and_lines_are_refused(film: Path) -> None:
    """Errors of ours, whatever stands there."""
    path = film / "truth.json"
    for text in ("", "[]", "{", "[" * 10**5):
        path.write_text(text)
        with pytest.raises(DataError):
            load_truth(path)
        with pytest.raises(DataError):
            load_watched(path)
    path.write_text(json.dumps(truth_of() | {"frames": []}))
    with pytest.raises(DataError, match="got none"):
        load_truth(path)
    path.write_text(json.dumps(truth_of() | {"rate": "fast"}))
    with pytest.raises(ArtifactError, match="rate"):
        load_truth(path)
    path.write_text(lines_of(ended(0, 0.0, 1.0, "ada", [1.0])))
    with pytest.raises(ArtifactError, match="5 values"):
        load_watched(path)
