"""Drawn faces: reproducible, varied, and hard for a network that has learnt nothing."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest
import torch

from veilface_common import models
from veilface_common.config import ModelConfig
from veilface_common.errors import ConfigError
from veilface_simulations.drawn import (
    Conditions,
    Identity,
    conditions,
    contact_sheet,
    draw,
    identity,
    photograph,
)

PIXELS = 80
# Everything that a person may lack is there, nothing hides anything else.
SOMEONE = dataclasses.replace(
    identity(1, 2),
    melanin=0.3,
    ruddiness=0.3,
    freckles=0.5,
    mole_x=0.3,
    mole_radius=0.03,
    chin_dimple=0.6,
    wrinkles=0.5,
    hair_lightness=0.5,
    hair_redness=0.3,
    hair_grey=0.2,
    hair_density=0.9,
    hair_length=0.1,
    fringe=0.1,
    beard=0.4,
    moustache=0.4,
    glasses=0.015,
)
LONG_HAIRED = dataclasses.replace(SOMEONE, hair_density=2.0, hair_length=0.6, hair_volume=0.12)
PLAIN = dataclasses.replace(
    conditions(1, 2, 3),
    yaw=0.2,
    roll=0.1,
    smile=0.3,
    mouth_open=0.4,
    lids=0.9,
    clutter=0.6,
    occlusion="none",
    blur=0.4,
    noise=0.02,
)
NUMBERS = {
    kind: {f.name: f.metadata["range"] for f in dataclasses.fields(kind) if "range" in f.metadata}
    for kind in (Identity, Conditions)
}


def difference(one: np.ndarray, other: np.ndarray) -> int:
    """Return the largest difference between two photographs, in levels of 255."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def moved(value: float, low: float, high: float) -> float:
    """Return the end of the range that is further away."""
    return low if value - low > high - value else high


@pytest.mark.parametrize("pixels", [8, 64, 80, 140])
def test_a_photograph_is_a_canvas_of_bytes(pixels: int) -> None:
    """uint8 [3, pixels, pixels] at every size, and not of one colour."""
    picture = photograph(1, 2, 3, pixels)
    assert picture.dtype == np.uint8
    assert picture.shape == (3, pixels, pixels)
    assert picture.std() > 5


def test_a_photograph_follows_from_its_three_numbers() -> None:
    """Alone, in another order or after others, the same photograph comes out."""
    keys = [(1, 0, 0), (1, 0, 1), (1, 7, 0), (2, 0, 0)]
    forwards = {key: photograph(*key) for key in keys}
    backwards = {key: photograph(*key) for key in reversed(keys)}
    assert all(np.array_equal(forwards[key], backwards[key]) for key in keys)


def test_every_one_of_the_three_numbers_matters() -> None:
    """Another seed, person or photo is another photograph."""
    base = photograph(1, 2, 3)
    assert all(difference(base, photograph(*key)) > 20 for key in [(2, 2, 3), (1, 3, 3), (1, 2, 4)])


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    """NumPy's global state does not change a photograph, nor a photograph the state."""
    np.random.seed(3)  # noqa: NPY002 -- the global state is what is tested
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    first = photograph(1, 2, 3)
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert repr(before) == repr(after)
    np.random.seed(4)  # noqa: NPY002
    assert np.array_equal(first, photograph(1, 2, 3))


def test_a_person_has_at_least_25_parameters() -> None:
    """All of them numbers with a range, and every drawn person within it."""
    assert len(dataclasses.fields(Identity)) == len(NUMBERS[Identity]) >= 25


@pytest.mark.parametrize("person", range(20))
def test_people_and_conditions_lie_within_their_ranges(person: int) -> None:
    """What is drawn stays in the documented range."""
    for sitter in (identity(5, person), conditions(5, person, 0)):
        for name, (low, high) in NUMBERS[type(sitter)].items():
            assert min(low, 0) <= getattr(sitter, name) <= high


@pytest.mark.parametrize("name", NUMBERS[Identity])
def test_every_identity_parameter_changes_the_picture(name: str) -> None:
    """No parameter is idle: moving it to the far end of its range shows."""
    sitter = LONG_HAIRED if name in {"hair_length", "hair_volume"} else SOMEONE
    value = moved(getattr(sitter, name), *NUMBERS[Identity][name])
    changed = dataclasses.replace(sitter, **{name: value})
    assert difference(draw(sitter, PLAIN, PIXELS), draw(changed, PLAIN, PIXELS)) >= 8


@pytest.mark.parametrize("name", [*NUMBERS[Conditions], "grain"])
def test_every_condition_changes_the_picture(name: str) -> None:
    """No condition is idle."""
    held = dataclasses.replace(PLAIN, occlusion="scarf") if name == "occlusion_place" else PLAIN
    sitter = LONG_HAIRED if name == "hair_mess" else SOMEONE
    change: dict[str, Any] = {"grain": 5}
    if name != "grain":
        change = {name: moved(getattr(held, name), *NUMBERS[Conditions][name])}
    changed = dataclasses.replace(held, **change)
    assert difference(draw(sitter, held, PIXELS), draw(sitter, changed, PIXELS)) >= 8


