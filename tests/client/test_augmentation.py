"""Augmentation: nothing at strength zero, one draw per image, its own generator."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional

from veilface_client.augmentation import (
    DRAWS,
    Variation,
    centre_view,
    variation,
    vary,
)
from veilface_client.images import canvas_pixels
from veilface_client.transform import Augmentation
from veilface_common.config import UNVARIED, AugmentationConfig

PIXELS = 32


def generator(seed: int = 1) -> Generator:
    return Generator().manual_seed(seed)


def canvases(count: int = 6) -> Tensor:
    side = canvas_pixels(PIXELS)
    coarse = torch.randint(0, 256, (count, 3, 5, 5), generator=generator(2)).to(torch.uint8)
    return functional.resize(coarse, [side, side])


def varied(config: AugmentationConfig, seed: int = 1, count: int = 6) -> Tensor:
    faces: Tensor = Augmentation(config, PIXELS, generator(seed))(canvases(count))
    return faces


def with_draws(config: AugmentationConfig, **columns: float) -> Variation:
    draws = torch.full((6, DRAWS), 0.5)
    for column, value in columns.items():
        draws[:, int(column.removeprefix("column"))] = value
    return variation(draws, config, PIXELS)


def test_zero_strengths_are_the_centre_view() -> None:
    """With every strength 0 training sees what evaluation sees."""
    assert torch.allclose(varied(UNVARIED), centre_view(canvases(), PIXELS), atol=1e-4)


def test_centre_view_is_the_middle_of_the_canvas() -> None:
    """The view is the centre square of the canvas, divided by 255."""
    faces, border = canvases(), (canvas_pixels(PIXELS) - PIXELS) // 2
    inner = faces[:, :, border:-border, border:-border]
    assert torch.equal(centre_view(faces, PIXELS), inner.to(torch.float32) / 255)


@pytest.mark.parametrize(
    "strength",
    [
        {"flip": True},
        {"shift": 0.1},
        {"scale": 0.2},
        {"rotation_degrees": 10.0},
        {"brightness": 0.3},
        {"contrast": 0.3},
        {"saturation": 0.5},
        {"grey": 1.0},
        {"blur": 1.0},
        {"erase": 1.0},
    ],
    ids=lambda strength: next(iter(strength)),
)
def test_every_strength_does_something(strength: dict[str, float]) -> None:
    """Each setting alone changes images, keeps them finite and within [0, 1]."""
    faces = varied(replace(UNVARIED, **strength))
    assert faces.dtype == torch.float32
    assert faces.shape == (6, 3, PIXELS, PIXELS)
    assert 0 <= faces.min() <= faces.max() <= 1
    assert (faces - varied(UNVARIED)).abs().max() > 0.02


def test_a_mirrored_face_is_the_flipped_centre_view() -> None:
    """A draw below one half mirrors, and mirrors exactly."""
    config = replace(UNVARIED, flip=True)
    faces = vary(canvases(), with_draws(config, column0=0.1), PIXELS)
    assert torch.allclose(faces, centre_view(canvases(), PIXELS).flip(3), atol=1e-4)


def test_a_shift_shows_what_was_really_there() -> None:
    """A shift by an eighth of the side shows the canvas's own edge, not black, not repeated."""
    config = replace(UNVARIED, shift=0.125)
    faces = vary(canvases(), with_draws(config, column3=1.0), PIXELS)  # to the right by 4 of 32
    border = (canvas_pixels(PIXELS) - PIXELS) // 2
    expected = canvases()[:, :, border:-border, 2 * border :].to(torch.float32) / 255
    assert torch.allclose(faces, expected, atol=1e-4)


def test_colour_follows_torchvision() -> None:
    """Saturation, contrast, brightness by torchvision's formulas, where nothing is cut off."""
    config = replace(UNVARIED, brightness=0.2, contrast=0.2, saturation=0.2)
    faces = centre_view(canvases(), PIXELS) * 0.4 + 0.2
    dim = (canvases().to(torch.float32) * 0.4 + 0.2 * 255).round().to(torch.uint8)
    how = with_draws(config, column5=1.0, column6=0.0, column7=1.0)  # 1.2, 0.8, 1.2
    expected = functional.adjust_saturation(faces, 1.2)
    expected = functional.adjust_contrast(expected, 0.8)
    expected = functional.adjust_brightness(expected, 1.2)
    assert torch.allclose(vary(dim, how, PIXELS), expected, atol=0.01)


def test_blur_follows_torchvision() -> None:
    """The chosen images are blurred by a Gaussian; torchvision's own is the oracle."""
    how = with_draws(replace(UNVARIED, blur=1.0), column9=0.9)
    faces = vary(canvases(), how, PIXELS)
    plain = centre_view(canvases(), PIXELS)
    expected = functional.gaussian_blur(plain, [5, 5], [float(how.blur[0])] * 2)
    inner = (..., slice(2, -2), slice(2, -2))  # torchvision mirrors the edge, ours repeats it
    assert torch.allclose(faces[inner], expected[inner], atol=1e-4)


def test_the_same_seed_gives_the_same_bits() -> None:
    """Seeds decide; the global generator is neither read nor moved."""
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = varied(AugmentationConfig())
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, varied(AugmentationConfig()))
    assert not torch.equal(first, varied(AugmentationConfig(), seed=2))


def test_every_image_has_its_own_draw() -> None:
    """The same face twice in a batch comes out twice different."""
    faces = canvases(1).repeat(2, 1, 1, 1)
    first, second = Augmentation(AugmentationConfig(), PIXELS, generator())(faces)
    assert not torch.allclose(first, second, atol=0.02)


def test_an_image_does_not_depend_on_those_beside_it() -> None:
    """The first two of six come out as they do in a batch of two: private units are independent."""
    config = replace(AugmentationConfig(), blur=0.5, erase=0.5, grey=0.5)
    assert torch.allclose(varied(config)[:2], varied(config, count=2), atol=1e-6)
