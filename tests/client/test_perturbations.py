"""Perturbations: what holds for all, and each definition against a slow and obvious one."""

from __future__ import annotations

import colorsys
import io
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.client.face_parts import portrait

from veilface_client.alignment import PIXELS, TEMPLATE, Transform
from veilface_client.images import Pixels
from veilface_client.perturbations import camera, covers, light
from veilface_client.perturbations.camera import disc, line
from veilface_client.perturbations.levels import LEVELS, PERTURBATIONS, perturb
from veilface_client.perturbations.shot import Shot, middle_face
from veilface_common.errors import ConfigError

EVERY = tuple(PERTURBATIONS)
BY_CHANCE = (
    *("side-light", "coloured-light", "rotation", "salt-and-pepper", "gaussian-noise"),
    *("motion-blur", "mask", "glasses", "hand"),
)
INNER = np.array(((1.0, 0.0, -14.0), (0.0, 1.0, -14.0)))  # a 140 px canvas around the template
FACE = portrait(pixels=140)


def grains(height: int, width: int) -> Pixels:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def shot(pixels: Pixels, *, seed: int = 0, face: Transform | None = None) -> Shot:
    height, width, _ = pixels.shape
    return Shot(
        pixels=pixels,
        face=middle_face(height, width) if face is None else face,
        draw=np.random.default_rng(seed),
    )


def apart(left: Pixels, right: Pixels) -> float:
    return float(np.sqrt(((left.astype(float) - right) ** 2).mean()))


@pytest.mark.parametrize("name", EVERY)
def test_level_0_changes_nothing_and_gives_a_copy(name: str) -> None:
    """The clean face goes the same way as the perturbed ones, and nobody's pixels are written."""
    before = FACE.copy()
    same = perturb(FACE, name, 0, seed=1)
    assert np.array_equal(same, FACE)
    assert not np.shares_memory(same, FACE)
    perturb(FACE, name, LEVELS, seed=1)
    assert np.array_equal(FACE, before)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_picture_and_seed_give_the_same_bytes(name: str) -> None:
    """Whatever else was perturbed in between; another seed or picture is another chance."""
    first = perturb(FACE, name, 3, seed=1, face=INNER)
    perturb(grains(9, 9), name, 2, seed=4)
    assert np.array_equal(first, perturb(FACE.copy(), name, 3, seed=1, face=INNER))
    others = [perturb(FACE, name, 3, seed=seed, face=INNER) for seed in range(2, 8)]
    differ = any(not np.array_equal(first, other) for other in others)
    assert differ == (name in BY_CHANCE)


def test_two_pictures_are_not_salted_in_the_same_places() -> None:
    """A network must not be measured on one pattern of grains, held over every face."""
    dark, grey = np.full((40, 40, 3), 90, np.uint8), np.full((40, 40, 3), 91, np.uint8)
    struck = [perturb(picture, "salt-and-pepper", 3, seed=1) != picture for picture in (dark, grey)]
    assert not np.array_equal(*struck)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("person", [3, 5])
def test_levels_go_further_and_further_from_the_picture(name: str, person: int) -> None:
    """Level by level the distance to the original rises, from none."""
    picture = portrait(person, 140)
    for seed in range(3):
        away = [
            apart(picture, perturb(picture, name, level, seed=seed, face=INNER))
            for level in range(LEVELS + 1)
        ]
        assert away[0] == 0
        assert all(low < high for low, high in pairwise(away)), (seed, away)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (2, 2), (33, 47), (141, 97)])
@pytest.mark.parametrize("fill", [None, 0, 128, 255])
def test_any_picture_keeps_its_shape_and_type(
    name: str, size: tuple[int, int], fill: int | None
) -> None:
    """One pixel, odd sides, black, grey and white: uint8 of the same shape at each level."""
    picture = grains(*size) if fill is None else np.full((*size, 3), fill, np.uint8)
    for level in range(1, LEVELS + 1):
        changed = perturb(picture, name, level, seed=2)
        assert changed.shape == picture.shape
        assert changed.dtype == np.uint8


@pytest.mark.parametrize("name", ["rotation", "defocus", "motion-blur", "low-resolution"])
def test_beyond_the_border_the_edge_is_repeated(name: str) -> None:
    """A flat picture stays as it is: no black comes in from outside."""
    flat = np.full((31, 44, 3), (10, 150, 250), np.uint8)
    for level in range(1, LEVELS + 1):
        assert np.array_equal(perturb(flat, name, level, seed=3), flat)


