"""What one camera makes of a scene, and what goes wrong with some of its frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from veilface_client.detectors.opencv import load_opencv
from veilface_client.images import Pixels
from veilface_simulations.clips.clip import Clip, ClipConfig
from veilface_simulations.clips.composing import View
from veilface_simulations.clips.corruption import choose_frames, corrupt, typical_side


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one camera makes of every frame: light, colour, sharpness, noise and compression."""

    gain: float
    gamma: float
    tint: tuple[float, float, float]
    blur: float  # pixels
    noise: float  # of 255
    quality: int | None  # of JPEG

    @classmethod
    def drawn(cls, draw: np.random.Generator) -> Look:
        """Return a camera by chance; most are good ones."""
        red, green, blue = np.exp(draw.normal(0, 0.06, 3)).tolist()
        return cls(
            gain=math.exp(draw.normal(0, 0.12)),
            gamma=math.exp(draw.normal(0, 0.15)),
            tint=(red, green, blue),
            blur=max(0.0, draw.normal(0.2, 0.5)),
            noise=max(0.0, draw.normal(0.5, 4.0)),
            quality=int(draw.integers(25, 95)) if draw.random() < 0.5 else None,
        )

    def taken(self, pixels: Pixels, draw: np.random.Generator) -> Pixels:
        """Return uint8 [H, W, 3] as this camera has it."""
        cv2 = load_opencv()
        flicker = math.exp(draw.normal(0, 0.015))
        values = (np.arange(256)[:, None] / 255) ** self.gamma * (flicker * self.gain)
        table = np.clip(255 * values * np.array(self.tint), 0, 255).astype(np.uint8)[:, None]
        pixels = cv2.LUT(pixels, table)
        if self.blur > 0.1:
            pixels = cv2.GaussianBlur(pixels, (0, 0), self.blur)
        if self.noise > 0.5:
            grain = draw.integers(-128, 128, pixels.shape, dtype=np.int8).astype(np.int16)
            pixels = np.clip(pixels + (grain * round(self.noise * 32) >> 12), 0, 255)
            pixels = pixels.astype(np.uint8)
        if self.quality is not None:
            written = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, self.quality))[1]
            pixels = cv2.imdecode(written, cv2.IMREAD_COLOR)
        return np.asarray(pixels, np.uint8)


def finished(views: Sequence[View], config: ClipConfig, draw: np.random.Generator) -> Clip:
    """Return the clip of these frames as one camera shows them, some of them corrupted."""
    corrupted = choose_frames(config, draw)
    sides = [float(max(box[2:])) for one in views for box in one.boxes[~one.ignored]]
    face = typical_side(sides, config.height, config.width)
    look = Look.drawn(draw)
    frames = [look.taken(one.pixels, draw) for one in views]
    for frame in np.flatnonzero(corrupted):
        frames[frame] = corrupt(frames[frame], face, draw)
    return Clip(
        frames=np.stack(frames),
        boxes=tuple(one.boxes for one in views),
        people=tuple(one.people for one in views),
        ignored=tuple(one.ignored for one in views),
        corrupted=corrupted,
    )
