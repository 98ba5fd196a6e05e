"""The portrait of a sitter under given conditions, in numpy alone.

The head is a stack of horizontal ellipses whose half-widths follow the outline of the face. Such a
body can be turned (yaw) exactly: each pixel knows which point of the surface it sees, so features
are painted once, in the coordinates of the unturned face, and a height field on top of it bends the
normals that the light falls on. All colours are linear light until the camera takes the root.

Arrays are float32: maps [H, W] over the pixels of the canvas, colours [3, H, W].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from veilface_common.errors import ConfigError
from veilface_simulations.sitter import Conditions, Identity

Map = NDArray[np.float32]
Colour = tuple[float, float, float]

_CANVAS = 1.25  # half the canvas's side in head units
_DEPTH = 0.9  # of the head's ellipses, as a share of their width
_WIDEST, _CROWN, _CHIN = -0.2, -1.1, 0.97  # y of the outline's landmarks
_THINGS = 5  # in the background
_ROWS = np.linspace(-1.5, 1.5, 601, dtype=np.float32)  # y at which outlines are tabulated

# Linear RGB of what pigments mix between, from little to much.
_SKIN = ((0.94, 0.73, 0.61), (0.82, 0.54, 0.38), (0.58, 0.33, 0.19), (0.32, 0.15, 0.075))
_SKIN_DARKEST: Colour = (0.11, 0.045, 0.022)
_HAIR = ((0.010, 0.008, 0.007), (0.06, 0.028, 0.014), (0.20, 0.10, 0.04), (0.62, 0.42, 0.18))
_IRIS = ((0.06, 0.025, 0.01), (0.2, 0.11, 0.03), (0.12, 0.2, 0.08), (0.09, 0.25, 0.5))
_IRIS_GREY: Colour = (0.4, 0.47, 0.52)
_FRAMES = ((0.01, 0.01, 0.012), (0.1, 0.04, 0.015), (0.3, 0.02, 0.03), (0.55, 0.5, 0.4))


def draw(identity: Identity, conditions: Conditions, pixels: int) -> NDArray[np.uint8]:
    """Return the photograph, uint8 [3, pixels, pixels], RGB."""
    if not 8 <= pixels <= 1024:
        raise ConfigError(f"expected pixels in [8, 1024], got {pixels}")
    generator = np.random.Generator(np.random.SFC64(conditions.grain))
    view = _view(conditions, pixels)
    canvas = _background(conditions, generator, view)
    head = _turn(_outline(identity, conditions), conditions, view)
    hair = _paint_body(canvas, identity, conditions, view, head)
    face = _features(identity, conditions, view, head)
    _paint_head(canvas, identity, conditions, view, head, face, hair)
    _occlude(canvas, conditions, view, face)
    return _develop(canvas, conditions, generator, view.pixel)


# ------------------------------------------------------------------------------------- geometry


@dataclass(frozen=True, kw_only=True)
class _View:
    """Where each pixel looks, in head units: right `u` and down `v` of the unrolled head."""

    u: Map
    v: Map
    pixel: float  # side of a pixel


@dataclass(frozen=True, kw_only=True)
class _Body:
    """A turned body as the camera sees it."""

    x: Map  # surface point in the frame of the unturned body
    y: Map
    normal: tuple[Map, Map, Map]  # unit length, camera frame: right, down, towards the camera
    cover: Map  # share of the pixel that the body covers


@dataclass(frozen=True, kw_only=True)
class _Face:
    """What is painted on the head; a band of it is a view, so painting a band paints the face."""

    x: Map
    y: Map
    albedo: Map  # [3, H, W]
    relief: Map  # height above the plain head
    pixel: float

    def band(self, top: float, bottom: float) -> _Face:
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
        return np.clip(distance * (1.0 / self.pixel) + 0.5, 0.0, 1.0)


def _view(conditions: Conditions, pixels: int) -> _View:
    step = 2 * _CANVAS / pixels
    along = (np.arange(pixels, dtype=np.float32) + 0.5) * step - _CANVAS
    right = (along[None, :] - conditions.shift_x) / conditions.zoom
    down = (along[:, None] - conditions.shift_y) / conditions.zoom
    cosine, sine = math.cos(conditions.roll), math.sin(conditions.roll)
    return _View(
        u=right * cosine + down * sine,
        v=down * cosine - right * sine,
        pixel=step / conditions.zoom,
    )


def _outline(identity: Identity, conditions: Conditions) -> Map:
    """Return the head's half-width at each of `_ROWS`; 0 above the crown and below the chin."""
    chin = _CHIN + identity.chin_length * 0.6 + 0.06 * max(conditions.mouth_open, 0.0)
    above = np.clip((_WIDEST - _ROWS) / (_WIDEST - _CROWN), 0, 1)
    below = np.clip((_ROWS - _WIDEST) / (chin - _WIDEST), 0, 1)
    taper = 1 - (1 - identity.jaw_width) * below * below * (3 - 2 * below)
    cheek = identity.cheek_fullness * _hill((_ROWS - 0.3) / 0.5)
    dome = np.sqrt(1 - above**2.2)
    jaw = np.sqrt(1 - below**identity.jaw_squareness)
    return ((identity.face_width + cheek) * taper * dome * jaw).astype(np.float32)