@pytest.mark.parametrize("name", ["brightness", "gaussian-noise", "coloured-light", "darkness"])
def test_values_do_not_wrap_round(name: str) -> None:
    """White made brighter is white, and black made darker black: no overflow of 8 bits."""
    stripes = np.repeat(np.array((0, 3, 252, 255), np.uint8), 30).reshape(8, 15, 1).repeat(3, 2)
    changed = perturb(stripes, name, LEVELS, seed=1).astype(int)
    dark, bright = stripes.mean(2) < 128, stripes.mean(2) > 128
    if name == "darkness":
        assert changed[dark].max() <= 3
    else:
        assert changed[bright].max() <= 255
        assert changed[bright].mean() > changed[dark].mean()


@pytest.mark.parametrize(("name", "level"), [("nothing", 1), ("jpeg", 6), ("jpeg", -1)])
def test_an_unknown_perturbation_or_level_is_refused(name: str, level: int) -> None:
    """One line that says what there is."""
    with pytest.raises(ConfigError, match="expected a"):
        perturb(FACE, name, level, seed=0)


@pytest.mark.parametrize(
    ("change", "amount", "formula"),
    [
        (light.brighten, 0.3, lambda value, _: value + 0.3 * 255),
        (light.darken, 0.15, lambda value, _: value * 0.15),
        (light.flatten, 0.25, lambda value, mean: mean + 0.25 * (value - mean)),
        (light.bend, 2.5, lambda value, _: 255 * (value / 255) ** 2.5),
    ],
)
def test_light_is_what_its_formula_says(change, amount, formula) -> None:
    """Value by value, in Python's own numbers."""
    picture = grains(6, 5)
    mean = sum(int(value) for value in picture.flat) / picture.size
    slow = [min(255, max(0, round(formula(int(value), mean)))) for value in picture.flat]
    assert change(shot(picture), amount).ravel().tolist() == slow


def test_side_light_falls_evenly_across_the_face() -> None:
    """From 1 at one edge of the aligned face to the factor at the other; flat beyond both."""
    white = np.full((140, 140, 3), 200, np.uint8)
    sides = set()
    for seed in range(8):
        row = light.light_from_side(shot(white, seed=seed, face=INNER), 0.3)[70, :, 0]
        sides.add(bool(row[0] > row[-1]))
        row = row if row[0] > row[-1] else row[::-1]
        for x in range(140):
            across = min(1, max(0, (x + 0.5 - 14) / 112))
            assert abs(int(row[x]) - 200 * (1 - 0.7 * across)) <= 0.5 + 1e-4
    assert sides == {True, False}


def test_coloured_light_takes_away_what_the_colour_lacks() -> None:
    """The hue is the first draw; at 0.8 a channel that the colour has none of keeps a fifth."""
    picture = grains(7, 4)
    hue = np.random.default_rng(6).random()
    for channel, part in enumerate(colorsys.hsv_to_rgb(hue, 1, 1)):
        kept = 1 - 0.8 * (1 - part)
        slow = [round(int(value) * kept) for value in picture[:, :, channel].flat]
        found = light.tint(shot(picture, seed=6), 0.8)[:, :, channel]
        assert found.ravel().tolist() == slow


@pytest.mark.parametrize("degrees", [5.0, 20.0, 45.0])
def test_rotation_takes_a_known_point_where_it_belongs(degrees: float) -> None:
    """A bright dot at (+40, 0) from the middle of the face goes round it by so many degrees."""
    for seed in range(6):
        picture = np.zeros((140, 150, 3), np.uint8)
        picture[68:71, 108:111] = 255  # its middle is 40 px to the right of (69.5, 69.5)
        face = np.array(((1.0, 0, 56 - 69.5), (0, 1.0, 56 - 69.5)))
        turned = camera.rotate(shot(picture, seed=seed, face=face), degrees)[:, :, 0].astype(float)
        y, x = np.indices(turned.shape).reshape(2, -1) @ turned.ravel() / turned.sum()
        x, y = x + 0.5 - 69.5, y + 0.5 - 69.5
        assert math.hypot(x, y) == pytest.approx(40, abs=0.3)
        assert abs(math.degrees(math.atan2(y, x))) == pytest.approx(degrees, abs=0.5)


