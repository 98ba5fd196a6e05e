"""Light: too much or too little, from one side, in one colour. Values are those of the file, 0-255.

Each takes a shot and an amount, and returns pixels of the same shape; `levels` says what amounts
there are.
"""

from __future__ import annotations

import colorsys

import numpy as np

from veilface_client.alignment import PIXELS
from veilface_client.images import Pixels
from veilface_client.perturbations.shot import Shot, rounded


def brighten(shot: Shot, share: float) -> Pixels:
    """Add a share of 255 to every value."""
    return rounded(shot.pixels + 255 * share)


def darken(shot: Shot, factor: float) -> Pixels:
    """Multiply every value, as a shorter exposure does; what is rounded away is lost."""
    return rounded(shot.pixels * factor)


def flatten(shot: Shot, factor: float) -> Pixels:
    """Bring every value nearer to the mean of the picture."""
    mean = shot.pixels.mean()
    return rounded(mean + factor * (shot.pixels - mean))


def bend(shot: Shot, gamma: float) -> Pixels:
    """Raise values in [0, 1] to a power: middle tones become dark, black and white stay."""
    table = rounded(255 * (np.arange(256) / 255) ** gamma)
    return table[shot.pixels]


def light_from_side(shot: Shot, factor: float) -> Pixels:
    """Darken across the face: not at all on one side, to `factor` on the other; sides are drawn."""
    u, _ = shot.places()
    across = np.clip(u / PIXELS, 0, 1)
    if shot.draw.random() < 0.5:
        across = 1 - across
    return rounded(shot.pixels * (1 + (factor - 1) * across)[:, :, None])


def tint(shot: Shot, share: float) -> Pixels:
    """Take away so much of what a pure colour, whose hue is drawn, does not shine."""
    colour = np.array(colorsys.hsv_to_rgb(shot.draw.random(), 1, 1))
    return rounded(shot.pixels * (1 - share * (1 - colour)))
