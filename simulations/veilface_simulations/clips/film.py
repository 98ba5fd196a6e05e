"""A film of drawn people who come in, stay, pass one another and go out, and who is where in it.

The first people of the film are those of `veilface-sim draw` of the same seed, under the same
names: whoever enrols its photographs can look for them here. Strangers walk among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from veilface_client.images import Pixels
from veilface_common.errors import ConfigError
from veilface_simulations import drawn
from veilface_simulations.clips.clip import Boxes, Flags, chance
from veilface_simulations.clips.composing import Actor, Scene, sprites_of, view
from veilface_simulations.clips.corruption import corrupt
from veilface_simulations.clips.heads import Head, draw_head
from veilface_simulations.clips.motion import Camera, Way
from veilface_simulations.clips.surroundings import field, scatter
from veilface_simulations.sources import world

WIDTH, HEIGHT = 640, 360
RATE = 12.0  # frames a second
MOST_PEOPLE = 64
_STREAM, _STRANGERS = 13, 9_000_000  # nobody draws so many people that strangers are among them
_HEAD_PIXELS = 256
_WALK, _STAY = 2.0, 5.5  # seconds
_APART = 3.2  # seconds from one person's coming to the next one's: three are there at a time
_PLACES = (0.2, 0.5, 0.8)  # where they stay, as shares of the width
_FACES = (80.0, 145.0)  # heights in pixels
_YAWS = (-0.4, -0.2, 0.0, 0.2, 0.4)
_MOUTHS = (-0.5, 0.4)  # shut, and open while somebody speaks
_WORDS = 0.25  # seconds for which a mouth is open or shut
_BURST, _BURSTS = 0.06, 3  # chance of each frame that trouble begins, and its most frames


@dataclass(frozen=True, kw_only=True, eq=False)
class FilmFrame:
    """A frame, and who is where in it: N people."""

    number: int
    seconds: float
    pixels: Pixels  # [360, 640, 3]
    names: tuple[str, ...]
    boxes: Boxes  # [N, 4]
    ignored: Flags  # [N]: hardly to be seen, at the border or behind somebody
    corrupted: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Film:
    """A film that is made while it is looked at: one frame is in memory at a time."""

    names: tuple[str, ...]  # in the order of their coming
    length: int  # frames
    seed: int
    _scene: Scene

    def __iter__(self) -> Iterator[FilmFrame]:
        """Give every frame in order."""
        draw = chance(_STREAM, self.seed, 1)
        sprites = [sprites_of(actor, self._scene.camera) for actor in self._scene.actors]
        trouble = 0
        for number in range(self.length):
            seen = view(self._scene, sprites, number, HEIGHT, WIDTH)
            if trouble == 0 and draw.random() < _BURST:
                trouble = 1 + int(draw.integers(_BURSTS))
            pixels = corrupt(seen.pixels, _FACES[0], draw) if trouble else seen.pixels
            yield FilmFrame(
                number=number,
                seconds=number / RATE,
                pixels=pixels,
                names=tuple(self.names[person] for person in seen.people),
                boxes=seen.boxes,
                ignored=seen.ignored,
                corrupted=trouble > 0,
            )
            trouble = max(0, trouble - 1)


def film(names: tuple[str, ...], *, strangers: int, seed: int) -> Film:
    """Return a film of the first people of `veilface-sim draw --seed S` and of strangers.

    Strangers are called `stranger-1` and so on, and come after every second person.

    Raises:
        ConfigError: nobody is to be seen, or too many are.
    """
    if not (strangers >= 0 and 1 <= len(names) + strangers <= MOST_PEOPLE):
        got = len(names) + strangers
        raise ConfigError(f"expected 1 to {MOST_PEOPLE} people in a film, got {got}")
    draw = chance(_STREAM, seed, 0)
    cast = _cast(names, strangers)
    length = round(RATE * (_APART * (len(cast) - 1) + 2 * _WALK + _STAY + 0.5))
    margin = 64
    surroundings = _room(HEIGHT + 2 * margin, WIDTH + 2 * margin, draw)
    actors = [
        _actor(order, number, length=length, seed=seed, draw=draw)
        for order, (_, number) in enumerate(cast)
    ]
    actors.sort(key=lambda actor: float(actor.way.unit[0]))  # whoever is near is before the others
    return Film(
        names=tuple(name for name, _ in cast),
        length=length,
        seed=seed,
        _scene=Scene(
            surroundings=surroundings, margin=margin, actors=actors, camera=_camera(length, draw)
        ),
    )


def _room(height: int, width: int, draw: np.random.Generator) -> Pixels:
    """Return a quiet wall with things before it, uint8 [H, W, 3]."""
    colour = draw.uniform(110, 200) + draw.normal(0, 18, 3)
    cluttered = field(height, width, draw)
    scatter(cluttered, [], draw)
    light = np.linspace(1.1, 0.85, height)[:, None, None]
    wall = (0.82 * colour + 0.18 * cluttered) * light
    return np.clip(wall, 0, 255).astype(np.uint8)


def _cast(names: tuple[str, ...], strangers: int) -> list[tuple[str, int]]:
    """Return name and number of everybody in the order of their coming."""
    known = [(name, number) for number, name in enumerate(names)]
    unknown = [(f"stranger-{1 + number}", _STRANGERS + number) for number in range(strangers)]
    cast = []
    while known or unknown:
        cast += known[:2] + unknown[:1]
        known, unknown = known[2:], unknown[1:]
    return cast


def _actor(order: int, number: int, *, length: int, seed: int, draw: np.random.Generator) -> Actor:
    """Return the person who comes as number `order`: walks in, stays, and walks out."""
    face = float(_FACES[0] * (_FACES[1] / _FACES[0]) ** draw.random())
    way, yaw = _walk(order, face, length, draw)
    nearest = np.abs(np.subtract.outer(yaw, _YAWS)).argmin(axis=1)
    speaking = draw.random(length) < 0.5
    held = max(1, round(_WORDS * RATE))
    mouth = np.repeat(speaking[::held], held)[:length].astype(np.int64)
    return Actor(
        person=order,
        looks=_looks(seed, number),
        way=way,
        look=(nearest * len(_MOUTHS) + mouth).astype(np.int64),
        light=(math.exp(draw.normal(0, 0.1)),) * 3,
    )


def _looks(seed: int, number: int) -> tuple[Head, ...]:
    """Return a person looking to either side, with mouth shut and open, in even light."""
    own = world(seed, "evaluate")  # as `draw` has it: nobody is trained on these
    sitter = drawn.identity(own, number)
    day = drawn.conditions(own, number, 2**20)  # further photographs than anybody draws
    return tuple(
        draw_head(
            sitter,
            replace(
                day,
                yaw=yaw,
                pitch=0.3 * day.pitch,
                mouth_open=opened,
                lids=1.0,
                light_azimuth=0.4 * day.light_azimuth,
                light_elevation=0.35,
                light_share=0.55,
                warmth=0.0,
                tint=0.0,
                ambient_warmth=0.0,
                occlusion="none",
            ),
            _HEAD_PIXELS,
        )
        for yaw in _YAWS
        for opened in _MOUTHS
    )


def _walk(
    order: int, face: float, length: int, draw: np.random.Generator
) -> tuple[Way, np.ndarray]:
    """Return a way, and where the person looks: ahead while walking, about while staying."""
    seconds = np.arange(length) / RATE - order * _APART
    place = _PLACES[order % len(_PLACES)] * WIDTH
    side = order % 2 == 0
    outside = (-0.8 * face, WIDTH + 0.8 * face)
    begin, end = outside if side else outside[::-1]
    coming = _smooth(seconds / _WALK)
    going = _smooth((seconds - _WALK - _STAY) / _WALK)
    across = begin + (place - begin) * coming + (end - place) * going
    walking = (coming > 0) & (coming < 1) | (going > 0) & (going < 1)
    bob = 0.03 * face * np.sin(2 * math.pi * 1.8 * seconds) * walking
    sway = 0.05 * face * np.sin(2 * math.pi * 0.3 * seconds + draw.uniform(0, 6))
    height = HEIGHT * (0.28 + 0.12 * face / _FACES[1]) + draw.normal(0, 0.03 * HEIGHT)
    direction = 1.0 if end > begin else -1.0
    about = 0.35 * np.sin(2 * math.pi * 0.16 * seconds + draw.uniform(0, 6))
    yaw = np.where(walking, 0.4 * direction, about)
    way = Way(
        place=np.column_stack((across + sway, height + bob)),
        unit=np.full(length, face / 1.67),
        roll=0.08 * np.sin(2 * math.pi * 0.22 * seconds + draw.uniform(0, 6)),
    )
    return way, yaw


def _smooth(share: np.ndarray) -> np.ndarray:
    inside = np.clip(share, 0, 1)
    return np.asarray(inside * inside * (3 - 2 * inside))


def _camera(length: int, draw: np.random.Generator) -> Camera:
    """Return a camera in a hand: it drifts slowly and never far."""
    seconds = np.arange(length) / RATE
    phases = draw.uniform(0, 6, 4)
    drift = np.column_stack((14 * np.sin(0.5 * seconds + phases[0]), 6 * np.sin(0.7 * seconds)))
    return Camera(
        shift=drift + draw.normal(0, 0.3, (length, 2)),
        zoom=1.03 + 0.03 * np.sin(0.3 * seconds + phases[1]),
        roll=0.01 * np.sin(0.4 * seconds + phases[2]),
    )
