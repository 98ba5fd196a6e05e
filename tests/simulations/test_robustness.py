"""Robustness: who is compared, and the command from end to end."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.client.face_parts import portrait

from veilface_client.alignment import PIXELS, cut, scale_of
from veilface_client.detectors.haar import Haar
from veilface_client.images import CANVAS, Crop, Pixels
from veilface_client.sources import Photograph
from veilface_common import models
from veilface_common.artifact import save_model
from veilface_common.config import ModelConfig
from veilface_common.errors import ArtifactError, DataError
from veilface_common.models.weights import read_weights
from veilface_common.robustness_table import read_table
from veilface_simulations.cli import main
from veilface_simulations.robustness import command, measuring
from veilface_simulations.robustness.measuring import CLEAN, measure_all
from veilface_simulations.robustness.page import render
from veilface_simulations.robustness.record import RECORD, Robustness
from veilface_simulations.robustness.scenes import PROBES, Cropped, Scene, Scenes, Sought, choose

HOSTILE = "<script>alert('x')</script>\"'&$title ${body} </title>"
SILENT = partial(lambda *_: None)


class Told:
    """A source of flat photographs: person p's photo n is a square of the value 10 p + n."""

    name, fingerprint, warnings, crop = "told", "", ("told",), Crop()

    def __init__(self, *photographs: int) -> None:
        self.held = photographs

    def photographs(self) -> list[Photograph]:
        """Return so many of each person; the second one of person 2 cannot be read."""
        return [
            Photograph(
                person=f"p{person}", name=f"p{person}/{n}", load=partial(self.load, person, n)
            )
            for person, count in enumerate(self.held)
            for n in range(count)
        ]

    def load(self, person: int, number: int) -> Pixels:
        if (person, number) == (2, 1):
            raise DataError("expected a photograph, got none")
        return np.full((50, 60, 3), 10 * person + number, np.uint8)


def values(scenes: Sequence[Scene]) -> list[int]:
    return [int(scene.pixels[0, 0, 0]) for scene in scenes]


def test_the_first_photograph_is_the_reference_and_few_others_are_probes() -> None:
    """Nobody with one photograph; no more than a few of anybody; what is unreadable is counted."""
    source = Told(2, 1, 2, 9, 3)
    scenes = choose(source, Cropped(Crop()), people=9, seed=0, progress=SILENT)
    assert values(scenes.references) == [0, 30, 40]
    assert values(scenes.probes) == [1, *range(31, 31 + PROBES), 41, 42]
    assert scenes.people.tolist() == [0, *[1] * PROBES, 2, 2]
    assert scenes.warnings[0] == "told"
    assert "1 photograph left out, clean as it is" in scenes.warnings[1]
    assert scenes.warnings[2] == (
        "1 person left out: fewer than two usable photographs (first: 1 of 2)"
    )
    assert not any("p2" in warning for warning in scenes.warnings), "a page names nobody"


def test_people_are_drawn_by_the_seed() -> None:
    """The same ones each time, others by another seed, as many as were asked for."""
    source = Told(*[1] * 3, *[2] * 17)
    drawn = [
        values(choose(source, Cropped(Crop()), people=5, seed=seed, progress=SILENT).references)
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[2]) == 5


def test_a_set_without_two_people_is_refused() -> None:
    """There would be no stranger."""
    with pytest.raises(DataError, match="expected two people with two usable photographs"):
        choose(Told(1, 1, 2), Cropped(Crop()), people=9, seed=0, progress=SILENT)


def test_a_cropped_scene_is_the_canvas_around_the_aligned_face() -> None:
    """The template's square in its middle, and a ring around it for what turns into view."""
    eye = Cropped(CANVAS)
    scene = eye.scene(portrait(pixels=140))
    assert np.array_equal(scene.pixels, portrait(pixels=140))
    assert np.array_equal(eye.align(scene.pixels), cut(scene.pixels, scene.face))


def test_a_face_that_was_sought_is_112_px_wide_in_its_scene() -> None:
    """Whatever its size in the photograph, and it leads to the same aligned face."""
    for pixels in (240, 440):
        photograph = np.full((900, 1000, 3), 128, np.uint8)
        photograph[440 : 440 + pixels, 500 : 500 + pixels] = portrait(pixels=pixels)
        eye = Sought(Haar())
        scene = eye.scene(photograph)
        assert scale_of(scene.face) == pytest.approx(1, abs=0.01)
        straight = eye.align(photograph).astype(int)
        assert np.abs(cut(scene.pixels, scene.face) - straight).mean() < 4
        assert np.abs(eye.align(scene.pixels) - straight).mean() < 8
        assert PIXELS < max(scene.pixels.shape) <= 3 * PIXELS + 2