def _turn(widths: Map, conditions: Conditions, view: _View) -> _Body:
    """Return the body with half-width `widths` at `_ROWS`, turned by yaw and nodded by pitch."""
    cosine, sine = math.cos(conditions.yaw), math.sin(conditions.yaw)
    stretch = math.hypot(cosine, _DEPTH * sine)
    seen = np.maximum(widths * stretch, 1e-3)
    slope = np.gradient(seen, _ROWS)
    flat = 1 / np.sqrt(1 + slope * slope)
    index = ((view.v + 1.5) * 200).astype(np.intp)
    width, flat_at = seen.take(index, mode="clip"), flat.take(index, mode="clip")
    sideways = np.clip(view.u / width, -1, 1)
    towards = np.sqrt(1 - sideways * sideways)
    around_cosine, around_sine = cosine / stretch, _DEPTH * sine / stretch
    distance = (width - np.abs(view.u)) * flat_at
    return _Body(
        x=(sideways * around_cosine - towards * around_sine) * (width / stretch),
        y=(view.v - math.sin(conditions.pitch) * (towards * width * 1.2 - 0.25)),
        normal=(
            sideways * flat_at,
            (-slope * flat).take(index, mode="clip") - math.sin(conditions.pitch) * towards,
            towards * flat_at,
        ),
        cover=np.clip(distance / view.pixel + 0.5, 0, 1) * (width > 2e-3),
    )


def _hill(x: Map, y: Map | float = 0.0) -> Map:
    """Return a smooth hill of height 1 at the origin that ends at radius 1."""
    rest = np.maximum(1 - x * x - y * y, 0)
    return rest * rest


def _ramp(x: Map) -> Map:
    """Return 0 below 0, 1 above 1 and a smooth step between."""
    inside = np.clip(x, 0, 1)
    return inside * inside * (3 - 2 * inside)


def _paint(image: Map, colour: Colour | Map, cover: Map) -> None:
    """Lay `colour` over `image` [3, H, W] in place where `cover` [H, W] says so."""
    layer = np.asarray(colour, np.float32)
    image += (layer.reshape(3, *layer.shape[1:] or (1, 1)) - image) * cover


def _darken(face: _Face, amount: Map) -> None:
    """Take away light from the face in place: more of blue and green than of red, as skin does."""
    face.albedo[0] *= 1 - 0.8 * amount
    face.albedo[1:] *= 1 - amount


def _mix(stops: tuple[Colour, ...], place: float) -> Colour:
    """Return the colour at `place` in [0, 1] along evenly spaced stops."""
    at = min(max(place, 0.0), 1.0) * (len(stops) - 1)
    lower = min(int(at), len(stops) - 2)
    return _blend(stops[lower], stops[lower + 1], at - lower)


def _blend(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def _scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(part * factor, 1.0) for part in colour)
    return red, green, blue


# -------------------------------------------------------------------------------------- colours


def _skin_colour(identity: Identity) -> Colour:
    red, green, blue = _mix((*_SKIN, _SKIN_DARKEST), identity.melanin)
    pink = identity.ruddiness
    return min(red * (1 + 0.08 * pink), 1.0), green * (1 - 0.1 * pink), blue * (1 + 0.06 * pink)


def _hair_colour(identity: Identity) -> Colour:
    colour = _mix(_HAIR, identity.hair_lightness)
    colour = _blend(colour, (0.33, 0.075, 0.02), max(identity.hair_redness, 0.0))
    return _blend(colour, (0.5, 0.5, 0.5), max(identity.hair_grey, 0.0))


