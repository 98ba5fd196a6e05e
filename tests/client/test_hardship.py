"""Hardships: how far each goes, what chance decides, and that no image sees another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.client.private_parts import CONFIG, REGISTRATION
from torch import Generator, Tensor

from veilface_client import hardship
from veilface_client.augmentation import augment, draws_of
from veilface_client.hardship import HARDEST, befall
from veilface_client.perturbations.levels import PERTURBATIONS
from veilface_client.private_plan import plan_of
from veilface_common.config import AugmentationConfig
from veilface_common.preprocessing import SIDE

PIXELS = 32
KINDS = ("light", "cover", "lens", "grain")
NOTHING = AugmentationConfig(light=0, cover=0, lens=0, grain=0)
HARD = replace(NOTHING, light=1.0, cover=1.0, lens=1.0, grain=1.0)


def generator(seed: int = 1) -> Generator:
    return Generator().manual_seed(seed)


def faces(count: int = 8) -> Tensor:
    return torch.rand(count, 3, PIXELS, PIXELS, generator=generator(2)) * 0.6 + 0.2


def drawn(count: int = 8, seed: int = 1) -> Tensor:
    return torch.rand(count, hardship.DRAWS, generator=generator(seed))


def grey(value: float = 0.5) -> Tensor:
    return torch.full((3, PIXELS, PIXELS), value)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_does_something(kind: str) -> None:
    """Each alone changes every image at probability 1, and keeps values within [0, 1]."""
    found = befall(faces(), drawn(), replace(NOTHING, **{kind: 1.0}))
    assert found.shape == faces().shape
    assert 0 <= found.min() <= found.max() <= 1
    changed = (found - faces()).abs().amax((1, 2, 3))
    assert (changed > 1e-3).float().mean() > 0.7


def test_nothing_befalls_at_probability_zero() -> None:
    """With every probability 0 the images are what they were."""
    assert torch.equal(befall(faces(), drawn(), NOTHING), faces())


@pytest.mark.parametrize("kind", KINDS)
def test_the_probability_is_that_of_an_image(kind: str) -> None:
    """At probability 0.3 about three images of ten change."""
    config = replace(NOTHING, **{kind: 0.3})
    found = befall(faces(1).repeat(400, 1, 1, 1), drawn(400), config)
    touched = (found != faces(1)).flatten(1).any(1).float().mean()
    assert 0.15 < touched < 0.36


def test_an_image_is_the_same_to_the_bit_in_any_company() -> None:
    """Alone, first or last of a batch: what a person gives must not tell who came beside."""
    together = befall(faces(), drawn(), HARD)
    for number in range(8):
        alone = befall(faces()[number : number + 1], drawn()[number : number + 1], HARD)
        assert torch.equal(alone[0], together[number])
    assert torch.equal(befall(faces().flip(0), drawn().flip(0), HARD), together.flip(0))


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    """Organisations train in threads of one process and share it."""
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = befall(faces(), drawn(), HARD)
    torch.manual_seed(2)
    assert torch.equal(befall(faces(), drawn(), HARD), first)
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_recipe_without_hardships_draws_what_it_always_drew() -> None:
    """Sixteen numbers an image: the bits of earlier recipes stay."""
    assert draws_of(AugmentationConfig()) == 16
    assert draws_of(replace(NOTHING, grain=0.1)) == 16 + hardship.DRAWS


def test_augmentation_ends_with_hardships() -> None:
    """The calm part is drawn first and then befallen."""
    canvas = torch.randint(0, 256, (4, 3, 40, 40), generator=generator(3)).to(torch.uint8)
    draws = torch.rand(4, draws_of(HARD), generator=generator(4))
    calm = augment(canvas, draws[:, :16], NOTHING, PIXELS)
    assert torch.equal(augment(canvas, draws, HARD, PIXELS), befall(calm, draws[:, 16:], HARD))


def test_the_highest_two_levels_are_beyond_what_training_shows() -> None:
    """What is measured at levels 4 and 5 of each kind was not seen in training."""
    level = {name: kind.amounts[3] for name, kind in PERTURBATIONS.items()}
    assert HARDEST.gamma < level["gamma"]
    assert 1 - HARDEST.side > level["side-light"]
    assert HARDEST.tint < level["coloured-light"]
    assert 1 - HARDEST.dimming > level["darkness"]
    assert HARDEST.glare < level["brightness"]
    assert HARDEST.noise < level["gaussian-noise"]
    assert HARDEST.salt < level["salt-and-pepper"]
    assert HARDEST.defocus < level["defocus"]
    assert HARDEST.motion < level["motion-blur"]


def test_light_goes_as_far_as_stated() -> None:
    """The ends of all draws: the darkest corner and the brightest picture that grey can become."""
    most, half = 1 - 1e-6, 0.5 - 1e-6
    dark = hardship.relight(grey(0.2), [0, half, half, 0, most, 0, 0, 0.25 - 1e-6, half])
    ray = 1 - HARDEST.side * (1 - 0.5 / PIXELS)
    expected = 0.2**HARDEST.gamma * ray * (1 - HARDEST.tint) * (1 - HARDEST.dimming)
    assert float(dark.min()) == pytest.approx(expected, rel=1e-3)
    bright = hardship.relight(grey(0.2), [0, 0, most, 0, most, most, most, half, most])
    assert float(bright.max()) == pytest.approx(
        0.2 ** (1 / HARDEST.gamma) + HARDEST.glare, rel=1e-3
    )
    found = torch.stack([hardship.relight(grey(0.2), row[:9]) for row in drawn(500).tolist()])
    assert dark.min() <= found.min() <= found.max() <= bright.max()


def test_a_tint_leaves_one_colour_whole() -> None:
    """What is missing of all colours is dimness, which has its own end."""
    tinted = hardship.relight(grey(), [0, 0.9, 0.9, 0, 0.9, 0.4, 0.6, 0.9, 0.1])
    assert float(tinted[1].min()) == 0.5
    assert float(tinted[0].max()) == pytest.approx(0.5 * (1 - HARDEST.tint * 0.5))


def test_a_cover_hides_no_more_than_stated() -> None:
    """A side is covered to 0.3 of its depth, a strip is as wide; nothing is wholly hidden."""
    image = grey(0.0)
    for kind in (0.1, 0.3, 0.6, 0.9):
        for width in (0.0, 0.5, 0.999):
            covered = hardship.shape_of(image, [kind, 0.25, width, 0.5, 0.5])
            rows = covered.float().mean(1)
            assert int((rows > 0).sum()) <= PIXELS * HARDEST.widest + 1
    assert hardship.shape_of(image, [0.1, 0.25, 0.999, 0.5, 0.5]).any()


@pytest.mark.parametrize(("moved", "length"), [(0.2, HARDEST.motion), (0.8, 2 * HARDEST.defocus)])
def test_a_blur_is_as_long_as_stated(moved: float, length: float) -> None:
    """A point becomes a line, or a disc, as wide as the template's pixels say."""
    image = torch.zeros(3, SIDE, SIDE)
    image[:, SIDE // 2, SIDE // 2] = 1
    found = hardship.blur(image, [0.0, moved, 1.0, 0.0])
    assert torch.allclose(found.sum((1, 2)), torch.ones(3), atol=1e-5)
    across = int((found[0].sum(0) > 1e-6).sum())
    assert abs(across - length) <= 2


def test_noise_is_as_strong_as_stated() -> None:
    """Its deviation at the largest amount is that of the template's noise, averaged."""
    found = hardship.strew(grey().repeat(1, 4, 4), [0.0, 0.2, 1.0, 0.3, 0.4]) - 0.5
    # The picture is 128 pixels wide: a little finer than the template.
    assert float(found.std()) == pytest.approx(HARDEST.noise * 4 * PIXELS / SIDE, rel=0.02)


def test_salt_is_as_frequent_as_stated() -> None:
    """The share that is struck at the largest amount, half of it white."""
    black = hardship.strew(grey(0.0), [0.0, 0.8, 1.0, 0.3, 0.4])
    white = hardship.strew(grey(1.0), [0.0, 0.8, 1.0, 0.3, 0.4])
    assert float(black.mean()) == pytest.approx(HARDEST.salt / 2, rel=0.25)
    assert float(1 - white.mean()) == pytest.approx(HARDEST.salt / 2, rel=0.25)


def test_two_seeds_strew_other_grains() -> None:
    """Grains follow from the image's own draws, to the last bit of them."""
    bit = 2.0**-24
    first = hardship.strew(grey(), [0.0, 0.2, 1.0, 0.5, 0.5])
    assert torch.equal(first, hardship.strew(grey(), [0.0, 0.2, 1.0, 0.5, 0.5]))
    assert not torch.equal(first, hardship.strew(grey(), [0.0, 0.2, 1.0, 0.5, 0.5 + bit]))
    assert not torch.equal(first, hardship.strew(grey(), [0.0, 0.2, 1.0, 0.5 + bit, 0.5]))
    assert np.isfinite(first.numpy()).all()


def test_a_persons_views_cost_no_budget() -> None:
    """As many hard views of a person as one likes: the plan and its charge are the same."""
    plans = [plan_of(replace(CONFIG.privacy, views=views), REGISTRATION) for views in (1, 5)]
    assert plans[0] == plans[1]
    assert plans[0].event == plans[1].event