@pytest.mark.parametrize("kind", ["object", "sunglasses", "scarf", "cap"])
def test_every_occlusion_covers_something(kind: Any) -> None:
    """Each kind of occlusion shows, and leaves some of the face to see."""
    covered = draw(SOMEONE, dataclasses.replace(PLAIN, occlusion=kind), PIXELS).astype(int)
    changed = np.abs(covered - draw(SOMEONE, PLAIN, PIXELS)).max(axis=0) > 12
    assert 0.01 < changed.mean() < 0.6


def test_light_from_the_other_side_darkens_the_other_cheek() -> None:
    """The direction of the light means something: the side that it comes from is brighter."""
    bare = dataclasses.replace(SOMEONE, hair_density=0.05, glasses=-1.0, mole_radius=-1.0)
    calm = dataclasses.replace(
        PLAIN, yaw=0.0, roll=0.0, shift_x=0.0, light_elevation=0.2, light_share=0.8, noise=0.0
    )
    cheeks = {}
    for side in (-1, 1):
        picture = draw(bare, dataclasses.replace(calm, light_azimuth=side * 1.2), 80)
        cheeks[side] = (picture[:, 40:52, 22:34].mean(), picture[:, 40:52, 46:58].mean())
    assert cheeks[-1][0] > 1.3 * cheeks[-1][1]
    assert cheeks[1][1] > 1.3 * cheeks[1][0]


def test_photographs_of_one_person_vary_as_much_as_people_do() -> None:
    """Raw pixels do not tell people apart: light, pose and surroundings outweigh who it is."""
    shots = np.stack([[photograph(4, p, k, 40).astype(float) for k in range(6)] for p in range(30)])
    within = shots.std(axis=1).mean()
    between = shots[:, 0].std(axis=0).mean()
    assert within > 25
    assert within > 0.75 * between


@pytest.mark.parametrize("name", NUMBERS[Conditions])
@pytest.mark.parametrize("end", [0, 1])
def test_the_ends_of_the_ranges_draw_without_warnings(name: str, end: int) -> None:
    """No division by zero, no root of a negative number, no overflow."""
    change: dict[str, Any] = {name: NUMBERS[Conditions][name][end]}
    held = dataclasses.replace(PLAIN, **change)
    people = {name: pair[end] for name, pair in NUMBERS[Identity].items()}
    with np.errstate(all="raise", under="ignore"):
        assert draw(Identity(**people), held, 32).std() > 0


def test_a_contact_sheet_holds_the_photographs() -> None:
    """Rows are people, columns photographs, channels last."""
    sheet = contact_sheet(1, 3, 4, 40)
    assert sheet.shape == (120, 160, 3)
    assert np.array_equal(sheet[40:80, 120:160].transpose(2, 0, 1), photograph(1, 1, 3, 40))


@pytest.mark.parametrize("pixels", [0, 7, 5000])
def test_a_useless_size_is_refused(pixels: int) -> None:
    """The error names what was expected."""
    with pytest.raises(ConfigError, match="expected pixels in"):
        photograph(1, 2, 3, pixels)


@pytest.mark.parametrize("key", [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_negative_numbers_are_refused(key: tuple[int, int, int]) -> None:
    """A seed, person or photo below 0 is an error of ours, not NumPy's."""
    with pytest.raises(ConfigError, match="at least 0"):
        photograph(*key)


def test_an_untrained_network_is_near_chance() -> None:
    """Its equal error rate on drawn people is above 35%: nothing trivial gives a person away."""
    people, photos = 60, 5
    shots = np.stack(
        [photograph(9, person, photo) for person in range(people) for photo in range(photos)]
    )
    network = models.build(ModelConfig(name="tiny"), 1)
    with torch.no_grad():
        embedded = network(torch.from_numpy(shots[:, :, 8:72, 8:72].copy()).float() / 255).numpy()
    one, other = np.triu_indices(len(shots), 1)
    scores = (embedded @ embedded.T)[one, other]
    same = one // photos == other // photos
    genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
    rejected = np.arange(len(genuine)) / len(genuine)
    accepted = 1 - np.searchsorted(impostor, genuine) / len(impostor)
    assert rejected[np.argmin(np.abs(rejected - accepted))] > 0.35


@pytest.mark.bench
def test_at_least_300_photographs_a_second() -> None:
    """On one core at 64 px; time of this process, so that neighbours count less."""
    photograph(1, 0, 0, 64)
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        for number in range(150):
            photograph(1, number // 5, number % 5, 64)
        best = max(best, 150 / (time.process_time() - start))
    assert best >= 300
