"""Surfaces that a camera sees: where each pixel looks, what lies there, and the light on it.

A body is a stack of horizontal ellipses whose half-widths follow an outline. Such a body can be
turned (yaw) exactly: each pixel knows which point of the surface it sees, so features are painted
once, in the coordinates of the unturned face. All colours are linear light.

Arrays are float32: maps [H, W] over the pixels of the canvas, colours [3, H, W].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veilface_simulations.sitter import Conditions, Identity

Map = NDArray[np.floating[Any]]  # float32; numpy's types give float64 to its sums with floats
Colour = tuple[float, float, float]

CANVAS = 1.25  # half the canvas's side in head units
ROWS = np.linspace(-1.5, 1.5, 601, dtype=np.float32)  # y at which outlines are tabulated
_ROWS_PER_UNIT = 200
_DEPTH = 0.9  # of a body's ellipses, as a share of their width

# Linear RGB of what pigments mix between, from little to much.
_SKIN = ((0.94, 0.73, 0.61), (0.82, 0.54, 0.38), (0.58, 0.33, 0.19), (0.32, 0.15, 0.075))
_SKIN_DARKEST: Colour = (0.11, 0.045, 0.022)
_HAIR = ((0.010, 0.008, 0.007), (0.06, 0.028, 0.014), (0.20, 0.10, 0.04), (0.62, 0.42, 0.18))


@dataclass(frozen=True, kw_only=True)
class View:
    """Where each pixel looks, in head units: right `u` and down `v` of the unrolled head."""

    u: Map
    v: Map
    pixel: float  # side of a pixel


@dataclass(frozen=True, kw_only=True)
class Body:
    """A turned body as the camera sees it."""

    x: Map  # surface point in the frame of the unturned body
    y: Map
    normal: tuple[Map, Map, Map]  # unit length, camera frame: right, down, towards the camera
    cover: Map  # share of the pixel that the body covers


@dataclass(frozen=True, kw_only=True)
class Face:
    """What is painted on the head; a band of it is a view, so painting a band paints the face."""

    x: Map
    y: Map
    albedo: Map  # [3, H, W]
    relief: Map  # height above the plain head
    pixel: float

    def band(self, top: float, bottom: float) -> Face:
        """Return the rows of pixels that see some of the face between `top` and `bottom`."""
        seen = np.flatnonzero(((self.y > top) & (self.y < bottom)).any(axis=1))
        rows = slice(int(seen[0]), int(seen[-1]) + 1) if len(seen) else slice(0, 0)
        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            albedo=self.albedo[:, rows],
            relief=self.relief[rows],
        )

    def edge(self, distance: Map) -> Map:
        """Return how much of each pixel lies where `distance` (head units) is positive."""
        return unit(distance * (1.0 / self.pixel) + 0.5)


def view_of(conditions: Conditions, pixels: int) -> View:
    """Return where the pixels of a canvas look: shifted, zoomed and rolled."""
    step = 2 * CANVAS / pixels
    along = (np.arange(pixels, dtype=np.float32) + 0.5) * step - CANVAS
    right = (along[None, :] - conditions.shift_x) / conditions.zoom
    down = (along[:, None] - conditions.shift_y) / conditions.zoom
    cosine, sine = math.cos(conditions.roll), math.sin(conditions.roll)
    return View(
        u=right * cosine + down * sine,
        v=down * cosine - right * sine,
        pixel=step / conditions.zoom,
    )


def turn(widths: Map, conditions: Conditions, view: View) -> Body:
    """Return the body with half-width `widths` at `ROWS`, turned by yaw and nodded by pitch."""
    cosine, sine = math.cos(conditions.yaw), math.sin(conditions.yaw)
    stretch = math.hypot(cosine, _DEPTH * sine)
    seen = np.maximum(widths * stretch, 1e-3)
    slope = np.zeros_like(seen)
    slope[1:-1] = (seen[2:] - seen[:-2]) * (0.5 * _ROWS_PER_UNIT)
    flat = 1 / np.sqrt(1 + slope * slope)
    index = ((view.v + 1.5) * _ROWS_PER_UNIT).astype(np.intp)
    width, flat_at = seen.take(index, mode="clip"), flat.take(index, mode="clip")
    sideways = np.clip(view.u / width, -1, 1)
    towards = np.sqrt(1 - sideways * sideways)
    around_cosine, around_sine = cosine / stretch, _DEPTH * sine / stretch
    distance = (width - np.abs(view.u)) * flat_at
    return Body(
        x=(sideways * around_cosine - towards * around_sine) * (width / stretch),
        y=(view.v - math.sin(conditions.pitch) * (towards * width * 1.2 - 0.25)),
        normal=(
            sideways * flat_at,
            (-slope * flat).take(index, mode="clip") - math.sin(conditions.pitch) * towards,
            towards * flat_at,
        ),
        cover=unit(distance / view.pixel + 0.5) * (width > 2e-3),
    )


def unit(x: Map) -> Map:
    """Return x held to [0, 1]; on arrays this small twice as fast as `np.clip`."""
    return np.minimum(np.maximum(x, 0), 1)


def hill(x: Map, y: Map | float = 0.0) -> Map:
    """Return a smooth hill of height 1 at the origin that ends at radius 1."""
    rest = np.maximum(1 - x * x - y * y, 0)
    return rest * rest


def ramp(x: Map) -> Map:
    """Return 0 below 0, 1 above 1 and a smooth step between."""
    inside = unit(x)
    return inside * inside * (3 - 2 * inside)


def paint(image: Map, colour: Colour | Map, cover: Map) -> None:
    """Lay `colour` over `image` [3, H, W] in place where `cover` [H, W] says so."""
    layer = np.asarray(colour, np.float32)
    image += (layer.reshape(3, *layer.shape[1:] or (1, 1)) - image) * cover


def darken(face: Face, amount: Map) -> None:
    """Take away light from the face in place: more of blue and green than of red, as skin does."""
    face.albedo[0] *= 1 - 0.8 * amount
    face.albedo[1:] *= 1 - amount


def mix(stops: tuple[Colour, ...], place: float) -> Colour:
    """Return the colour at `place` in [0, 1] along evenly spaced stops."""
    at = min(max(place, 0.0), 1.0) * (len(stops) - 1)
    lower = min(int(at), len(stops) - 2)
    return blend(stops[lower], stops[lower + 1], at - lower)


def blend(one: Colour, other: Colour, share: float) -> Colour:
    """Return the colour that lies `share` of the way from one to the other."""
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def scaled(colour: Colour, factor: float) -> Colour:
    """Return the colour darker or brighter, at most white."""
    red, green, blue = (min(part * factor, 1.0) for part in colour)
    return red, green, blue


def skin_colour(identity: Identity) -> Colour:
    """Return the skin's linear RGB."""
    red, green, blue = mix((*_SKIN, _SKIN_DARKEST), identity.melanin)
    pink = identity.ruddiness
    return min(red * (1 + 0.08 * pink), 1.0), green * (1 - 0.1 * pink), blue * (1 + 0.06 * pink)


