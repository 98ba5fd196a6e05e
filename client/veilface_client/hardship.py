"""What befalls a photograph that is taken badly: odd light, something in the way, blur, grain.

A network that trained on it sees through it; `docs/robustness.md` has what that is worth. Each of
the four befalls an image by the image's own draws, with the probability that the settings give,
and goes as far as `HARDEST` says: short of the two highest levels at which robustness is measured,
and never as a mask, glasses, a hand, a JPEG or fewer pixels. Those then show what was learned, not
what was seen before.

Lengths are in pixels of the 112 px template, as those of `perturbations` are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from veilface_common.config import AugmentationConfig
from veilface_common.preprocessing import SIDE

COVERS = 3  # that lie on an image at most
_OF_COVER = 10
_OF_EACH = (9, 1 + COVERS * _OF_COVER, 4, 5)  # light, cover, lens, grain
DRAWS = sum(_OF_EACH)  # uniform numbers that one image needs
_SEED_BITS = 24  # that a draw in float32 has


@dataclass(frozen=True, kw_only=True)
class Hardest:
    """How far each hardship goes; amounts are drawn evenly from nothing to here."""

    gamma: float = 3.0  # values in [0, 1] are raised to a power between 1 / this and this
    side: float = 0.9  # share of the light that is missing at the dark side, wherever that is
    tint: float = 0.75  # share of the light that is missing in a colour
    dimming: float = 0.78  # share of the light that is missing everywhere
    glare: float = 0.35  # share of white that is added everywhere
    thinnest: float = 0.02  # width of what covers, as a share of the side
    widest: float = 0.3
    defocus: float = 4.3  # radius of a disc
    motion: float = 18.0  # length of a line
    noise: float = 0.17  # standard deviation, as a share of white
    salt: float = 0.09  # share of the pixels that become white or black


HARDEST = Hardest()
Change = Callable[[Tensor, list[float]], Tensor]  # of one image [3, S, S], by its own draws


def befall(images: Tensor, draws: Tensor, config: AugmentationConfig) -> Tensor:
    """Return what becomes of images [B, 3, S, S] in [0, 1] by their draws [B, DRAWS].

    Image by image: to the bit, an image comes out the same in any company.
    """
    changes = (relight, cover, blur, strew)
    probabilities = (config.light, config.cover, config.lens, config.grain)
    parts = torch.split(draws, list(_OF_EACH), 1)
    for change, probability, part in zip(changes, probabilities, parts, strict=True):
        images = _each(change, images, part.tolist(), probability)
    return images


def _each(change: Change, images: Tensor, draws: list[list[float]], probability: float) -> Tensor:
    """Change the images whose first draw is below the probability; divided by it, it is a draw."""
    chosen = [number for number, (first, *_) in enumerate(draws) if first < probability]
    if not chosen:
        return images
    changed = [
        change(images[number], [draws[number][0] / probability, *draws[number][1:]])
        for number in chosen
    ]
    rows = torch.tensor(chosen, device=images.device)
    return images.index_copy(0, rows, torch.stack(changed))


def relight(image: Tensor, draws: list[float]) -> Tensor:
    """Bend, shade, tint, and dim or flood; each in half of the images that come here."""
    bend, shade, angle, *tint, level, tinted = draws[1:]
    if bend < 0.5:
        image = image**HARDEST.gamma ** (4 * bend - 1)
    if shade < 0.5:
        across = (_towards(2 * math.pi * angle, image) + 0.5).clamp(0, 1)
        image = image * (1 - 2 * shade * HARDEST.side * across)
    if tinted < 0.5:
        missing = image.new_tensor(tint) - min(tint)  # one colour is all there: darkness is below
        image = image * (1 - HARDEST.tint * missing)[:, None, None]
    if level < 0.25:
        image = image * (1 - HARDEST.dimming * 4 * level)
    elif level < 0.5:
        image = image + HARDEST.glare * (4 * level - 1)
    return image.clamp(0, 1)


def cover(image: Tensor, draws: list[float]) -> Tensor:
    """Lay up to `COVERS` things of one colour over the image, each more or less opaque."""
    count, *rest = draws
    for first in range(0, (1 + int(COVERS * count)) * _OF_COVER, _OF_COVER):
        *shape, opacity, grey, red, green, blue = rest[first : first + _OF_COVER]
        hue = image.new_tensor((red, green, blue))
        colour = (grey + 0.4 * (hue - 0.5)).clamp(0, 1)[:, None, None]
        covered = shape_of(image, shape) * min(1.0, 2 * opacity)
        image = image + covered * (colour - image)
    return image


def shape_of(image: Tensor, draws: list[float]) -> Tensor:
    """Return what is covered, [S, S]: a side, a straight strip, a disc or a ring, at any angle."""
    kind, angle, width, x, y = draws
    along = _towards(2 * math.pi * angle, image)
    # As many thin ones as thick ones: a twig, a strap, an arm.
    thick = HARDEST.thinnest * (HARDEST.widest / HARDEST.thinnest) ** width
    if kind < 0.25:
        return along >= along.max() - HARDEST.widest * width
    if kind < 0.5:
        return _near(along - (x - 0.5), thick / 2)
    across, down = _towards(0, image) - (x - 0.5), _towards(math.pi / 2, image) - (y - 0.5)
    away = torch.hypot(across, down)
    radius = HARDEST.widest * (0.25 + width) / 2.5
    if kind < 0.75:
        return _near(away, radius)
    return _near(away - radius, HARDEST.thinnest * (0.5 + angle))


def _near(away: Tensor, reach: float) -> Tensor:
    return away.abs() < reach


def blur(image: Tensor, draws: list[float]) -> Tensor:
    """Spread each point over a disc, as out of focus, or along a line, as moved."""
    _, moved, amount, angle = draws
    scale = image.shape[-1] / SIDE
    half = max(0.0, HARDEST.motion * scale * amount - 1) / 2 if moved < 0.5 else 0.0
    radius = 0.5 if moved < 0.5 else HARDEST.defocus * scale * amount
    reach = math.ceil(max(half, radius))
    x = torch.arange(-reach, reach + 1, device=image.device)
    y = x[:, None]
    cosine, sine = math.cos(math.pi * angle), math.sin(math.pi * angle)
    along = (x * cosine + y * sine).clamp(-half, half)
    away = torch.hypot(x - along * cosine, y - along * sine)
    kernel = (radius + 0.5 - away).clamp(0, 1)  # [K, K]: its edge is one pixel wide
    kernel = (kernel / kernel.sum())[None, None]
    padded = functional.pad(image[:, None], [reach] * 4, mode="replicate")
    return functional.conv2d(padded, kernel)[:, 0]


def strew(image: Tensor, draws: list[float]) -> Tensor:
    """Strew normal noise over each value, or white and black over pixels of half the size."""
    _, salted, amount, *seeds = draws
    side = image.shape[-1]
    first, second = (int(draw * 2**_SEED_BITS) for draw in seeds)
    generator = Generator().manual_seed(first << _SEED_BITS | second)
    if salted < 0.5:
        # A pixel of the network is several of the template, whose noise is averaged.
        noise = torch.randn(image.shape, generator=generator).to(image.device)
        return (image + HARDEST.noise * amount * side / SIDE * noise).clamp(0, 1)
    drawn = torch.rand(1, 2 * side, 2 * side, generator=generator).to(image.device)
    share = HARDEST.salt * amount
    struck = functional.avg_pool2d((drawn < share).to(image), 2)  # [1, S, S]
    white = functional.avg_pool2d((drawn < share / 2).to(image), 2)
    return image * (1 - struck) + white


def _towards(angle: float, image: Tensor) -> Tensor:
    """Return how far each pixel lies in a direction, [S, S]: 0 in the middle, the side is 1."""
    side = image.shape[-1]
    place = (torch.arange(side, device=image.device) + 0.5) / side - 0.5
    return place * math.cos(angle) + place[:, None] * math.sin(angle)
