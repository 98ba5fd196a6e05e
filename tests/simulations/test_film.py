"""The drawn film: the people of `draw`, the same each time, and a truth that holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from veilface_client.video.reading import open_video
from veilface_common.errors import ConfigError
from veilface_simulations import drawn
from veilface_simulations.cli import main
from veilface_simulations.clips.film import HEIGHT, WIDTH, film
from veilface_simulations.film_command import FILM, TRUTH
from veilface_simulations.sources import open_any


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("film") / "out"
    assert main(["film", "1", "--strangers", "1", "--seed", "4", "--out", str(out)]) == 0
    return out


def test_the_video_is_as_long_as_its_truth(folder: Path) -> None:
    """Every frame of the truth is in the file, at its time."""
    truth = json.loads((folder / TRUTH).read_text())
    assert truth["people"] == ["ada", "stranger-1"]
    with open_video(str(folder / FILM)) as video:
        assert (video.width, video.height) == (WIDTH, HEIGHT)
        seconds = [frame.seconds for frame in video]
    expected = [frame["seconds"] for frame in truth["frames"]]
    assert len(seconds) == len(expected)
    assert np.abs(np.array(seconds) - expected).max() < 0.002


def test_people_come_in_and_go_out(folder: Path) -> None:
    """The film begins and ends empty, and both are there together in between."""
    truth = json.loads((folder / TRUTH).read_text())
    present = [{one["name"] for one in frame["people"]} for frame in truth["frames"]]
    assert present[0] == present[-1] == set()
    assert {"ada", "stranger-1"} in present
    assert any(frame["corrupted"] for frame in truth["frames"])


def test_a_film_is_the_same_each_time() -> None:
    """The same seed gives the same pixels; another one gives other people."""
    one, other, third = (film(("ada",), strangers=0, seed=seed) for seed in (4, 4, 5))
    frames = [next(frame for frame in made if frame.number == 40) for made in (one, other, third)]
    assert np.array_equal(frames[0].pixels, frames[1].pixels)
    assert not np.array_equal(frames[0].pixels, frames[2].pixels)


def test_the_named_are_those_of_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sitter with a name is one whom `veilface-sim draw` draws, a stranger is not."""
    asked = []
    original = drawn.identity

    def spied(seed: int, person: int) -> drawn.Identity:
        asked.append((seed, person))
        return original(seed, person)

    monkeypatch.setattr(drawn, "identity", spied)
    film(("ada", "bob"), strangers=1, seed=7)
    in_film, people = set(asked), set()
    asked.clear()
    for photograph in open_any("drawn:2x1", seed=7, purpose="evaluate", pixels=16).photographs():
        photograph.load()
    people = set(asked)
    assert people < in_film
    assert len(in_film - people) == 1


def test_a_film_of_nobody_is_refused(tmp_path: Path) -> None:
    """Nobody, a crowd without end, or a folder that is in use."""
    for people in ((), tuple(map(str, range(65)))):
        with pytest.raises(ConfigError, match="people in a film"):
            film(people, strangers=0, seed=0)
    (tmp_path / "mine").write_text("")
    assert main(["film", "1", "--out", str(tmp_path)]) != 0
    assert (tmp_path / "mine").exists()
