"""Every perturbation and its five levels; docs/robustness.md shows the same table.

What is drawn by chance (sides, colours, directions, grains) follows from the seed, the picture and
the perturbation, and is the same at each level: from one level to the next only the amount changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from veilface_client.alignment import Transform
from veilface_client.images import Pixels
from veilface_client.perturbations import camera, covers, light
from veilface_client.perturbations.shot import Shot, middle_face
from veilface_common.errors import ConfigError

LEVELS = 5


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """One way in which a photograph goes wrong, and how far it goes at each level."""

    amounts: tuple[float, float, float, float, float]
    meaning: str  # of the amounts
    change: Callable[[Shot, float], Pixels]


PERTURBATIONS: Mapping[str, Perturbation] = {
    "brightness": Perturbation(
        amounts=(0.1, 0.2, 0.3, 0.4, 0.5),
        meaning="share of 255 added to every value",
        change=light.brighten,
    ),
    "darkness": Perturbation(
        amounts=(0.6, 0.4, 0.25, 0.15, 0.08),
        meaning="factor of every value",
        change=light.darken,
    ),
    "contrast": Perturbation(
        amounts=(0.6, 0.4, 0.25, 0.15, 0.08),
        meaning="factor of every value's distance from the mean of the picture",
        change=light.flatten,
    ),
    "gamma": Perturbation(
        amounts=(1.5, 2.0, 2.5, 3.2, 4.0),
        meaning="power to which values in [0, 1] are raised",
        change=light.bend,
    ),
    "side-light": Perturbation(
        amounts=(0.5, 0.3, 0.15, 0.07, 0.0),
        meaning="factor at the dark side of the face, 1 at the other, even between",
        change=light.light_from_side,
    ),
    "coloured-light": Perturbation(
        amounts=(0.2, 0.4, 0.6, 0.8, 0.95),
        meaning="share taken away of what a pure colour does not shine",
        change=light.tint,
    ),
    "rotation": Perturbation(
        amounts=(5.0, 10.0, 20.0, 30.0, 45.0),
        meaning="degrees in the plane, about the middle of the face",
        change=camera.rotate,
    ),
    "salt-and-pepper": Perturbation(
        amounts=(0.01, 0.02, 0.05, 0.1, 0.2),
        meaning="share of the pixels, half of which become white and half black",
        change=camera.salt,
    ),
    "gaussian-noise": Perturbation(
        amounts=(0.04, 0.08, 0.12, 0.18, 0.26),
        meaning="standard deviation as a share of 255, each value by itself",
        change=camera.add_noise,
    ),
    "defocus": Perturbation(
        amounts=(1.0, 2.0, 3.0, 4.5, 6.5),
        meaning="radius of a disc, in pixels of the template",
        change=camera.defocus,
    ),
    "motion-blur": Perturbation(
        amounts=(5.0, 9.0, 13.0, 19.0, 27.0),
        meaning="length of a line, in pixels of the template",
        change=camera.move,
    ),
    "jpeg": Perturbation(
        amounts=(40.0, 25.0, 15.0, 10.0, 6.0),
        meaning="libjpeg's quality, colour at half the resolution",
        change=camera.compress,
    ),
    "low-resolution": Perturbation(
        amounts=(56.0, 40.0, 28.0, 20.0, 14.0),
        meaning="pixels across the aligned face, then enlarged again",
        change=camera.shrink,
    ),
    "mask": Perturbation(
        amounts=(100.0, 92.0, 84.0, 76.0, 68.0),
        meaning="row of the template where it begins; the mouth is at 92, the nose's tip at 72",
        change=covers.wear_mask,
    ),
    "glasses": Perturbation(
        amounts=(0.0, 0.3, 0.6, 0.85, 1.0),
        meaning="opacity of the lenses; the frame is there at each level",
        change=covers.wear_glasses,
    ),
    "hand": Perturbation(
        amounts=(0.25, 0.35, 0.45, 0.6, 0.75),
        meaning="share of the width of the aligned face that it reaches over",
        change=covers.hold_hand,
    ),
}


def perturb(
    image: Pixels, name: str, level: int, *, seed: int, face: Transform | None = None
) -> Pixels:
    """Return a perturbed copy of uint8 [H, W, 3], RGB, of the same shape.

    Args:
        image: the picture; the same one is perturbed in the same way.
        name: a key of PERTURBATIONS.
        level: 1 to 5; 0 changes nothing.
        seed: other chances: other sides, colours and grains.
        face: where the face is; the middle square of the picture, if not given.

    Raises:
        ConfigError: there is no such perturbation or level.
    """
    if name not in PERTURBATIONS:
        known = ", ".join(PERTURBATIONS)
        raise ConfigError(f"expected a perturbation, got {name!r}", hint=known)
    if not 0 <= level <= LEVELS:
        raise ConfigError(f"expected a level in [0, {LEVELS}], got {level}")
    if level == 0:
        return image.copy()
    kind = PERTURBATIONS[name]
    height, width, _ = image.shape
    shot = Shot(
        pixels=image,
        face=middle_face(height, width) if face is None else face,
        draw=_chance(seed, name, image),
    )
    return kind.change(shot, kind.amounts[level - 1])


def _chance(seed: int, name: str, image: Pixels) -> np.random.Generator:
    """Return a generator that this picture alone has, wherever and whenever it is perturbed."""
    digest = hashlib.sha256(f"{seed} {name} {image.shape} ".encode())
    digest.update(np.ascontiguousarray(image).data)
    return np.random.default_rng(int.from_bytes(digest.digest()))