class Wary:
    """Finds no face in the dark, and takes the middle of everything else."""

    def scene(self, photograph: Pixels) -> Scene:
        return Cropped(CANVAS).scene(photograph)

    def align(self, scene: Pixels) -> Pixels:
        if scene.mean() < 20:
            raise DataError("expected light, got none")
        return Cropped(CANVAS).align(scene)


class Seen:
    """A model whose template is the picture's mean colours, and which remembers what it saw."""

    name = "seen"

    def __init__(self) -> None:
        self.manifest = type("M", (), {"sha256": "0", "model": ModelConfig()})
        self.looks: list[NDArray] = []

    def templates(self, aligned: Sequence[Pixels]) -> NDArray[np.float32]:
        self.looks.append(np.array(aligned))
        found = np.array([face.reshape(-1, 3).mean(axis=0) for face in aligned]).reshape(-1, 3)
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def some_scenes(people: int = 8) -> Scenes:
    pictures = [portrait(person, 140) for person in range(people)]
    scenes = tuple(Cropped(CANVAS).scene(picture) for picture in pictures)
    return Scenes(references=scenes, probes=scenes, people=np.arange(people), warnings=())


def test_references_stay_clean_and_failures_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only probes are perturbed, and each model sees each perturbed probe once."""
    conditions = (("darkness", 5), ("brightness", 1))
    monkeypatch.setattr(measuring, "CONDITIONS", conditions)
    model, scenes = Seen(), some_scenes()
    (found,) = measure_all([model], scenes, Wary(), rate=0.2, seed=0, progress=SILENT)
    clean = [Cropped(CANVAS).align(scene.pixels) for scene in scenes.references]
    references, level_0, dark, bright = model.looks
    assert np.array_equal(references, clean)
    assert np.array_equal(level_0, clean)
    assert len(dark) == 0
    assert bright.mean() > level_0.mean() + 10
    assert found.measured.clean.tar == 1
    darkest, _ = found.measured.cells
    assert (darkest.rates.failures, darkest.rates.tar, darkest.rates.eer) == (1, 0, 0.5)
    assert CLEAN not in found.conditions


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    network = models.build(ModelConfig(), seed=1)
    save_model(folder, ModelConfig(), read_weights(network), {"data": "drawn:8x2"})
    return folder


OPTIONS = ["--data", "drawn:8x2", "--rate", "0.2", "--seed", "1"]


@pytest.fixture(scope="module")
def measured(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of the command, the model being its own baseline."""
    out = tmp_path_factory.mktemp("robustness") / "new"
    model = ["--model", str(untrained), "--baseline", str(untrained)]
    assert main(["robustness", *model, *OPTIONS, "--out", str(out)]) == 0
    return out


def test_the_command_writes_what_it_found(measured: Path) -> None:
    """Eighty cells and the clean one; against itself a model has a relative error of 1."""
    written = json.loads((measured / "robustness.json").read_text())
    found = RECORD.from_json(written)
    assert RECORD.to_json(found) == written
    assert (found.people, found.probes, found.impostor_pairs) == (8, 8, 56)
    assert len(found.model.cells) == 80
    assert found.model.clean.false_match_rate <= 0.2
    assert found.baseline == found.model
    assert set(found.relative.relative_error.values()) == {1.0}
    assert found.relative.mean_relative_error == 1.0
    assert found.relative.intervals["mean_relative_error"] == (1.0, 1.0)
    assert all(cell.rates.failures == 0 for cell in found.model.cells)
    assert sorted(path.name for path in measured.iterdir()) == [
        "robustness.html",
        command.RECORD.name,
    ]


def test_a_release_carries_what_was_found(measured: Path) -> None:
    """The table that a manifest takes from the file has every cell, in four decimals."""
    found = RECORD.from_json(json.loads((measured / command.RECORD.name).read_text())).model
    table = read_table(measured / command.RECORD.name)
    assert table.sha256 == found.sha256
    assert [one.name for one in table.perturbations] == list(found.perturbations())
    for one in table.perturbations:
        rates = found.levels_of(one.name)
        assert one.tar == tuple(round(rate.tar, 4) for rate in rates)
        strangers = tuple(round(rate.false_match_rate, 4) for rate in rates)
        assert one.false_match_rate == strangers