def _light(conditions: Conditions, normal: tuple[Map, Map, Map]) -> Map:
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


# -------------------------------------------------------------------------- behind and below


def _background(conditions: Conditions, generator: np.random.Generator, view: _View) -> Map:
    """Return the surroundings, [3, H, W]: a passage between two colours, and things before it."""
    side = view.u.shape[0]
    along = np.linspace(-1, 1, side, dtype=np.float32)
    turn = generator.uniform(0, 2 * math.pi)
    fade = _ramp(0.5 + 0.5 * (math.cos(turn) * along[None, :] + math.sin(turn) * along[:, None]))
    ends = np.asarray([conditions.background, conditions.backdrop], np.float32)[..., None, None]
    image: Map = ends[0] + (ends[1] - ends[0]) * fade
    for _ in range(_THINGS):
        x, y, wide, high, turn, sharpness = generator.uniform(
            (-1.2, -1.2, 0.1, 0.1, 0, 1), (1.2, 1.2, 0.9, 0.9, math.pi, 12)
        ).tolist()
        right, down = along[None, :] - x, along[:, None] - y
        cosine, sine = math.cos(turn), math.sin(turn)
        one, other = right * cosine + down * sine, down * cosine - right * sine
        inside = 1 - np.maximum(np.abs(one) / wide, np.abs(other) / high)
        colour = _blend(conditions.background, conditions.backdrop, generator.uniform(-0.2, 1.2))
        colour = _scaled(colour, math.exp(generator.normal(0, 1.2)))
        _paint(image, colour, conditions.clutter * np.clip(inside * sharpness, 0, 1))
    return np.maximum(image, 0)


def _paint_body(
    canvas: Map, identity: Identity, conditions: Conditions, view: _View, head: _Body
) -> Map:
    """Paint the hair, neck and clothes in place; return where hair hides the head, [H, W]."""
    shell = _turn(_hair_outline(identity, conditions), conditions, view)
    light = _light(conditions, shell.normal)
    streaks = np.sin((shell.x - identity.hair_parting) * 34 + np.sin(shell.y * 9) * 3)
    waves = np.sin(shell.y * 21 + np.sin(shell.x * 17) * 2) * identity.hair_curl
    sheen = 1 + 0.2 * streaks * (1 - 0.6 * identity.hair_curl) + 0.25 * waves
    density = min(identity.hair_density, 1.0)
    hair = np.multiply.outer(np.asarray(_hair_colour(identity), np.float32) + 0.004, sheen) * light
    _paint(canvas, hair, shell.cover)
    across = np.clip(view.u / (0.62 * identity.face_width), -1, 1)
    round_neck = (across, np.full_like(across, 0.3), np.sqrt(1 - across * across))
    skin = np.asarray(_scaled(_skin_colour(identity), 0.6), np.float32)[:, None, None]
    neck = np.clip((0.62 * identity.face_width - np.abs(view.u)) / view.pixel + 0.5, 0, 1)
    _paint(canvas, skin * _light(conditions, round_neck), neck * (view.v > 0.3))
    collar = view.v - 1.02 + 0.25 * _hill(view.u / 0.5) * 0.6 - 0.2 * view.u * view.u
    _paint(canvas, conditions.clothes, np.clip(collar / view.pixel + 0.5, 0, 1))
    return _hair_in_front(identity, view, head) * density


def _hair_outline(identity: Identity, conditions: Conditions) -> Map:
    """Return the half-width of the hair at each of `_ROWS`."""
    thin = identity.hair_density < 1  # then it is cropped, whatever its length would be
    volume = 0.0 if thin else max(identity.hair_volume + conditions.hair_mess, 0.01)
    length = 0.05 if thin else max(identity.hair_length, 0.05)
    above = np.clip((_WIDEST - _ROWS) / (_WIDEST - _CROWN + volume), 0, 1)
    below = np.clip((_ROWS - _WIDEST) / (length - _WIDEST), 0, 1)
    # Short hair closes in on the skull at the ears; long hair falls and ends round.
    hang = volume * (1 - below) if length < 0.3 else volume * (1 + 0.5 * below)
    width = (identity.face_width + hang) * np.sqrt(1 - above**2.2) * np.sqrt(1 - below**6)
    curls = 0.2 * volume * identity.hair_curl * np.sin(_ROWS * 24) * (width > 0.1)
    return (width + curls).astype(np.float32)


