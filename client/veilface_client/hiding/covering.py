"""What is put in the place of a head: a few coarse colours, or a drawn face.

What survives of a head that is pixelated is `CELLS` colours across, with secret noise on each. That
is so for `blur` too, which shows the same colours without edges: a blur that keeps more can be
undone, and whoever hides a gallery alike can compare (Newton et al. 2005; docs/hiding.md).
`drawn` keeps nothing at all.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np

from veilface_client.detectors.opencv import load_opencv
from veilface_client.hiding.regions import Place
from veilface_client.images import Pixels

How = Literal["pixelate", "blur", "drawn"]
HOWS: tuple[How, ...] = get_args(How)
CELLS = (4, 2, 1)  # across a head: at first, and each time that a face is still found there
NOISE = 64.0  # standard deviation of what is added to each colour of each cell, of 255

_DRAWN_SIZE = (160, 210)  # width and height; a head is about so much higher than wide
_PAPER, _SKIN, _LINE = (120, 130, 140), (205, 195, 185), (70, 70, 80)  # nobody's colours


@dataclass(frozen=True, kw_only=True, eq=False)
class Cover:
    """A picture that is stretched over the place of a head."""

    pixels: Pixels  # [rows, columns, 3]: coarse colours, or a drawn face
    how: How
    weaker: int = 0  # how often it was not enough

    def put_on(self, picture: Pixels, place: Place) -> None:
        """Overwrite the place in uint8 [H, W, 3]."""
        cv2 = load_opencv()
        kinds = {
            "pixelate": cv2.INTER_NEAREST,
            "blur": cv2.INTER_CUBIC,
            "drawn": cv2.INTER_LINEAR,
        }
        size = (place.width, place.height)
        stretched = cv2.resize(self.pixels, size, interpolation=kinds[self.how])
        picture[place.top : place.bottom, place.left : place.right] = stretched


def cover_for(
    picture: Pixels, place: Place, how: How, secret: random.Random, weaker: int = 0
) -> Cover | None:
    """Return what hides the place of a head in uint8 [H, W, 3].

    Args:
        picture: with the head in it.
        place: of the head.
        how: what is shown instead.
        secret: makes the noise; whoever could make it again could take it away.
        weaker: how many covers before this one were not enough.

    Returns:
        None if nothing is left that would hide more.
    """
    if how == "drawn":
        return None if weaker else Cover(pixels=drawn_face(), how=how)
    if weaker >= len(CELLS):
        return None
    colours = coarse(picture, place, CELLS[weaker], secret)
    return Cover(pixels=colours, how=how, weaker=weaker)


def coarse(
    picture: Pixels, place: Place, cells: int, secret: random.Random, noise: float = NOISE
) -> Pixels:
    """Return the mean colours of a place, `cells` across and as square as can be, with noise."""
    cv2 = load_opencv()
    rows = max(1, round(cells * place.height / place.width))
    part = picture[place.top : place.bottom, place.left : place.right]
    means = cv2.resize(part, (cells, rows), interpolation=cv2.INTER_AREA)
    added = [secret.gauss(0.0, noise) for _ in range(means.size)]
    noisy = np.rint(means + np.reshape(added, means.shape))
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


@cache
def drawn_face() -> Pixels:
    """Return a drawn face that is nobody's, uint8 [210, 160, 3]."""
    cv2 = load_opencv()
    width, height = _DRAWN_SIZE
    paper: Pixels = np.full((height, width, 3), _PAPER, np.uint8)
    cv2.ellipse(paper, (80, 112), (58, 82), 0, 0, 360, _SKIN, -1, cv2.LINE_AA)
    for x in (57, 103):
        cv2.ellipse(paper, (x, 98), (10, 7), 0, 0, 360, (240, 240, 240), -1, cv2.LINE_AA)
        cv2.circle(paper, (x, 98), 5, _LINE, -1, cv2.LINE_AA)
        cv2.ellipse(paper, (x, 84), (14, 5), 0, 180, 360, _LINE, 2, cv2.LINE_AA)
    cv2.line(paper, (80, 104), (76, 126), _LINE, 2, cv2.LINE_AA)
    cv2.line(paper, (76, 126), (84, 127), _LINE, 2, cv2.LINE_AA)
    cv2.ellipse(paper, (80, 148), (20, 8), 0, 0, 180, _LINE, 2, cv2.LINE_AA)
    paper.setflags(write=False)
    return paper
