"""The portrait of a sitter under given conditions, in numpy alone.

Painted from back to front: surroundings, hair, neck, clothes, the head under its light, ears, and
what stands before it; then the camera.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from veilface_common.errors import ConfigError
from veilface_simulations.features import painted_face
from veilface_simulations.sitter import Conditions, Identity
from veilface_simulations.surface import (
    ROWS,
    Body,
    Face,
    Map,
    View,
    blend,
    hair_colour,
    hill,
    light_on,
    paint,
    ramp,
    scaled,
    skin_colour,
    turn,
    unit,
    view_of,
)

_WIDEST, _CROWN, _CHIN = -0.2, -1.1, 0.97  # y of the outline's landmarks
_THINGS = 4  # in the background


def draw(identity: Identity, conditions: Conditions, pixels: int) -> NDArray[np.uint8]:
    """Return the photograph, uint8 [3, pixels, pixels], RGB."""
    if not 8 <= pixels <= 1024:
        raise ConfigError(f"expected pixels in [8, 1024], got {pixels}")
    generator = np.random.Generator(np.random.SFC64(conditions.grain))
    view = view_of(conditions, pixels)
    canvas = _background(conditions, generator, view)
    head = turn(_outline(identity, conditions), conditions, view)
    hair = _paint_body(canvas, identity, conditions, view, head)
    face = painted_face(identity, conditions, view, head)
    _paint_head(canvas, identity, conditions, view, head, face, hair)
    _occlude(canvas, conditions, view, face)
    return _develop(canvas, conditions, generator, view.pixel)


def _outline(identity: Identity, conditions: Conditions) -> Map:
    """Return the head's half-width at each of `ROWS`; 0 above the crown and below the chin."""
    chin = _CHIN + identity.chin_length * 0.6 + 0.06 * max(conditions.mouth_open, 0.0)
    above = unit((_WIDEST - ROWS) / (_WIDEST - _CROWN))
    below = unit((ROWS - _WIDEST) / (chin - _WIDEST))
    taper = 1 - (1 - identity.jaw_width) * below * below * (3 - 2 * below)
    cheek = identity.cheek_fullness * hill((ROWS - 0.3) / 0.5)
    dome = np.sqrt(1 - above**2.2)
    jaw = np.sqrt(1 - below**identity.jaw_squareness)
    widths: Map = (identity.face_width + cheek) * taper * dome * jaw
    return widths