def _hair_in_front(identity: Identity, view: _View, head: _Body) -> Map:
    """Return how much of the head the hair hides: above the hairline and at the sides."""
    off = np.abs(head.x - identity.hair_parting)
    aside = _ramp(off / 0.75)
    edge = identity.hairline + identity.fringe * aside - 0.3 * head.x * head.x
    edge += identity.hair_curl * 0.025 * np.sin(head.x * 26)
    top = edge - head.y
    reach = 0.12 + 0.1 * max(identity.hair_volume, 0.0)
    side = np.abs(head.x) - identity.face_width + reach
    low = 0.12 if identity.hair_density < 1 else max(identity.hair_length, 0.12)
    burns = np.minimum(side, 0.5 * (low - head.y))
    # The fillet rounds the corner between forehead and temple.
    both = 0.5 * (top + burns + np.sqrt((top - burns) ** 2 + 0.04)) - 0.05
    return np.clip(both / (1.5 * view.pixel) + 0.5, 0, 1)


# ------------------------------------------------------------------------------------- features


def _features(identity: Identity, conditions: Conditions, view: _View, head: _Body) -> _Face:
    """Return the face with all that is painted on it."""
    albedo = np.empty((3, *head.x.shape), np.float32)
    albedo[:] = np.asarray(_skin_colour(identity), np.float32)[:, None, None]
    face = _Face(x=head.x, y=head.y, albedo=albedo, relief=np.zeros_like(head.x), pixel=view.pixel)
    _paint_skin(face, identity)
    _paint_nose(face, identity, conditions)
    _paint_mouth(face, identity, conditions)
    _paint_beard(face, identity)
    _paint_eyes(face, identity, conditions)
    _paint_brows(face, identity, conditions)
    _paint_glasses(face, identity, conditions)
    return face


def _mouth_y(identity: Identity) -> float:
    return identity.eye_height + identity.nose_length + identity.mouth_gap


def _paint_skin(face: _Face, identity: Identity) -> None:
    mouth = _mouth_y(identity)
    cheeks = face.band(-0.2, 0.75)
    aside = np.abs(cheeks.x)
    apple = _hill((aside - 0.38) / 0.3, (cheeks.y - identity.eye_height - 0.34) / 0.26)
    cheeks.relief[:] += (0.02 + 0.09 * identity.cheekbones) * apple
    cheeks.albedo[1:] *= 1 - identity.blush * apple
    fold = aside - 0.2 - 0.35 * (cheeks.y - identity.eye_height - identity.nose_length)
    depth = _hill(fold / 0.06, (cheeks.y - mouth + 0.13) / 0.22)
    _darken(cheeks, (0.45 * max(identity.wrinkles, 0.0)) * depth)
    chin = face.band(mouth + 0.08, 1.1)
    chin.relief[:] += 0.07 * _hill(chin.x / 0.3, (chin.y - mouth - 0.32) / 0.2)
    dimple = _hill(chin.x / 0.05, (chin.y - mouth - 0.33) / 0.1)
    _darken(chin, 0.5 * max(identity.chin_dimple, 0.0) * dimple)
    mole = _hill(
        (face.x - identity.mole_x) / (max(identity.mole_radius, 0.0) * 1.6 + 1e-3),
        (face.y - identity.mole_y) / (max(identity.mole_radius, 0.0) * 1.6 + 1e-3),
    )
    _darken(face, 0.85 * mole)
    _paint_lines(face, identity)


def _paint_lines(face: _Face, identity: Identity) -> None:
    """Paint freckles over nose and cheeks, and the forehead's lines."""
    if identity.freckles > 0:
        band = face.band(-0.15, 0.5)
        spots = np.sin(band.x * 47 + 3 * np.sin(band.y * 29)) * np.sin(band.y * 53)
        spots += np.sin(band.x * 83) * np.sin(band.y * 71 + band.x * 31)
        where = _hill(band.x / 0.75, (band.y - 0.2) / 0.4)
        _darken(band, identity.freckles * where * np.clip(spots - 0.6, 0, 0.4))
    if identity.wrinkles > 0:
        brow = face.band(-0.75, -0.35)
        lines = np.clip(np.sin(brow.y * 55 + brow.x * brow.x * 3) - 0.5, 0, 1)
        where = _hill(brow.x / 0.5, (brow.y + 0.55) / 0.2)
        _darken(brow, 0.7 * identity.wrinkles * lines * where)