@pytest.mark.parametrize("level", range(1, LEVELS + 1))
def test_the_exact_share_of_pixels_is_salted(level: int) -> None:
    """Half white, half black, all channels of a pixel, and those of the level below among them."""
    grey = np.full((50, 40, 3), 128, np.uint8)
    share = PERTURBATIONS["salt-and-pepper"].amounts[level - 1]
    salted = perturb(grey, "salt-and-pepper", level, seed=1)
    white, black = (salted == 255).all(axis=2), (salted == 0).all(axis=2)
    assert white.sum() == black.sum() == share * 50 * 40 / 2
    assert (salted[~(white | black)] == 128).all()
    below = perturb(grey, "salt-and-pepper", level - 1, seed=1) != 128
    assert not (below.any(axis=2) & ~(white | black)).any()


def test_noise_has_the_deviation_that_it_claims() -> None:
    """On middle grey, where next to nothing is cut off; the mean stays."""
    grey = np.full((120, 120, 3), 128, np.uint8)
    for deviation in (0.04, 0.08):
        noise = camera.add_noise(shot(grey), deviation).astype(float) - 128
        assert noise.std() == pytest.approx(255 * deviation, rel=0.02)
        assert abs(noise.mean()) < 0.5
    channels = (camera.add_noise(shot(grey), 0.08).astype(float) - 128).reshape(-1, 3)
    assert abs(np.corrcoef(channels.T)[0, 1]) < 0.05


@pytest.mark.parametrize("kernel", [disc(2.0), disc(4.5), line(9.0, 0.7), line(27.0, 2.0)])
def test_blur_is_a_weighted_mean_of_the_neighbours(kernel: np.ndarray) -> None:
    """Pixel by pixel, the edge repeated; a kernel wider than the picture too."""
    picture = grains(11, 8)
    reach = len(kernel) // 2
    wide = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), mode="edge").astype(float)
    slow = np.zeros(picture.shape)
    for y in range(11):
        for x in range(8):
            window = wide[y : y + len(kernel), x : x + len(kernel)]
            slow[y, x] = (window * kernel[:, :, None]).sum(axis=(0, 1))
    fast = camera._filtered(picture, kernel)
    assert np.abs(fast - slow).max() <= 0.5 + 1e-2


def test_a_disc_and_a_line_have_the_size_that_they_claim() -> None:
    """A disc covers about pi r^2 pixels, a line as many as it is long; both are centred."""
    for radius in (3.0, 6.5):
        assert 1 / disc(radius).max() == pytest.approx(math.pi * radius**2, rel=0.05)
    for length in (5.0, 13.0, 27.0):
        flat = line(length, 0.0)
        assert flat.sum(axis=0)[flat.sum(axis=0) > 0] == pytest.approx(1 / length)
        assert (flat.sum(axis=0) > 0).sum() == length
        assert (flat.sum(axis=1) > 1e-6).sum() == 1
    for kernel in (disc(4.5), line(13.0, 0.9)):
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        assert np.allclose(kernel, kernel[::-1, ::-1])
    assert np.array_equal(disc(0.0), [[1.0]])
    assert np.array_equal(line(1.0, 0.4), [[1.0]])


def test_blur_follows_the_face_and_not_the_picture() -> None:
    """A face twice as large is spread twice as far: a level means the same at any size."""
    dot = np.zeros((141, 141, 3), np.uint8)
    dot[70, 70] = 255
    small = camera.defocus(shot(dot, face=INNER), 3.0)
    large = camera.defocus(shot(dot, face=INNER / 2), 3.0)
    assert (large > 0).any(axis=2).sum() == pytest.approx(
        4 * (small > 0).any(axis=2).sum(), rel=0.2
    )


def test_jpeg_is_what_pillow_writes() -> None:
    """The same bytes decoded, at the quality of the level."""
    file = io.BytesIO()
    Image.fromarray(FACE).save(file, "JPEG", quality=15, subsampling=2)
    expected = np.asarray(Image.open(io.BytesIO(file.getvalue())))
    assert np.array_equal(camera.compress(shot(FACE), 15.0), expected)


