"""Drawn faces: endless people from a seed, none of them real.

A photograph is reproducible from (seed, person, photo) alone, whatever was drawn before it. What is
drawn is a canvas: the tight face region is its centre, 1/1.25 of its side, and the surroundings are
there for augmentation to shift and rotate into view.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from veilface_common.errors import ConfigError
from veilface_simulations.portrait import draw
from veilface_simulations.sitter import Conditions, Identity, Occlusion

__all__ = [
    "Conditions",
    "Identity",
    "conditions",
    "contact_sheet",
    "draw",
    "identity",
    "photograph",
]

Ranges = tuple[tuple[str, float, float], ...]

# Separate streams: without these words SeedSequence, which pads with zeros, would give a person's
# identity and the conditions of that person's photo 0 the same random numbers.
_IDENTITY_STREAM, _CONDITIONS_STREAM = 1, 2


def _ranges(kind: type[Any]) -> Ranges:
    """Return (name, low, high) of each field of `kind` that has a range."""
    entries = (entry for entry in dataclasses.fields(kind) if "range" in entry.metadata)
    return tuple((entry.name, *entry.metadata["range"]) for entry in entries)


_IDENTITY_RANGES, _CONDITIONS_RANGES = _ranges(Identity), _ranges(Conditions)
_BETA = 1.3  # both parameters: between uniform and bell-shaped, few extremes yet no average face
_OCCLUDED_SHARE = 0.2


def identity(seed: int, person: int) -> Identity:
    """Return the person numbered `person` in the world of `seed`."""
    generator = _generator(_IDENTITY_STREAM, seed, person)
    values = _in_ranges(_IDENTITY_RANGES, generator)
    # Light hair on dark skin is rare; without this the two would be independent.
    values["hair_lightness"] *= 1.0 - 0.9 * values["melanin"]
    values["hair_redness"] *= 1.0 - values["melanin"]
    return Identity(**values)


def conditions(seed: int, person: int, photo: int) -> Conditions:
    """Return how the person's photograph numbered `photo` is taken."""
    generator = _generator(_CONDITIONS_STREAM, seed, person, photo)
    values = _in_ranges(_CONDITIONS_RANGES, generator)
    colours = _colours(generator)
    occluded = generator.random() < _OCCLUDED_SHARE
    kinds = get_args(Occlusion)[1:]
    return Conditions(
        **values,
        background=colours[0],
        backdrop=colours[1],
        clothes=colours[2],
        occlusion=kinds[int(generator.integers(len(kinds)))] if occluded else "none",
        occlusion_colour=colours[3],
        grain=int(generator.integers(2**31)),
    )


def photograph(seed: int, person: int, photo: int, pixels: int = 80) -> NDArray[np.uint8]:
    """Return one photograph, uint8 [3, pixels, pixels], RGB."""
    return draw(identity(seed, person), conditions(seed, person, photo), pixels)


def contact_sheet(seed: int, people: int, photos: int, pixels: int = 80) -> NDArray[np.uint8]:
    """Return a row of photographs for each person, uint8 [people * pixels, photos * pixels, 3]."""
    if min(people, photos) < 1:
        raise ConfigError(f"expected at least one person and photo, got {people} and {photos}")
    rows = [
        np.concatenate([photograph(seed, person, photo, pixels) for photo in range(photos)], axis=2)
        for person in range(people)
    ]
    return np.ascontiguousarray(np.concatenate(rows, axis=1).transpose(1, 2, 0))


def _generator(*words: int) -> np.random.Generator:
    if min(words) < 0:
        raise ConfigError(f"expected seed, person and photo of at least 0, got {words[1:]}")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def _in_ranges(ranges: Ranges, generator: np.random.Generator) -> dict[str, float]:
    """Return a value in each range."""
    places = generator.beta(_BETA, _BETA, len(ranges)).tolist()
    return {
        name: low + (high - low) * place
        for (name, low, high), place in zip(ranges, places, strict=True)
    }


def _colours(generator: np.random.Generator) -> list[tuple[float, float, float]]:
    """Return four colours, linear RGB: a brightness, and around it some hue."""
    brightness = generator.uniform(0.12, 0.95, (4, 1))
    values = np.clip(brightness + generator.normal(0.0, 0.13, (4, 3)), 0.02, 1.0) ** 2
    return [(red, green, blue) for red, green, blue in values.tolist()]