def _paint_nose(face: _Face, identity: Identity, conditions: Conditions) -> None:
    tip = identity.eye_height + identity.nose_length
    nose = face.band(identity.eye_height - 0.12, tip + 0.2)
    # What stands out moves further when the head turns.
    down = np.clip((nose.y - identity.eye_height + 0.1) / (identity.nose_length + 0.1), 0, 1)
    x = nose.x - identity.nose_height * 0.55 * math.tan(conditions.yaw) * down
    width = identity.nose_bridge + (0.6 * identity.nose_width - identity.nose_bridge) * down * down
    end = 1 - _ramp((nose.y - tip) / 0.09)
    ridge = _hill(x / (1.7 * width)) * (0.35 + 0.65 * down) * end
    bump = identity.nose_bump * 0.07 * _hill(x / 0.1, (nose.y - tip + 0.25) / 0.13)
    aside = np.abs(x)
    wings = _hill((aside - 0.62 * identity.nose_width) / 0.09, (nose.y - tip + 0.01) / 0.1)
    nose.relief[:] += identity.nose_height * ridge + bump + 0.08 * wings
    holes = _hill((aside - 0.45 * identity.nose_width) / 0.07, (nose.y - tip - 0.055) / 0.045)
    _darken(nose, np.minimum(1.3 * holes, 0.8))
    crease = _hill((aside - identity.nose_width) / 0.05, (nose.y - tip) / 0.1)
    under = _hill(x / (identity.nose_width * 1.1), (nose.y - tip - 0.1) / 0.08)
    _darken(nose, 0.35 * crease + 0.3 * under)


def _paint_mouth(face: _Face, identity: Identity, conditions: Conditions) -> None:
    middle = _mouth_y(identity)
    smile, gape = conditions.smile, max(conditions.mouth_open, 0.0) * 0.13
    mouth = face.band(middle - 0.25, middle + 0.4)
    width = identity.mouth_width * (1 + 0.22 * smile)
    across = mouth.x / width
    inside = np.maximum(1 - across * across, 0)
    y = mouth.y - middle + (identity.mouth_curve + 0.08 * smile) * (1 - inside) - 0.02 * smile
    bow = 1 - 0.3 * _hill(mouth.x / 0.07)
    tops = identity.upper_lip * (1 - 0.15 * smile) * bow * np.sqrt(inside)
    gap = gape * inside
    bottoms = gap + identity.lower_lip * (1 - 0.15 * smile) * np.sqrt(inside)
    lips = np.minimum(mouth.edge(y + tops), mouth.edge(bottoms - y)) * np.minimum(9 * inside, 1)
    skin = _skin_colour(identity)
    red = _blend(_scaled(skin, 0.72), (0.55, 0.09, 0.09), 0.15 + 0.4 * identity.lip_redness)
    _paint(mouth.albedo, red, lips * 0.9)
    mouth.relief[:] += 0.05 * lips * _hill((y - bottoms * 0.6) / 0.12)
    if gape > 0:
        hole = np.minimum(mouth.edge(y), mouth.edge(gap - y)) * (inside > 0)
        _paint(mouth.albedo, (0.06, 0.012, 0.012), hole)
        teeth = np.minimum(hole, mouth.edge(0.055 - y)) * (0.4 + 0.5 * (smile > 0.1))
        _paint(mouth.albedo, (0.8, 0.76, 0.68), teeth)
    line = mouth.edge(0.014 - np.abs(y)) * np.minimum(6 * inside, 1)
    _darken(mouth, 0.75 * line)
    shade = _hill(across * 0.9, (y - bottoms - 0.05) / 0.07)
    _darken(mouth, 0.3 * shade)


def _paint_beard(face: _Face, identity: Identity) -> None:
    beard, moustache = max(identity.beard, 0.0), max(identity.moustache, 0.0)
    if beard == 0 and moustache == 0:
        return
    middle = _mouth_y(identity)
    band = face.band(-0.1, 1.3)
    aside = np.abs(band.x)
    hairs = 0.88 + 0.12 * np.sin(band.x * 90 + 2 * np.sin(band.y * 60))
    lips = _hill(band.x / (identity.mouth_width * 1.1), (band.y - middle - 0.02) / 0.14)
    bare = np.minimum(2.5 * lips, 1)
    edge = band.y - middle + 0.04 + 0.25 * _hill((aside - identity.face_width) / 0.35)
    jaw = _ramp((edge + 0.08) / 0.12) * (1 - bare)
    top = identity.eye_height + identity.nose_length + 0.07
    lip = _hill(band.x / (identity.mouth_width * 1.25)) ** 0.5 * _ramp((band.y - top) / 0.04)
    lip *= _ramp((middle - 0.005 - band.y) / 0.05)
    amount = np.maximum(jaw * min(1.0, 1.6 * beard), lip * min(1.0, 1.6 * moustache))
    _paint(band.albedo, _scaled(_hair_colour(identity), 1.15), amount * hairs)