def hair_colour(identity: Identity) -> Colour:
    """Return the linear RGB of hair, brows and beard."""
    colour = mix(_HAIR, identity.hair_lightness)
    colour = blend(colour, (0.33, 0.075, 0.02), max(identity.hair_redness, 0.0))
    return blend(colour, (0.5, 0.5, 0.5), max(identity.hair_grey, 0.0))


def light_on(conditions: Conditions, normal: tuple[Map, Map, Map]) -> Map:
    """Return the light that falls on a surface, [3, H, W]: one source and the surroundings."""
    azimuth, elevation = conditions.light_azimuth, conditions.light_elevation
    right, up = math.sin(azimuth) * math.cos(elevation), math.sin(elevation)
    front = math.cos(azimuth) * math.cos(elevation)
    direct = np.maximum(normal[0] * right - normal[1] * up + normal[2] * front, 0)
    around = 0.8 - 0.2 * normal[1]
    key = _temperature(conditions.warmth, conditions.tint, 1.5 * conditions.light_share)
    fill = _temperature(conditions.ambient_warmth, conditions.tint, 1 - conditions.light_share)
    return np.stack([a * direct + b * around for a, b in zip(key, fill, strict=True)])


def _temperature(warmth: float, tint: float, strength: float) -> Colour:
    return (
        strength * math.exp(warmth),
        strength * math.exp(tint),
        strength * math.exp(-1.2 * warmth),
    )
