"""A contact sheet: frames of tracks, and under each a bar of how much it counts.

A bar ends at the line where its frame counts as much as on average, and at most at twice that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veilface_client.alignment import PIXELS
from veilface_client.images import CANVAS, Pixels
from veilface_simulations import drawn
from veilface_simulations.robustness.scenes import Cropped
from veilface_simulations.tracking.videos import FRAMES, Video

_BAR, _GAP = 40, 4
_PAPER, _INK, _GOOD, _SPOILT = 255, 150, (64, 120, 90), (180, 70, 60)
_DRAWN_SEED, _DRAWN_PEOPLE = 0, 6


def sheet(videos: Sequence[Video], weights: Sequence[NDArray[np.float32]], eye: Cropped) -> Pixels:
    """Return the tracks below each other: uint8 [H, W, 3]. A red bar is that of a spoilt frame."""
    rows = [_row(video, own, eye) for video, own in zip(videos, weights, strict=True)]
    width = max(row.shape[1] for row in rows)
    padded = [
        np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=_PAPER)
        for row in rows
    ]
    return np.concatenate(padded)


def drawn_videos() -> tuple[Video, ...]:
    """Return tracks of people who do not exist, for a page that is passed on."""
    eye = Cropped(CANVAS)
    found = []
    for person in range(_DRAWN_PEOPLE):
        pictures = [
            drawn.photograph(_DRAWN_SEED, person, photo, 140).transpose(1, 2, 0)
            for photo in range(FRAMES)
        ]
        found.append(
            Video(
                person=f"drawn-{person}",
                name="still",
                frames=tuple(eye.scene(np.ascontiguousarray(picture)) for picture in pictures),
                spoilt=(False,) * FRAMES,
            )
        )
    return tuple(found)


def _row(video: Video, weights: NDArray[np.float32], eye: Cropped) -> Pixels:
    cells = []
    for frame, weight, spoilt in zip(video.frames, weights, video.spoilt, strict=True):
        bar = np.full((_BAR, PIXELS, 3), _PAPER, np.uint8)
        even = (_BAR - 6) // 2
        height = round(even * min(2.0, float(weight) * len(weights)))
        bar[_BAR - 3 - height : _BAR - 3, PIXELS // 4 : -PIXELS // 4] = _SPOILT if spoilt else _GOOD
        bar[_BAR - 3 - even] = _INK  # where every bar would end if all counted alike
        cells.append(np.concatenate((eye.align(frame.pixels), bar)))
        cells.append(np.full((PIXELS + _BAR, _GAP, 3), _PAPER, np.uint8))
    return np.concatenate(cells, axis=1)
