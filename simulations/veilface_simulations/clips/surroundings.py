"""What drawn people stand before: noise with the spectrum of photographs, and faceless things.

Some of the things have the colour, the outline or the parts of a face, so that none of these alone
makes one.
"""

from __future__ import annotations

import math

import numpy as np

from veilface_client.detectors.opencv import load_opencv
from veilface_client.images import Pixels
from veilface_simulations.clips.heads import Head

_COARSE = 2  # the noise is made at half the size: what photographs have little of is added later
_SKINS = ((247, 221, 200), (231, 188, 158), (194, 147, 112), (141, 96, 66), (84, 56, 42))
_MOST_THINGS = 24


def field(height: int, width: int, draw: np.random.Generator) -> Pixels:
    """Return noise whose amplitude falls as 1/f^a, uint8 [H, W, 3], over a passage of colours.

    Photographs have a between about 0.9 and 1.3 (Field 1987, figure 8).
    """
    cv2 = load_opencv()
    rows, columns = height // _COARSE + 1, width // _COARSE + 1
    down = np.fft.fftfreq(rows)[:, None]
    across = np.fft.rfftfreq(columns)[None, :]
    power = np.hypot(down, across)
    power[0, 0] = 1.0
    amplitude = power ** -draw.uniform(0.9, 1.6)
    amplitude[0, 0] = 0.0
    white = draw.standard_normal((2, 2, *amplitude.shape), np.float32)
    waves = np.fft.irfft2((white[0] + 1j * white[1]) * amplitude, s=(rows, columns), axes=(-2, -1))
    waves = (waves / waves.std(axis=(1, 2), keepdims=True)).astype(np.float32)
    # Most surroundings are one dull colour and another near it.
    colours = draw.uniform(0.05, 0.95) + draw.normal(0, 0.2, (3, 1)) + draw.normal(0, 0.08, (3, 3))
    light, hue = waves[0][:, :, None], waves[1][:, :, None]
    share = 0.5 + 0.5 * np.tanh(draw.uniform(0.2, 2.0) * hue)
    angle = draw.uniform(0, 2 * math.pi)
    passage = (
        math.cos(angle) * np.linspace(-1, 1, columns)[None, :]
        + math.sin(angle) * np.linspace(-1, 1, rows)[:, None]
    )[:, :, None]
    picture = colours[0] * share + colours[1] * (1 - share) + 0.3 * (colours[2] - 0.5) * passage
    picture = (picture + 0.02 * 12 ** draw.random() * light).astype(np.float32)
    whole = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(255 * whole, 0, 255), np.uint8)


def scatter(picture: Pixels, heads: list[Head], draw: np.random.Generator) -> None:
    """Paint things over uint8 [H, W, 3] in place; pieces of the given heads are among them."""
    things = (_block, _round, _stripes, _polygon, _featureless, _lines)
    for _ in range(int(draw.integers(0, _MOST_THINGS + 1))):
        things[int(draw.integers(len(things)))](picture, draw)
    for head in heads:
        _shuffled(picture, head, draw)


def _colour(draw: np.random.Generator) -> tuple[int, ...]:
    if draw.random() < 0.35:
        skin = np.array(_SKINS[int(draw.integers(len(_SKINS)))])
        return tuple(np.clip(skin * draw.uniform(0.6, 1.1), 0, 255).astype(int).tolist())
    grey = draw.uniform(10, 245)
    return tuple(np.clip(grey + draw.normal(0, 45, 3), 0, 255).astype(int).tolist())


def _place(picture: Pixels, draw: np.random.Generator) -> tuple[int, int, int]:
    """Return x, y and a size."""
    height, width, _ = picture.shape
    size = 6 * (0.6 * min(height, width) / 6) ** draw.random()
    return int(draw.integers(width)), int(draw.integers(height)), max(3, int(size))


def _block(picture: Pixels, draw: np.random.Generator) -> None:
    cv2 = load_opencv()
    x, y, size = _place(picture, draw)
    sides = (size * draw.uniform(0.4, 2.5), size * draw.uniform(0.4, 2.5))
    corners = cv2.boxPoints(((x, y), sides, draw.normal(0, 12)))
    cv2.fillPoly(picture, [corners.astype(np.int32)], _colour(draw), cv2.LINE_AA)