def test_the_same_seed_finds_the_same(
    measured: Path, untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process order too: a cell does not depend on those measured before it."""
    monkeypatch.setattr(measuring, "CONDITIONS", (("hand", 4), ("salt-and-pepper", 2)))
    assert main(["robustness", "--model", str(untrained), *OPTIONS, "--out", str(tmp_path)]) == 0
    again = RECORD.from_json(json.loads((tmp_path / "robustness.json").read_text()))
    before = RECORD.from_json(json.loads((measured / "robustness.json").read_text()))
    assert again.model.threshold == before.model.threshold
    assert len(again.model.cells) == 2
    assert all(cell in before.model.cells for cell in again.model.cells)
    assert again.relative is None


def test_every_written_key_is_documented(measured: Path) -> None:
    """The page of docs names every key of the file."""
    page = (Path(__file__).parents[2] / "docs" / "robustness.md").read_text()
    written = json.loads((measured / "robustness.json").read_text())
    keys = {*written, *written["model"], *written["relative"], *written["perturbations"][0]}
    keys |= {*written["model"]["cells"][0], *written["model"]["clean"]}
    for key in keys:
        assert re.search(rf"\b{key}\b", page[page.index("## `robustness.json`") :]), key


def test_the_page_shows_every_perturbation_and_loads_nothing(measured: Path) -> None:
    """Three heat maps, a row and a strip of pictures for each, no address that is fetched."""
    found = RECORD.from_json(json.loads((measured / "robustness.json").read_text()))
    text = (measured / "robustness.html").read_text()
    assert text.count("<svg ") == 3
    assert text.count("data:image/jpeg;base64,") == 16
    assert text.count('<tr><th scope="row">salt-and-pepper</th>') == 2
    assert render(found) == text
    addresses = re.findall(r"\w+://[^\s\"')]+", text)
    assert {address.split("/")[2] for address in addresses} <= {"www.w3.org"}
    sought = render(replace(found, detector="haar", baseline=None, relative=None))
    assert sought.count("<svg ") == 4
    assert "No face found" in sought
    ids = re.findall(r'\bid="([^"]+)"', sought)
    assert len(ids) == len(set(ids))


def test_hostile_names_do_not_inject(measured: Path) -> None:
    """A source, a model or a warning named as a script is shown as text."""
    plain = RECORD.from_json(json.loads((measured / "robustness.json").read_text()))
    bad = replace(plain, data=HOSTILE, detector=HOSTILE, command=HOSTILE, warnings=(HOSTILE,))
    text = render(replace(bad, model=replace(plain.model, name=HOSTILE)))
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 5
    assert "$title" in text


def test_another_schema_is_refused(measured: Path) -> None:
    """A file of a later program is not half understood."""
    written = json.loads((measured / "robustness.json").read_text())
    for bad in ({**written, "schema": 2}, {**written, "rate": "1%"}, []):
        with pytest.raises(ArtifactError):
            RECORD.from_json(bad)


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["--rate", "0"], 2, "expected --rate in (0, 1)"),
        (["--people", "1"], 2, "expected --people in [2, 5000]"),
        (["--detector", "eyes"], 2, "expected a detector"),
        (["--data", "drawn:1x1"], 3, "expected two people with two usable photographs"),
        (["--rate", "0.001"], 3, "pairs of strangers or more"),
        (["--baseline", "nowhere"], 4, "expected a model in nowhere"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    untrained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    code: int,
    said: str,
) -> None:
    """Exit codes by kind of error, nothing written."""
    out = tmp_path / "out"
    common = ["robustness", "--model", str(untrained), *OPTIONS, "--out", str(out)]
    assert main([*common, *given]) == code
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1]
    assert not out.exists()


def test_nothing_is_written_over_and_a_stop_leaves_nothing(
    measured: Path,
    untrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A folder with something in it is refused before the work; Ctrl-C ends with 130."""
    common = ["robustness", "--model", str(untrained), *OPTIONS]
    assert main([*common, "--out", str(measured)]) == 2
    monkeypatch.setattr(command, "measure_all", stop)
    assert main([*common, "--out", str(tmp_path / "out")]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_model_that_may_know_these_people_is_named(measured: Path, untrained: Path) -> None:
    """Figures on one's own training set flatter; drawn people to evaluate on are others."""
    found: Robustness = RECORD.from_json(json.loads((measured / "robustness.json").read_text()))
    assert not any("trained on" in warning for warning in found.warnings)
    looker = measuring.open_looker(untrained)
    knows = replace(looker, manifest=replace(looker.manifest, training={"data": "lfw:PATH"}))
    assert "flatter" in command._trained_on_it([knows], "lfw:PATH")[0]
    assert not command._trained_on_it([knows], "orl:PATH")
