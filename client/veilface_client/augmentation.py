"""A training photograph varied: moved, recoloured, blurred, covered; each image by its own draw.

A face is kept as a *canvas* (`images.canvas_pixels`), wider than the network looks at, so that a
shift or a rotation shows what was really there instead of a black edge. Evaluation looks at its
centre.

Stock transforms of torchvision v2 do not draw here: they draw from the global random generator,
which several organisations share when they train in threads of one process, and once per call, so
that a batch would be moved as one. Here every image has its own row of draws, from a generator that
the caller owns (`transform`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from veilface_client import hardship
from veilface_common.config import AugmentationConfig

DRAWS = 16  # uniform numbers that one image's variation needs
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, the weights of torchvision's grey
BLUR_TAPS = 5
LARGEST_ERASED_SIDE = 0.5


def centre_view(canvas: Tensor, pixels: int) -> Tensor:
    """Return what evaluation sees: uint8 [B, 3, C, C] -> float32 [B, 3, S, S] in [0, 1]."""
    first = round((canvas.shape[-1] - pixels) / 2)
    inner = canvas[..., first : first + pixels, first : first + pixels]
    return inner.to(torch.float32) / 255


def draws_of(config: AugmentationConfig) -> int:
    """Return how many uniform numbers one image needs for all that may happen to it."""
    return DRAWS + hardship.DRAWS * config.is_hard


def augment(canvas: Tensor, draws: Tensor, config: AugmentationConfig, pixels: int) -> Tensor:
    """Vary images, then let hardships befall them, each by its own row of draws [B, `draws_of`].

    uint8 [B, 3, C, C] -> float32 [B, 3, S, S] in [0, 1].
    """
    faces = vary(canvas, variation(draws[:, :DRAWS], config, pixels), pixels)
    return hardship.befall(faces, draws[:, DRAWS:], config) if config.is_hard else faces


@dataclass(frozen=True, kw_only=True)
class Variation:
    """How each image of a batch is varied; every field [B]."""

    mirror: Tensor  # 1 or -1
    zoom: Tensor  # side of the view / side of the image
    angle: Tensor  # radians
    shift_x: Tensor  # shares of the image's side
    shift_y: Tensor
    brightness: Tensor  # factors; 1 changes nothing
    contrast: Tensor
    saturation: Tensor
    blur: Tensor  # standard deviation in pixels; 0: none
    erase_x: Tensor  # centre and half sides of the covered rectangle, shares of the side
    erase_y: Tensor
    erase_width: Tensor  # 0: nothing is covered
    erase_height: Tensor
    erase_level: Tensor  # the grey that covers it


def variation(draws: Tensor, config: AugmentationConfig, pixels: int) -> Variation:
    """Return the variation that uniform draws [B, DRAWS] in [0, 1) stand for."""
    column = list(draws.unbind(1))

    def around(index: int, centre: float, spread: float) -> Tensor:
        return centre + spread * (2 * column[index] - 1)

    covered = (column[10] < config.erase).to(draws)
    return Variation(
        mirror=1 - 2 * (column[0] < 0.5 * config.flip).to(draws),
        zoom=torch.exp(around(1, 0, 1) * math.log1p(config.scale)),
        angle=around(2, 0, math.radians(config.rotation_degrees)),
        shift_x=around(3, 0, config.shift),
        shift_y=around(4, 0, config.shift),
        brightness=around(5, 1, config.brightness),
        contrast=around(6, 1, config.contrast),
        saturation=around(7, 1, config.saturation) * (column[8] >= config.grey),
        # draws below `blur` are themselves uniform in [0, blur): they also say how much
        blur=torch.where(
            column[9] < config.blur, (0.4 + column[9] / max(config.blur, 1e-9)) * pixels / 64, 0.0
        ),
        erase_x=column[11],
        erase_y=column[12],
        erase_width=covered * (0.1 + column[13] * (LARGEST_ERASED_SIDE - 0.1)) / 2,
        erase_height=covered * (0.1 + column[14] * (LARGEST_ERASED_SIDE - 0.1)) / 2,
        erase_level=column[15],
    )


def vary(canvas: Tensor, how: Variation, pixels: int) -> Tensor:
    """Apply a variation: uint8 [B, 3, C, C] -> float32 [B, 3, S, S] in [0, 1]."""
    images = _erase(_blur(_recolour(_view(canvas, how, pixels), how), how), how)
    return images.contiguous()


def _view(canvas: Tensor, how: Variation, pixels: int) -> Tensor:
    """Look at the canvas through a moved, turned, zoomed and mirrored window, in one resampling."""
    side = canvas.shape[-1]
    place = (torch.arange(pixels, device=canvas.device) + 0.5) / pixels * 2 - 1  # in [-1, 1]
    across = place * how.mirror[:, None]  # [B, S]
    cosine = (how.zoom * how.angle.cos())[:, None]
    sine = (how.zoom * how.angle.sin())[:, None]
    x = (cosine * across + 2 * how.shift_x[:, None])[:, None] - (sine * place)[:, :, None]
    y = (sine * across + 2 * how.shift_y[:, None])[:, None] + (cosine * place)[:, :, None]
    grid = torch.stack([x, y], 3).mul_(pixels / side)  # [B, S, S, 2], in half canvases
    grid.clamp_(1 / side - 1, 1 - 1 / side)  # repeat the edge, cheaper than padding_mode="border"
    return functional.grid_sample(canvas.to(torch.float32), grid, align_corners=False)


def _recolour(images: Tensor, how: Variation) -> Tensor:
    """Scale to [0, 1] and change saturation, contrast, brightness: one 3x3 matrix per image.

    Each is linear in the pixel, so their product costs one pass; torchvision's own order and
    formulas, but cut to [0, 1] once at the end.
    """
    luma = images.new_tensor(LUMA)
    keep = how.saturation[:, None, None]
    mix = keep * torch.eye(3, device=images.device) + (1 - keep) * luma.expand(3, 3)  # [B, 3, 3]
    gain = how.brightness * how.contrast
    mean = images.mean((2, 3)) @ luma / 255  # [B]
    offset = how.brightness * (1 - how.contrast) * mean
    pixels = images.flatten(2)  # [B, 3, S, S] -> [B, 3, S*S]
    mixed = torch.baddbmm(offset[:, None, None], (gain / 255)[:, None, None] * mix, pixels)
    return mixed.clamp_(0, 1).view_as(images)  # [B, 3, S*S] -> [B, 3, S, S]


def _blur(images: Tensor, how: Variation) -> Tensor:
    """Blur the chosen images, each with its own Gaussian."""
    chosen = how.blur.nonzero().flatten()
    if not len(chosen):
        return images
    taps = torch.arange(BLUR_TAPS, device=images.device) - BLUR_TAPS // 2
    kernel = torch.exp(-0.5 * (taps / how.blur[chosen, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)  # [3U, taps]
    side = images.shape[-1]
    stack = images[chosen].view(1, -1, side, side)  # [U, 3, S, S] -> [1, 3U, S, S]
    stack = functional.pad(stack, [BLUR_TAPS // 2] * 4, mode="replicate")
    stack = functional.conv2d(stack, kernel[:, None, :, None], groups=len(kernel))
    stack = functional.conv2d(stack, kernel[:, None, None, :], groups=len(kernel))
    return images.index_copy(0, chosen, stack.view(-1, 3, side, side))


def _erase(images: Tensor, how: Variation) -> Tensor:
    """Cover a rectangle of the chosen images with a flat grey (Zhong et al. 2020, section 3)."""
    side = images.shape[-1]
    place = (torch.arange(side, device=images.device) + 0.5) / side
    across = (place - how.erase_x[:, None]).abs() < how.erase_width[:, None]  # [B, S]
    down = (place - how.erase_y[:, None]).abs() < how.erase_height[:, None]
    covered = (down[:, :, None] & across[:, None, :])[:, None]  # [B, 1, S, S]
    return torch.where(covered, how.erase_level[:, None, None, None], images)