def _round(picture: Pixels, draw: np.random.Generator) -> None:
    cv2 = load_opencv()
    x, y, size = _place(picture, draw)
    axes = (max(2, int(size * draw.uniform(0.5, 1.2) / 2)), max(2, size // 2))
    cv2.ellipse(picture, (x, y), axes, draw.uniform(0, 180), 0, 360, _colour(draw), -1, cv2.LINE_AA)


def _stripes(picture: Pixels, draw: np.random.Generator) -> None:
    """Paint blinds, windows, shelves or lettering: dark and light in a grid."""
    x, y, size = _place(picture, draw)
    part = picture[y : y + size, x : x + int(size * draw.uniform(0.5, 2.5))]
    rows, columns = np.indices(part.shape[:2])
    step = draw.integers(2, 12, 2)
    cells = (rows // step[0]) % 2 == 0
    if draw.random() < 0.6:
        cells = cells & ((columns // step[1]) % 2 == 0)
    part[cells] = _colour(draw)


def _polygon(picture: Pixels, draw: np.random.Generator) -> None:
    cv2 = load_opencv()
    x, y, size = _place(picture, draw)
    corners = np.array((x, y)) + draw.normal(0, size / 2, (int(draw.integers(3, 7)), 2))
    cv2.fillPoly(picture, [corners.astype(np.int32)], _colour(draw), cv2.LINE_AA)


def _lines(picture: Pixels, draw: np.random.Generator) -> None:
    cv2 = load_opencv()
    x, y, size = _place(picture, draw)
    corners = np.array((x, y)) + draw.normal(0, size, (int(draw.integers(2, 6)), 2)).cumsum(axis=0)
    thick = int(draw.integers(1, 5))
    line = [corners.astype(np.int32)]
    cv2.polylines(picture, line, isClosed=False, color=_colour(draw), thickness=thick)


def _featureless(picture: Pixels, draw: np.random.Generator) -> None:
    """Paint a ball of skin under light, some with hair or with spots: a head without a face."""
    x, y, size = _place(picture, draw)
    height, width, _ = picture.shape
    high, wide = size / 2, size / 2 * draw.uniform(0.7, 1.0)
    rows = slice(max(0, int(y - high)), min(height, int(y + high) + 1))
    columns = slice(max(0, int(x - wide)), min(width, int(x + wide) + 1))
    v = ((np.arange(rows.start, rows.stop) - y) / high)[:, None].astype(np.float32)
    u = ((np.arange(columns.start, columns.stop) - x) / wide)[None, :].astype(np.float32)
    depth = np.sqrt(np.maximum(1 - u * u - v * v, 0))
    light = draw.normal(0, 0.5, 2)
    shade = np.clip(0.35 + 0.65 * (depth + light[0] * u + light[1] * v), 0.1, 1.2)[:, :, None]
    colour = np.broadcast_to(np.array(_colour(draw), np.float32), (*depth.shape, 3)).copy()
    if draw.random() < 0.5:
        colour[np.broadcast_to(v < draw.uniform(-0.8, 1.0), depth.shape)] = _colour(draw)
    cover = np.clip(depth * 6, 0, 1)[:, :, None]
    part = picture[rows, columns]
    part[:] = np.clip(part + (colour * shade - part) * cover, 0, 255).astype(np.uint8)


def _shuffled(picture: Pixels, head: Head, draw: np.random.Generator) -> None:
    """Paint a head whose pieces have changed places: all that a face has, except the order."""
    cv2 = load_opencv()
    x, y, size = _place(picture, draw)
    size = max(size, 12) // 3 * 3
    small = cv2.resize(head.colours, (size, size), interpolation=cv2.INTER_AREA)
    piece = size // 3
    cells = small.reshape(3, piece, 3, piece, 4).swapaxes(1, 2).reshape(9, piece, piece, 4)
    order = draw.permutation(9)
    if (order == np.arange(9)).sum() > 2:
        order = np.roll(order, 1)
    mixed = cells[order].reshape(3, 3, piece, piece, 4).swapaxes(1, 2).reshape(size, size, 4)
    part = picture[y : y + size, x : x + size]
    layer = mixed[: part.shape[0], : part.shape[1]].astype(np.float32)
    part[:] = (part + (layer[:, :, :3] - part) * (layer[:, :, 3:] / 255)).astype(np.uint8)
