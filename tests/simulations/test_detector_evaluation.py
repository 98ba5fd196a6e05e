"""`veilface-sim detector evaluate`: figures of detectors whose behaviour is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veilface_client.detectors.detection import Detection, Detector
from veilface_client.images import Pixels
from veilface_common.errors import ArtifactError
from veilface_simulations.cli import main
from veilface_simulations.clips.clip import Clip, ClipConfig
from veilface_simulations.detecting.evaluating import (
    FRAMES,
    Tally,
    look_at_clips,
    look_at_stills,
    measured,
    stills_of,
)
from veilface_simulations.detecting.page import render
from veilface_simulations.detecting.record import (
    RECORD,
    Evaluation,
)
from veilface_simulations.detecting.sheets import contact_sheet


class Squares:
    """A white square that stands still; corrupted frames are black."""

    name = "squares"

    def __init__(self, *, blind_at_first: bool = False) -> None:
        self._first = 0 if blind_at_first else 1  # the frame from which on some are corrupted

    def clip(self, config: ClipConfig, seed: int, number: int) -> Clip:
        draw = np.random.default_rng((seed, number))
        left, top, side = draw.integers(20, 100, 3).tolist()
        frames = np.zeros((config.frames, config.height, config.width, 3), np.uint8)
        frames[:, top : top + side, left : left + side] = 255
        corrupted = np.zeros(config.frames, bool)
        corrupted[self._first : self._first + (config.corrupted or 0)] = True
        frames[corrupted] = 0
        boxes = np.array(((left, top, side, side),), float)
        return Clip(
            frames=frames,
            boxes=(boxes,) * config.frames,
            people=(np.zeros(1, np.int64),) * config.frames,
            ignored=(np.zeros(1, bool),) * config.frames,
            corrupted=corrupted,
        )


class Seeing:
    """Finds what is white."""

    name = "seeing"

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        rows, columns = np.nonzero(image[:, :, 0] > 127)
        if not len(rows):
            return ()
        left, top = float(columns.min()), float(rows.min())
        return (found(left, top, float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)),)


class Remembering(Seeing):
    """Finds what is white, or was: in one video."""

    name = "remembering"

    def stream(self) -> RememberingStream:
        return RememberingStream()


class RememberingStream:
    def __init__(self) -> None:
        self._last: tuple[Detection, ...] = ()

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        self._last = Seeing().detect(image) or self._last
        return self._last


class Raving:
    """Always finds the upper left corner."""

    name = "raving"

    def detect(self, image: Pixels) -> tuple[Detection, ...]:  # noqa: ARG002 -- never looks
        return (found(0.0, 0.0, 30.0, 30.0),)


def found(left: float, top: float, width: float, height: float) -> Detection:
    return Detection(
        box=(left, top, width, height), score=0.9, landmarks=np.zeros((2, 2)), basis="box"
    )


def looked(*detectors: Detector, blind_at_first: bool = False) -> list[Tally]:
    tallies = [Tally(name=one.name, sha256=None, detector=one) for one in detectors]
    source = Squares(blind_at_first=blind_at_first)
    look_at_stills(tallies, stills_of(source, count=5, seed=0), lambda *_: None)
    look_at_clips(
        tallies,
        source,
        corrupted=(0, 2, 4),
        clips=5,
        seed=0,
        sheets=2,
        progress=lambda *_: None,
    )
    return tallies


def test_memory_is_what_corrupted_frames_are_found_by() -> None:
    """Without it recall falls by the share of corrupted frames; with it, it does not."""
    forgetful, remembering = map(measured, looked(Seeing(), Remembering()))
    for corrupted, one in zip((0, 2, 4), forgetful.clips, strict=True):
        assert one.corrupted == corrupted
        assert one.recall == pytest.approx(1 - corrupted / FRAMES)
        assert one.faces_corrupted == 5 * corrupted
        assert one.recall_corrupted == (0.0 if corrupted else None)
        assert one.recall_clean == 1.0
    assert [one.recall for one in remembering.clips] == [1.0, 1.0, 1.0]
    assert [one.recall_corrupted for one in remembering.clips] == [None, 1.0, 1.0]


def test_a_stream_forgets_the_clip_before() -> None:
    """Each clip is a video of its own: before its first frame nothing is known, nor invented."""
    (tally,) = looked(Remembering(), blind_at_first=True)
    for one in measured(tally).clips[1:]:
        assert one.recall_corrupted == 0.0
        assert one.recall_clean == 1.0
        assert one.false_per_picture == 0.0


def test_whoever_raves_finds_nothing_at_the_threshold() -> None:
    """One false alarm a picture is more than is allowed, so nothing of it counts."""
    (tally,) = looked(Raving())
    one = measured(tally)
    assert one.threshold > 0.9
    assert one.clips[0].false_per_picture == 0.0
    assert one.stills.sizes[0].average_precision < 0.5


def test_a_contact_sheet_shows_what_was_found() -> None:
    """Green where the face is found, and no orange; without memory neither in a black frame."""
    forgetful, remembering = looked(Seeing(), Remembering())
    green = np.array((40, 220, 90))
    counts = []
    for tally in (forgetful, remembering):
        assert len(tally.sheets) == 2
        sheet = contact_sheet([("x", 0.5, tally.sheets[0])])
        assert not (sheet == np.array((255, 130, 0))).all(axis=2).any()
        counts.append(int((sheet == green).all(axis=2).sum()))
    assert counts[1] == 2 * counts[0] > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluate") / "out"
    command = ["detector", "evaluate", "--data", "drawn", "--detectors", "haar,centre@0.5"]
    assert main([*command, "--clips", "2", "--corrupted", "4", "--out", str(out)]) == 0
    return out


def read(folder: Path) -> Evaluation:
    return RECORD.from_json(json.loads((folder / RECORD.name).read_text()))


def test_the_command_writes_what_it_reads_back(folder: Path) -> None:
    """Everything survives the file; clean clips are measured though only 4 was asked for."""
    evaluation = read(folder)
    assert RECORD.from_json(json.loads(json.dumps(RECORD.to_json(evaluation)))) == evaluation
    assert [one.name for one in evaluation.detectors] == ["haar", "centre@0.5"]
    assert [one.corrupted for one in evaluation.detectors[0].clips] == [0, 4]
    with pytest.raises(ArtifactError, match="schema"):
        RECORD.from_json({**RECORD.to_json(evaluation), "schema": 2})


def test_the_page_escapes_and_loads_nothing(folder: Path) -> None:
    """Texts from outside are text, and the pictures are in the page."""
    evaluation = read(folder)
    page = (folder / "evaluate.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 1
    assert "http://" not in page.replace("http://www.w3.org/", "")
    evil = render(replace(evaluation, data="<script>", command="<i>"), (), beside="<q>")
    assert not [text for text in ("<script>", "<i>", "<q>") if text in evil]


def test_sheets_of_real_people_stay_out_of_the_page(tmp_path: Path) -> None:
    """Photographs are not drawn: their sheets lie beside the page, for their owner alone."""
    photographs = tmp_path / "photographs"
    (photographs / "val").mkdir(parents=True)
    Image.new("RGB", (300, 300), (120, 90, 60)).save(photographs / "val" / "a.jpg")
    (photographs / "val.csv").write_text("file,x,y,width,height\na.jpg,100,100,80,90\n")
    out = tmp_path / "out"
    command = ["detector", "evaluate", "--data", f"wider:{photographs}", "--detectors", "centre"]
    assert main([*command, "--clips", "2", "--corrupted", "0", "--out", str(out)]) == 0
    assert "data:image" not in (out / "evaluate.html").read_text()
    sheets = sorted(out.glob("sheet-*.jpg"))
    assert sheets
    assert all(sheet.stat().st_mode & 0o077 == 0 for sheet in sheets)


@pytest.mark.parametrize(
    "options",
    [
        ["--data", "nothing"],
        ["--detectors", "haar,haar"],
        ["--corrupted", "9"],
        ["--corrupted", "two"],
        ["--clips", "0"],
        ["--seed", "-1"],
    ],
)
def test_settings_that_cannot_be_used_are_refused(options: list[str], tmp_path: Path) -> None:
    """Before anything is measured or written."""
    out = tmp_path / "out"
    usual = ["--data", "drawn", "--detectors", "centre", "--out", str(out)]
    assert main(["detector", "evaluate", *usual, *options]) != 0
    assert not out.exists()


def test_every_key_is_documented(folder: Path) -> None:
    """The page of docs names every key of the file."""
    page = (Path(__file__).parents[2] / "docs" / "detector.md").read_text()
    whole = json.loads((folder / RECORD.name).read_text())
    one = whole["detectors"][0]
    parts = (whole, one, one["stills"], one["stills"]["sizes"][0], one["clips"][0])
    assert not [key for part in parts for key in part if f"`{key}`" not in page]
