"""Every source that the client room knows, and one more: people who are drawn.

drawn:PEOPLExPHOTOS     such as drawn:240x12; the people follow from the seed
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from veilface_client.images import CANVAS, Crop, Pixels
from veilface_client.sources import Photograph, Source, open_source
from veilface_common.errors import ConfigError
from veilface_simulations import drawn, features, portrait, sitter, surface

Purpose = Literal["train", "evaluate", "public"]
KINDS_HELP = (
    "drawn:PEOPLExPHOTOS, folder:PATH, lfw:PATH, orl:PATH, celeba:PATH, vggface2:PATH, ytf:PATH, "
    "casia:PATH or ms1m:PATH"
)
_PROGRAM = (drawn, features, portrait, sitter, surface)  # all that decides how a person looks
_DRAWN = re.compile(r"(\d{1,7})x(\d{1,5})")
# Drawn people to train on, to evaluate on and to train on in public: seeds that never meet.
_STREAM: dict[Purpose, int] = {"train": 0, "evaluate": 1, "public": 2**33}


@dataclass(frozen=True, kw_only=True)
class DrawnSource:
    """People who do not exist: a person follows from (seed, number), a photograph too."""

    name: str
    people: int
    photos: int
    seed: int
    pixels: int
    warnings: tuple[str, ...] = ()
    crop: Crop = CANVAS

    @property
    def fingerprint(self) -> str:
        """Hex digest of the numbers and of the program that draws."""
        program = b"".join(Path(str(m.__file__)).read_bytes() for m in _PROGRAM)
        text = f"drawn {self.people} {self.photos} {self.seed} {self.pixels}"
        return hashlib.sha256(program + text.encode()).hexdigest()

    def photographs(self) -> Iterator[Photograph]:
        """Give every photograph, by person and number."""
        for person in range(self.people):
            for photo in range(self.photos):
                yield Photograph(
                    person=f"drawn-{self.seed}-{person:06d}",
                    name=f"photo-{photo:04d}",
                    load=partial(self._draw, person, photo),
                )

    def _draw(self, person: int, photo: int) -> Pixels:
        """Draw one photograph: uint8 [P, P, 3]."""
        picture = drawn.photograph(self.seed, person, photo, self.pixels)
        return np.ascontiguousarray(picture.transpose(1, 2, 0))


def world(seed: int, purpose: Purpose) -> int:
    """Return the seed of the people who are drawn for a purpose."""
    return 2 * seed + _STREAM[purpose]


def open_any(argument: str, *, seed: int, purpose: Purpose, pixels: int) -> Source:
    """Return the source that the argument names; `pixels` is the canvas that is drawn.

    Raises:
        ConfigError: the kind is unknown, or the numbers of a drawn one cannot be read.
        DataError: the folder cannot be used.
    """
    kind, _, where = argument.partition(":")
    if kind != "drawn":
        return open_source(argument)
    match = _DRAWN.fullmatch(where)
    if match is None or 0 in (people_photos := tuple(map(int, match.groups()))):
        raise ConfigError(
            f"expected drawn:PEOPLExPHOTOS, got {argument!r}", hint="such as drawn:240x12"
        )
    return DrawnSource(
        name=argument,
        people=people_photos[0],
        photos=people_photos[1],
        seed=world(seed, purpose),
        pixels=pixels,
    )