def _background(conditions: Conditions, generator: np.random.Generator, view: View) -> Map:
    """Return the surroundings, [3, H, W]: a passage between two colours, and things before it."""
    side = view.u.shape[0]
    along = (np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1
    angle = generator.uniform(0, 2 * math.pi)
    fade = ramp(0.5 + 0.5 * (math.cos(angle) * along[None, :] + math.sin(angle) * along[:, None]))
    ends = np.asarray([conditions.background, conditions.backdrop], np.float32)[..., None, None]
    image: Map = ends[0] + (ends[1] - ends[0]) * fade
    for _ in range(_THINGS):
        x, y, wide, high, angle, sharpness = generator.uniform(
            (-1.2, -1.2, 0.1, 0.1, 0, 1), (1.2, 1.2, 0.9, 0.9, math.pi, 12)
        ).tolist()
        right, down = along[None, :] - x, along[:, None] - y
        cosine, sine = math.cos(angle), math.sin(angle)
        one, other = right * cosine + down * sine, down * cosine - right * sine
        inside = 1 - np.maximum(np.abs(one) / wide, np.abs(other) / high)
        colour = blend(conditions.background, conditions.backdrop, generator.uniform(-0.2, 1.2))
        colour = scaled(colour, math.exp(generator.normal(0, 1.2)))
        paint(image, colour, conditions.clutter * unit(inside * sharpness))
    return np.maximum(image, 0)


def _paint_body(
    canvas: Map, identity: Identity, conditions: Conditions, view: View, head: Body
) -> Map:
    """Paint the hair, neck and clothes in place; return where hair hides the head, [H, W]."""
    shell = turn(_hair_outline(identity, conditions), conditions, view)
    light = light_on(conditions, shell.normal)
    streaks = np.sin((shell.x - identity.hair_parting) * 34 + np.sin(shell.y * 9) * 3)
    waves = np.sin(shell.y * 21 + np.sin(shell.x * 17) * 2) * identity.hair_curl
    sheen = 1 + 0.2 * streaks * (1 - 0.6 * identity.hair_curl) + 0.25 * waves
    density = min(identity.hair_density, 1.0)
    hair = np.multiply.outer(np.asarray(hair_colour(identity), np.float32) + 0.004, sheen) * light
    paint(canvas, hair, shell.cover)
    across = np.clip(view.u / (0.62 * identity.face_width), -1, 1)
    round_neck = (across, np.full_like(across, 0.3), np.sqrt(1 - across * across))
    skin = np.asarray(scaled(skin_colour(identity), 0.6), np.float32)[:, None, None]
    neck = unit((0.62 * identity.face_width - np.abs(view.u)) / view.pixel + 0.5)
    paint(canvas, skin * light_on(conditions, round_neck), neck * (view.v > 0.3))
    collar = view.v - 1.02 + 0.15 * hill(view.u / 0.5) - 0.2 * view.u * view.u
    paint(canvas, conditions.clothes, unit(collar / view.pixel + 0.5))
    return _hair_in_front(identity, view, head) * density


def _hair_outline(identity: Identity, conditions: Conditions) -> Map:
    """Return the half-width of the hair at each of `ROWS`."""
    thin = identity.hair_density < 1  # then it is cropped, whatever its length would be
    volume = 0.0 if thin else max(identity.hair_volume + conditions.hair_mess, 0.01)
    length = 0.05 if thin else max(identity.hair_length, 0.05)
    above = unit((_WIDEST - ROWS) / (_WIDEST - _CROWN + volume))
    below = unit((ROWS - _WIDEST) / (length - _WIDEST))
    # Short hair closes in on the skull at the ears; long hair falls and ends round.
    hang = volume * (1 - below) if length < 0.3 else volume * (1 + 0.5 * below)
    width = (identity.face_width + hang) * np.sqrt(1 - above**2.2) * np.sqrt(1 - below**6)
    curls = 0.2 * volume * identity.hair_curl * np.sin(ROWS * 24) * (width > 0.1)
    widths: Map = width + curls
    return widths


def _hair_in_front(identity: Identity, view: View, head: Body) -> Map:
    """Return how much of the head the hair hides: above the hairline and at the sides."""
    off = np.abs(head.x - identity.hair_parting)
    aside = ramp(off / 0.75)
    edge = identity.hairline + identity.fringe * aside - 0.3 * head.x * head.x
    edge += identity.hair_curl * 0.025 * np.sin(head.x * 26)
    top = edge - head.y
    reach = 0.12 + 0.1 * max(identity.hair_volume, 0.0)
    side = np.abs(head.x) - identity.face_width + reach
    low = 0.12 if identity.hair_density < 1 else max(identity.hair_length, 0.12)
    burns = np.minimum(side, 0.5 * (low - head.y))
    # The fillet rounds the corner between forehead and temple.
    both = 0.5 * (top + burns + np.sqrt((top - burns) ** 2 + 0.04)) - 0.05
    return unit(both / (1.5 * view.pixel) + 0.5)


def _paint_head(
    canvas: Map,
    identity: Identity,
    conditions: Conditions,
    view: View,
    head: Body,
    face: Face,
    hair: Map,
) -> None:
    """Paint the lit head and its ears in place."""
    light = light_on(conditions, _bent(head.normal, face))
    paint(canvas, face.albedo * light, head.cover * (1 - hair))
    if identity.hair_density >= 1 and identity.hair_length > 0.3:
        return  # long hair covers the ears
    colour = np.asarray(skin_colour(identity), np.float32)[:, None, None]
    skin = colour * light_on(conditions, head.normal)
    for side in (-1.0, 1.0):
        depth = _ear(identity, conditions, view, side)
        # Turned to the right, the head hides its ear on the right, and the left one lies on it.
        seen = 1 - head.cover if side * conditions.yaw > 0 else 1.0
        paint(canvas, 0.85 * skin, unit(depth / view.pixel + 0.5) * seen)
        paint(canvas, 0.5 * skin, 0.6 * unit((depth - 0.12 * identity.ear_size) / 0.05) * seen)


def _bent(normal: tuple[Map, Map, Map], face: Face) -> tuple[Map, Map, Map]:
    """Return unit normals of the face: those of the plain head, bent by the relief's slopes."""
    right, down = np.zeros_like(face.relief), np.zeros_like(face.relief)
    scale = 0.5 / face.pixel
    right[:, 1:-1] = (face.relief[:, 2:] - face.relief[:, :-2]) * scale
    down[1:-1] = (face.relief[2:] - face.relief[:-2]) * scale
    x, y = normal[0] - right, normal[1] - down
    length = 1 / np.sqrt(x * x + y * y + normal[2] * normal[2] + 1e-6)
    return x * length, y * length, normal[2] * length


def _ear(identity: Identity, conditions: Conditions, view: View, side: float) -> Map:
    """Return how far inside the ear's rim each pixel lies, in head units."""
    size = identity.ear_size
    centre = side * (identity.face_width + identity.ear_spread * 0.7) * math.cos(conditions.yaw)
    centre -= 0.1 * math.sin(conditions.yaw)
    middle = identity.eye_height + 0.15 - 0.25 * math.sin(conditions.pitch)
    wide = 0.3 * size + 0.6 * identity.ear_spread + 0.25 * size * abs(math.sin(conditions.yaw))
    depth: Map = (1 - np.hypot((view.u - centre) / wide, (view.v - middle) / size)) * wide
    return depth


def _occlude(canvas: Map, conditions: Conditions, view: View, face: Face) -> None:
    """Paint what stands between the camera and the face in place; sunglasses are on it already."""
    kind, place = conditions.occlusion, conditions.occlusion_place
    if kind == "object":
        distance = view.u * math.cos(place * 3) + view.v * math.sin(place * 3) - 0.55
    elif kind == "scarf":
        distance = face.y - 0.66 - 0.1 * place + 0.2 * face.x * face.x
    elif kind == "cap":
        distance = -0.6 + 0.08 * place - face.y - 0.1 * face.x * face.x
    else:
        return
    folds = 1 + 0.2 * np.sin(distance * 30 + view.u * 4)
    cloth = np.multiply.outer(np.asarray(conditions.occlusion_colour, np.float32), folds)
    paint(canvas, cloth, unit(distance / view.pixel + 0.5))


def _develop(
    canvas: Map, conditions: Conditions, generator: np.random.Generator, pixel: float
) -> NDArray[np.uint8]:
    """Return what the camera makes of the light, uint8 [3, H, W]."""
    image = _blurred(canvas, conditions.blur * (2 / 64) / pixel)
    image = np.sqrt(np.maximum(image * 2.0**conditions.exposure, 0))
    grey = image.mean(axis=0)
    image = grey + (image - grey) * conditions.saturation
    image = (image - 0.45) * conditions.contrast + 0.45
    image += generator.standard_normal(image.shape, np.float32) * conditions.noise
    photograph: NDArray[np.uint8] = (unit(image) * 255 + 0.5).astype(np.uint8)
    return photograph


def _blurred(image: Map, radius: float) -> Map:
    """Return the image blurred by a binomial kernel of about `radius` pixels deviation."""
    if radius <= 0:
        return image
    passes = max(1, math.ceil(2 * radius * radius))
    weight = min(radius * radius / passes, 0.5) / 2
    for _ in range(passes):
        inner = image.copy()
        inner[:, 1:-1] += weight * (image[:, 2:] + image[:, :-2] - 2 * image[:, 1:-1])
        image = inner.copy()
        image[:, :, 1:-1] += weight * (inner[:, :, 2:] + inner[:, :, :-2] - 2 * inner[:, :, 1:-1])
    return image
