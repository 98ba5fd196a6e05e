"""Clips of people who do not exist: endless, and free to be passed on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from veilface_client.images import Pixels
from veilface_simulations.clips.clip import Clip, ClipConfig, Split, chance
from veilface_simulations.clips.composing import Actor, Scene, sprites_of, view
from veilface_simulations.clips.heads import Head, banked
from veilface_simulations.clips.motion import camera_of, way_of
from veilface_simulations.clips.surroundings import field, scatter
from veilface_simulations.clips.taking import finished

# People whom nobody else draws: `sources` has every seed below, so none of them is evaluated on.
_WORLD: dict[Split, int] = {"train": 2**40, "validation": 2**40 + 1}
_PEOPLE: dict[Split, int] = {"train": 240, "validation": 80}
_PHOTOS = 2  # of each of them
_STREAM = 11  # see `drawn`: a word that keeps random numbers apart from those of other purposes
_GREY = 0.15  # of the clips have no colour
_MARGIN = 0.3  # of the frame's longer side: as far as the camera looks aside


@dataclass(frozen=True, kw_only=True)
class DrawnClips:
    """Drawn people before drawn surroundings."""

    split: Split
    name: str = "drawn"

    def clip(self, config: ClipConfig, seed: int, number: int) -> Clip:
        """Return the clip of that number in the world of `seed`."""
        draw = chance(_STREAM, _WORLD[self.split], seed, number)
        scene = self._scene(config, draw)
        sprites = [sprites_of(actor, scene.camera) for actor in scene.actors]
        views = [
            view(scene, sprites, frame, config.height, config.width)
            for frame in range(config.frames)
        ]
        if draw.random() < _GREY:
            views = [replace(one, pixels=_grey(one.pixels)) for one in views]
        return finished(views, config, draw)

    def _scene(self, config: ClipConfig, draw: np.random.Generator) -> Scene:
        margin = round(_MARGIN * max(config.height, config.width))
        size = (config.height + 2 * margin, config.width + 2 * margin)
        surroundings = field(*size, draw)
        scatter(surroundings, [self._head(draw) for _ in range(int(draw.integers(0, 3)))], draw)
        crowd = int(draw.integers(0, config.most_faces + 1))
        if draw.random() < 0.7:  # fewer are more common, nobody at all is rare
            crowd = (crowd + 2) // 2
        crowd = min(crowd, config.most_faces)
        low, high = config.smallest_face, min(config.largest_face, 0.85 * config.height)
        faces = sorted(low * (max(high, low) / low) ** draw.random(crowd))
        actors = [
            Actor(
                person=person,
                looks=(self._head(draw),),
                way=way_of(config.frames, face, (config.height, config.width), draw),
                look=np.zeros(config.frames, np.int64),
                light=_light(draw),
            )
            for person, face in enumerate(faces)
        ]
        camera = camera_of(config.frames, min(config.height, config.width), draw)
        return Scene(surroundings=surroundings, margin=margin, actors=actors, camera=camera)

    def _head(self, draw: np.random.Generator) -> Head:
        person, photo = int(draw.integers(_PEOPLE[self.split])), int(draw.integers(_PHOTOS))
        return banked(_WORLD[self.split], person, photo)


def _light(draw: np.random.Generator) -> tuple[float, float, float]:
    """Return the light on one person; skin is not to be told by its colour alone."""
    gain, hue = draw.normal(0, 0.25), draw.normal(0, 0.1, 3)
    red, green, blue = np.exp(gain + hue).tolist()
    return red, green, blue


def _grey(pixels: Pixels) -> Pixels:
    grey = pixels.mean(axis=2, keepdims=True).astype(np.uint8)
    return np.repeat(grey, 3, axis=2)
