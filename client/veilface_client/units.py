"""The units whose data private training hides, and the coins by which a step takes them.

What a step does with one unit follows from (secret, step, the unit's name): whoever comes or goes
beside it changes nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from veilface_client.augmentation import augment, draws_of
from veilface_client.data import Faces
from veilface_client.training import Canvases, load_canvases
from veilface_common.budget.events import Unit
from veilface_common.config import RunConfig
from veilface_common.errors import DataError

IMAGES_AT_ONCE = 32  # in a pass, as in ordinary training
UNITS_AT_ONCE = 24  # whose gradients are in memory together
_COIN_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class Units:
    """Whose gradients are clipped: unit i is called `names[i]` and owns the faces `rows[i]`.

    A name says which coins are a unit's own; it must not change when others come or go.
    """

    canvases: Canvases  # uint8 [N, 3, C, C]
    names: Sequence[bytes]
    rows: Sequence[NDArray[np.int64]]


def units_of(unit: Unit, faces: Faces) -> Units:
    """Return the units of an organisation's faces: its people, or its photographs.

    Raises:
        DataError: two photographs of a person have one name: they would share their coins.
    """
    if unit == "image":
        rows = [np.array([row]) for row in range(len(faces))]
        owners = [faces.person_names[person] for person in faces.people]
        # Some sources name photographs within a person, others within the set.
        names = [
            f"{owner}\0{photo}".encode()
            for owner, photo in zip(owners, faces.photo_names, strict=True)
        ]
        if len(set(names)) < len(names):
            raise DataError("expected photographs with names of their own, got one name twice")
        return Units(canvases=faces, names=names, rows=rows)
    order = np.argsort(faces.people, kind="stable")
    parts = np.split(order, np.cumsum(faces.photographs_per_person())[:-1])
    names = [name.encode() for name in faces.person_names]
    return Units(canvases=faces, names=names, rows=parts)


class Coins:
    """Secret draws: one stream for each (step, unit), which no other unit can move."""

    def __init__(self, secret: bytes) -> None:
        """Take 32 secret bytes, new for each round: who knows them knows who is in which step."""
        self._secret = secret

    def takes(self, step: int, unit: bytes, rate: float) -> bool:
        """Return whether a step takes a unit: true with probability `rate`, to 2^-64."""
        return self._draw(b"sample", step, unit) < rate * 2.0 ** (8 * _COIN_BYTES)

    def generator(self, step: int, unit: bytes) -> Generator:
        """Return the generator of what happens to a unit's photographs in a step."""
        return Generator().manual_seed(self._draw(b"augment", step, unit) >> 1)

    def _draw(self, purpose: bytes, step: int, unit: bytes) -> int:
        text = step.to_bytes(8, "big") + unit
        digest = hashlib.blake2b(text, digest_size=_COIN_BYTES, key=self._secret, person=purpose)
        return int.from_bytes(digest.digest(), "big")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a step sees of some units, of each as many photographs."""

    names: Sequence[bytes]
    faces: Tensor  # [units, photographs, views, 3, S, S] in [0, 1]


class Views:
    """Photographs of units as a step sees them: chosen and augmented by each unit's own coins."""

    def __init__(self, units: Units, config: RunConfig, coins: Coins, device: torch.device) -> None:
        self._units, self._config, self._coins, self._device = units, config, coins, device

    def chunks(self, sampled: Sequence[int]) -> list[list[int]]:
        """Return the units in parts that show equally many photographs and are taken at once.

        One empty part where nobody was taken.
        """
        alike: dict[tuple[int, int], list[int]] = {}
        for unit in sampled:
            alike.setdefault(self._shape(unit), []).append(unit)
        parts: list[list[int]] = []
        for shape, members in sorted(alike.items()):
            size = min(UNITS_AT_ONCE, max(1, IMAGES_AT_ONCE // math.prod(shape)))
            parts += [members[first : first + size] for first in range(0, len(members), size)]
        return parts or [[]]

    def of(self, members: Sequence[int], step: int) -> Seen:
        """Return what `step` sees of units of one part: at most k photographs of each."""
        config, pixels = self._config.augmentation, self._config.model.pixels
        photographs, views = self._shape(members[0])
        names = [self._units.names[unit] for unit in members]
        chosen, draws = [], []
        for unit, name in zip(members, names, strict=True):
            generator = self._coins.generator(step, name)
            rows = self._units.rows[unit]
            order = torch.randperm(len(rows), generator=generator).numpy()
            chosen.append(rows[order[:photographs]])
            draws.append(torch.rand(photographs * views, draws_of(config), generator=generator))
        rows = np.repeat(np.concatenate(chosen), views)
        canvases = load_canvases(self._units.canvases, rows, self._device)
        faces = augment(canvases, torch.cat(draws).to(self._device), config, pixels)
        shape = (len(members), photographs, views, *faces.shape[1:])
        return Seen(names=names, faces=faces.view(shape))

    def _shape(self, unit: int) -> tuple[int, int]:
        """Return how many photographs of a unit a step sees, and how many views of each.

        Where a photograph is told from the others of its unit, a single one gets a second view.
        """
        private = self._config.privacy
        photographs = min(private.images_per_unit, len(self._units.rows[unit]))
        lonely = photographs == 1 and private.head == "leave-one-out"
        return photographs, max(private.views, 2 if lonely else 1)