def test_low_resolution_keeps_the_mean_of_each_block() -> None:
    """112 px to 16: where the enlarged picture hits a block's middle, it is the block's mean."""
    picture = grains(112, 112)
    found = camera.shrink(shot(picture), 16.0)
    for row in range(16):
        for column in range(16):
            block = picture[7 * row : 7 * row + 7, 7 * column : 7 * column + 7]
            middle = found[7 * row + 3, 7 * column + 3].astype(float)
            assert np.abs(middle - block.mean(axis=(0, 1))).max() <= 1.0
    assert np.array_equal(camera.shrink(shot(grains(9, 9)), 14.0), grains(9, 9)), "never sharper"


def covered(name: str, level: int, seed: int = 0, face: Transform = INNER) -> np.ndarray:
    """Return where a flat picture of an unlikely colour was painted over, [H, W]."""
    flat = np.full((140, 140, 3), (0, 255, 0), np.uint8)
    return (perturb(flat, name, level, seed=seed, face=face) != flat).any(axis=2)


def at(points: np.ndarray, mask: np.ndarray) -> list[bool]:
    return [bool(mask[int(y) + 14, int(x) + 14]) for x, y in points]


def test_covers_lie_where_the_face_has_what_they_cover() -> None:
    """Mask: mouth corners and the tip of the nose at last, eyes never. Glasses: eyes, nothing else.

    The hand reaches over as much of the face's width as it claims, from either side.
    """
    left, right, nose, *mouth = TEMPLATE
    for seed in range(6):
        mask = covered("mask", LEVELS, seed)
        assert at(np.array([nose, *mouth]), mask) == [True] * 3
        assert at(np.array([left, right]), mask) == [False] * 2
        assert at(np.array(mouth), covered("mask", 1, seed)) == [False] * 2
        glasses = covered("glasses", LEVELS, seed)
        assert at(np.array([left, right]), glasses) == [True] * 2
        assert at(np.array([nose, *mouth]), glasses) == [False] * 3
        assert at(np.array([left, right]), covered("glasses", 1, seed)) == [False] * 2
        for level, reach in enumerate(PERTURBATIONS["hand"].amounts, start=1):
            columns = np.flatnonzero(covered("hand", level, seed).any(axis=0))
            inner = columns.max() - 13 if columns.min() == 0 else 126 - columns.min()
            assert inner == pytest.approx(reach * PIXELS, abs=1.5)


@pytest.mark.parametrize("name", ["mask", "glasses", "hand"])
def test_a_cover_covers_all_that_the_level_below_covers(name: str) -> None:
    """So a higher level never shows what a lower one hid."""
    for seed in range(6):
        masks = [covered(name, level, seed) for level in range(1, LEVELS + 1)]
        for low, high in pairwise(masks):
            assert not (low & ~high).any()


def test_covers_follow_a_face_that_is_elsewhere() -> None:
    """Turned, moved and twice as large in the picture, a mask is too."""
    turn = math.radians(30)
    half = np.array(((math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn)))) / 2
    face = np.column_stack((half, np.array((56, 80)) - half @ (70, 70)))
    pixels = np.full((140, 140, 3), (0, 255, 0), np.uint8)
    seen = covers.wear_mask(shot(pixels, face=face), 68.0)
    mask = (seen != pixels).any(axis=2)
    chin, brow = (np.linalg.solve(half, np.array(p) - face[:, 2]) for p in ((56, 90), (56, 60)))
    assert mask[int(chin[1]), int(chin[0])]
    assert not mask[int(brow[1]), int(brow[0])]


def test_the_edge_of_a_cover_is_one_pixel_wide() -> None:
    """Of the picture, not of the template: no soft rim around a mask on a large face."""
    large = shot(FACE, face=INNER / 2)
    shape = np.array([[-0.3, -0.125, 0.0, 0.125, 0.3]], np.float32)
    assert covers._cover(large, shape).tolist() == [[0, 0.25, 0.5, 0.75, 1]]


def test_the_documented_levels_are_those_of_the_code() -> None:
    """The table of docs/robustness.md, row by row, number by number."""
    page = (Path(__file__).parents[2] / "docs" / "robustness.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \| ([-\d., ]+) \|$", page, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(EVERY)
    for name, meaning, amounts in rows:
        assert meaning == PERTURBATIONS[name].meaning
        assert tuple(map(float, amounts.split(", "))) == PERTURBATIONS[name].amounts