def _paint_eyes(face: _Face, identity: Identity, conditions: Conditions) -> None:
    eyes = face.band(identity.eye_height - 0.28, identity.eye_height + 0.28)
    off = np.abs(eyes.x) - identity.eye_spacing  # positive outwards, in both eyes
    y = eyes.y - identity.eye_height - identity.eye_tilt * off
    socket = _hill(off / 0.3, y / 0.26)
    eyes.relief[:] -= 0.05 * socket
    _darken(eyes, identity.eye_shadow * socket)
    across = off / identity.eye_width
    inside = 1 - across * across
    height = identity.eye_opening * identity.eye_width
    lids = max(conditions.lids, 0.0) * (1 - 0.3 * max(conditions.smile, 0.0))
    upper = y + 1.1 * height * lids * inside
    lower = 0.8 * height * min(lids + 0.25, 1.0) * inside - y
    eye = np.minimum(eyes.edge(upper), eyes.edge(lower))
    _paint(eyes.albedo, (0.78, 0.75, 0.72), eye)
    _paint_iris(eyes, identity, conditions, off, y, eye)
    lash = eyes.edge(0.012 + 0.02 * identity.lashes - np.abs(upper - 0.005))
    _darken(eyes, 0.9 * lash * (inside > -0.12))
    _darken(eyes, 0.35 * eyes.edge(0.012 - np.abs(lower)) * (inside > 0))
    crease = y + 1.1 * height * inside + 0.055
    _darken(eyes, 0.55 * identity.lid_fold * _hill(crease / 0.035) * (inside > -0.1))


def _paint_iris(
    eyes: _Face, identity: Identity, conditions: Conditions, off: Map, y: Map, eye: Map
) -> None:
    """Paint iris, pupil and glint where the eye is open; both eyes look the same way."""
    beside = off - np.copysign(np.float32(conditions.gaze_x), eyes.x) * np.sign(conditions.gaze_x)
    away = np.hypot(beside, y - conditions.gaze_y)
    iris = _mix((*_IRIS, _IRIS_GREY), identity.iris_colour)
    radius = identity.iris_radius
    _paint(eyes.albedo, _scaled(iris, 0.5), eye * eyes.edge(radius - away))
    _paint(eyes.albedo, iris, eye * eyes.edge(radius * 0.82 - away))
    _paint(eyes.albedo, (0.005, 0.005, 0.006), eye * eyes.edge(radius * 0.42 - away))
    glint = np.hypot(
        eyes.x - np.copysign(np.float32(identity.eye_spacing), eyes.x) + 0.03, y + 0.03
    )
    _paint(eyes.albedo, (1.0, 1.0, 1.0), 0.85 * eye * eyes.edge(0.022 - glint))


def _paint_brows(face: _Face, identity: Identity, conditions: Conditions) -> None:
    middle = identity.eye_height - identity.brow_distance - conditions.brow_raise
    brows = face.band(middle - 0.25, middle + 0.25)
    off = np.abs(brows.x) - identity.eye_spacing - 0.02
    along = off / identity.brow_length
    inside = np.maximum(1 - along * along, 0)
    y = brows.y - middle - identity.brow_tilt * off + identity.brow_arch * (inside - 0.5)
    half = identity.brow_thickness * np.sqrt(inside) * (1 - 0.35 * along)
    cover = brows.edge(half - np.abs(y)) * (inside > 0)
    brows.relief[:] += 0.03 * _hill(off / 0.35, y / 0.14)
    colour = _blend(_hair_colour(identity), (0.05, 0.03, 0.02), 0.35)
    _paint(brows.albedo, colour, identity.brow_density * cover)


