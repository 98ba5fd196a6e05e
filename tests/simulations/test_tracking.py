"""Tracks: which frames are one video's, what goes wrong with them, and the command end to end."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from veilface_client.images import Crop, Pixels
from veilface_client.perturbations.levels import PERTURBATIONS
from veilface_client.pseudo_tracks import KINDS
from veilface_client.sources import KINDS as SOURCES
from veilface_client.sources import YTF, Photograph, open_source
from veilface_common import models
from veilface_common.artifact import save_model
from veilface_common.config import ModelConfig
from veilface_common.errors import ArtifactError, DataError
from veilface_common.models.weights import read_weights
from veilface_simulations import drawn
from veilface_simulations.cli import main
from veilface_simulations.tracking import figures
from veilface_simulations.tracking.figures import measure
from veilface_simulations.tracking.free import FreeTemplate
from veilface_simulations.tracking.page import render
from veilface_simulations.tracking.record import RECORD
from veilface_simulations.tracking.videos import CONDITIONS, FRAMES, read_videos, spoil

HOSTILE = "<script>alert('x')</script>"
SILENT = partial(lambda *_: None)
NETWORK = ModelConfig(name="classic", dimension=8, track="gru")


class Told:
    """A source that holds frames of these names, each of one value."""

    name, fingerprint, warnings, crop = "told", "", ("told",), Crop()

    def __init__(self, *names: str) -> None:
        self.names = names

    def photographs(self) -> list[Photograph]:
        return [
            Photograph(person=name.split("/")[0], name=name, load=partial(self.load, number))
            for number, name in enumerate(self.names)
        ]

    def load(self, number: int) -> Pixels:
        if number == 3:
            raise DataError("expected a photograph, got none")
        return np.full((50, 60, 3), number, np.uint8)


def told() -> Told:
    """Return four people with two videos each, named in both ways."""
    flat = [f"{p}/v{v}_{f}.jpg" for p in "ab" for v in (1, 22) for f in ("a0", "b1")]
    nested = [f"{p}/v{v}/{f:03}.jpg" for p in "cd" for v in (1, 22) for f in range(13)]
    return Told(*flat, *nested)


def test_frames_of_one_video_are_a_track() -> None:
    """Named either way; evenly taken where there are many; unreadable ones are counted."""
    halves = [
        read_videos(told(), half=half, seed=0, progress=SILENT)  # type: ignore[arg-type]
        for half in ("choosing", "reporting")
    ]
    videos = {(v.person, v.name): v for half in halves for v in half.videos}
    assert sorted(videos) == [(p, f"v{v}") for p in "abcd" for v in (1, 22)]
    values = {key: [int(f.pixels[0, 0, 0]) for f in v.frames] for key, v in videos.items()}
    assert values["a", "v1"] == [0, 1]
    assert values["a", "v22"] == [2], "the other cannot be read"
    assert values["c", "v1"] == [8, 11, 14, 17, 20]
    assert max(map(len, values.values())) == FRAMES
    warnings = [warning for half in halves for warning in half.warnings if warning != "told"]
    assert len(warnings) == 1
    assert "a/v22" not in warnings[0], "a page names nobody"


def test_settings_are_chosen_on_other_people_than_figures_are_of() -> None:
    """Halves share nobody, and the same seed deals the same ones."""
    half = partial(read_videos, told(), progress=SILENT)
    people = [
        {video.person for video in half(half=name, seed=1).videos}  # type: ignore[arg-type]
        for name in ("choosing", "reporting", "choosing")
    ]
    assert people[0] == people[2]
    assert not people[0] & people[1]
    assert people[0] | people[1] == set("abcd")


def test_a_set_without_videos_is_refused() -> None:
    """A photograph alone is no track; one video of each person is no pair."""
    with pytest.raises(DataError, match="expected frames named"):
        read_videos(Told("a/one.jpg"), half="reporting", seed=0, progress=SILENT)
    with pytest.raises(DataError, match="expected videos of two people"):
        read_videos(
            Told("a/1_a.jpg", "b/1_a.jpg", "c/1_a.jpg"), half="reporting", seed=0, progress=SILENT
        )


def test_two_of_five_frames_go_wrong() -> None:
    """The same ones each time; clean ones stay; the new kinds are those that training never had."""
    (video, *_) = read_videos(told(), half="reporting", seed=0, progress=SILENT).videos
    video = replace(
        video,
        frames=video.frames[:1] * 5,
        spoilt=(False,) * 5,
    )
    noise = np.random.default_rng(1).integers(0, 256, video.frames[0].pixels.shape, np.uint8)
    video = replace(video, frames=tuple(replace(f, pixels=noise) for f in video.frames))
    assert spoil(video, "clean", 0) is video
    for condition in ("known", "new"):
        one, two = (spoil(video, condition, 7) for _ in range(2))  # type: ignore[arg-type]
        assert sum(one.spoilt) == 2
        changed = [not np.array_equal(f.pixels, noise) for f in one.frames]
        assert changed == list(one.spoilt)
        assert all(
            np.array_equal(f.pixels, g.pixels) for f, g in zip(one.frames, two.frames, strict=True)
        )
    assert not set(CONDITIONS["known"]) & set(CONDITIONS["new"])
    assert set(CONDITIONS["known"]) | set(CONDITIONS["new"]) == set(PERTURBATIONS)
    assert CONDITIONS["known"] == KINDS


def test_a_difference_from_itself_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways are resampled over the same people."""
    monkeypatch.setattr(figures, "RESAMPLES", 20)
    people = np.repeat(np.arange(12), 3)
    random = np.random.default_rng(0)
    centres = random.normal(size=(12, 8))[people]
    vectors = (centres + 0.7 * random.normal(size=(36, 8))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rates = measure(vectors, people, seed=1)
    assert {f.value for f in rates.less(rates).values()} == {0.0}
    assert {f.interval for f in rates.less(rates).values()} == {(0.0, 0.0)}
    low, high = rates.figures()["eer"].interval
    assert 0 <= low <= rates.eer <= high < 0.5


def test_the_free_network_does_not_look_at_padding() -> None:
    """It is compared fairly."""
    torch.manual_seed(0)
    network = FreeTemplate(8, 3)
    frames, judged = torch.randn(1, 4, 8), torch.randn(1, 4, 3)
    there = torch.ones(1, 4).bool()
    padded = [torch.cat([part, torch.full_like(part, 9)], 1) for part in (frames, judged)]
    found = network(*padded, torch.cat([there, ~there], 1))
    assert torch.allclose(found, network(frames, judged, there), atol=1e-6)


def test_youtube_faces_are_a_source(tmp_path: Path) -> None:
    """A folder for each person; the face is in the middle of its frames."""
    (tmp_path / "a").mkdir()
    Image.new("RGB", (100, 128)).save(tmp_path / "a" / "v0_a0.jpg")
    source = open_source(f"ytf:{tmp_path}")
    assert source.crop == YTF
    assert [photograph.name for photograph in source.photographs()] == ["a/v0_a0.jpg"]
    assert "ytf" in SOURCES


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Return a folder with two short videos of each of eight drawn people."""
    for person in range(8):
        folder = tmp_path / "videos" / f"person {HOSTILE[1:7]} {person}"
        folder.mkdir(parents=True)
        for number in range(6):
            picture = drawn.photograph(1, person, number, 70).transpose(1, 2, 0)
            name = f"v{number // 3}_a{number % 3}.png"
            Image.fromarray(np.ascontiguousarray(picture)).save(folder / name)
    return tmp_path / "videos"


def test_the_command_measures_every_way(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A page that names nobody, a file that comes back as it was, and a sheet of the faces."""
    monkeypatch.setattr(figures, "RESAMPLES", 20)
    for name, seed in (("model", 1), ("private", 1), ("other", 2)):
        weights = read_weights(models.build(NETWORK, seed=seed))
        if name == "private":
            weights = {k: v + 0.1 if k.startswith("track.") else v for k, v in weights.items()}
        save_model(tmp_path / name, NETWORK, weights, {})
    told = ["tracks", "--model", str(tmp_path / "model"), "--data", f"folder:{videos}"]
    out = ["--out", str(tmp_path / "out")]
    more = ["--private", str(tmp_path / "private"), "--sheet", str(tmp_path / "sheet.png")]
    assert main([*told, *out, *more]) == 0
    found = RECORD.from_json(json.loads((tmp_path / "out" / "tracks.json").read_text()))
    assert RECORD.to_json(found) == json.loads((tmp_path / "out" / "tracks.json").read_text())
    assert found.ways() == ("mean", "best", "recurrent", "recurrent, private")
    assert found.conditions() == ("clean", "known", "new")
    assert (found.people, found.videos, found.frames) == (4, 8, 24)
    page = (tmp_path / "out" / "tracks.html").read_text()
    assert "data:image/jpeg" in page, "of drawn people"
    assert "person script" not in page
    hostile = render(replace(found, data=HOSTILE, command=HOSTILE, warnings=(HOSTILE,)), None)
    assert HOSTILE not in hostile
    assert render(found, None) == re.sub(
        r"<section class=.long sheet.*?</section>\n?", "", page, flags=re.S
    )
    assert Image.open(tmp_path / "sheet.png").height == 8 * (112 + 40)
    assert "recurrent, private" in capsys.readouterr().out
    assert main([*told, *out]) == 2, "nothing is written over"
    other = [*told, "--out", str(tmp_path / "out2"), "--private", str(tmp_path / "other")]
    assert main(other) == 2, "other embeddings are other tracks"


@pytest.mark.parametrize("body", [[], {}, {"schema": 2}, {"schema": 1}])
def test_a_file_of_another_kind_is_refused(body: object) -> None:
    """Not read as figures of zero."""
    with pytest.raises(ArtifactError):
        RECORD.from_json(body)