def _paint_glasses(face: _Face, identity: Identity, conditions: Conditions) -> None:
    dark = conditions.occlusion == "sunglasses"
    frame = 0.022 if dark else identity.glasses
    if frame <= 0:
        return
    band = face.band(identity.eye_height - 0.35, identity.eye_height + 0.4)
    x = band.x - 0.1 * math.tan(conditions.yaw)  # glasses stand in front of the face
    aside, y = np.abs(x), band.y - identity.eye_height - 0.02
    across = np.abs(aside - 0.03 - 0.5 * (identity.glasses_width + identity.eye_spacing))
    power = identity.glasses_roundness
    wide, high = identity.glasses_width, 0.8 * identity.glasses_width
    shape = ((across / wide) ** power + (np.abs(y) / high) ** power) ** (1 / power)
    rim = (shape - 1) * high
    colour = _mix(_FRAMES, identity.glasses_colour)
    lens = band.edge(-rim)
    _paint(
        band.albedo,
        (0.02, 0.02, 0.025) if dark else (0.7, 0.75, 0.8),
        lens * (0.93 if dark else 0.06),
    )
    bars = np.minimum(band.edge(0.5 * frame + 0.008 - np.abs(y + 0.06)), band.edge(rim))
    _paint(band.albedo, colour, np.maximum(band.edge(frame - np.abs(rim)), bars))


# ------------------------------------------------------------------------- head, things, camera


def _paint_head(
    canvas: Map,
    identity: Identity,
    conditions: Conditions,
    view: _View,
    head: _Body,
    face: _Face,
    hair: Map,
) -> None:
    """Paint the far ear, the lit head and the near ear in place."""
    light = _light(conditions, _bent(head.normal, face))
    _paint(canvas, face.albedo * light, head.cover * (1 - hair))
    colour = np.asarray(_skin_colour(identity), np.float32)[:, None, None]
    lit = _light(conditions, head.normal)
    for side in (-1.0, 1.0):
        ear = _ear(identity, conditions, view, side)
        # Turned to the right, the head hides its ear on the right, and the left one lies on it.
        if side * conditions.yaw > 0:
            ear *= 1 - head.cover
        if identity.hair_length > 0.3:
            ear *= 0.0
        _paint(canvas, 0.85 * colour * lit, ear)


def _bent(normal: tuple[Map, Map, Map], face: _Face) -> tuple[Map, Map, Map]:
    """Return unit normals of the face: those of the plain head, bent by the relief's slopes."""
    right, down = np.zeros_like(face.relief), np.zeros_like(face.relief)
    scale = 0.5 / face.pixel
    right[:, 1:-1] = (face.relief[:, 2:] - face.relief[:, :-2]) * scale
    down[1:-1] = (face.relief[2:] - face.relief[:-2]) * scale
    x, y = normal[0] - right, normal[1] - down
    length = 1 / np.sqrt(x * x + y * y + normal[2] * normal[2] + 1e-6)
    return x * length, y * length, normal[2] * length


def _ear(identity: Identity, conditions: Conditions, view: _View, side: float) -> Map:
    size = identity.ear_size
    centre = side * (identity.face_width + identity.ear_spread * 0.7) * math.cos(conditions.yaw)
    centre -= 0.1 * math.sin(conditions.yaw)
    middle = identity.eye_height + 0.15 - 0.25 * math.sin(conditions.pitch)
    wide = 0.3 * size + 0.6 * identity.ear_spread + 0.25 * size * abs(math.sin(conditions.yaw))
    away = np.hypot((view.u - centre) / wide, (view.v - middle) / size)
    return np.clip((1 - away) * wide / view.pixel + 0.5, 0, 1)


def _occlude(canvas: Map, conditions: Conditions, view: _View, face: _Face) -> None:
    """Paint what stands between the camera and the face in place; sunglasses are on it already."""
    kind, place = conditions.occlusion, conditions.occlusion_place
    if kind == "object":
        distance = view.u * math.cos(place * 3) + view.v * math.sin(place * 3) - 0.42
    elif kind == "scarf":
        distance = face.y - 0.62 - 0.1 * place + 0.2 * face.x * face.x
    elif kind == "cap":
        distance = -0.55 + 0.08 * place - face.y - 0.1 * face.x * face.x
    else:
        return
    folds = 1 + 0.2 * np.sin(distance * 30 + view.u * 4)
    cloth = np.multiply.outer(np.asarray(conditions.occlusion_colour, np.float32), folds)
    _paint(canvas, cloth, np.clip(distance / view.pixel + 0.5, 0, 1))


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
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


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
