"""What is painted on a face: skin, nose, mouth, beard, eyes, brows and glasses."""

from __future__ import annotations

import math

import numpy as np

from veilface_simulations.sitter import Conditions, Identity
from veilface_simulations.surface import (
    Body,
    Colour,
    Face,
    Map,
    View,
    blend,
    darken,
    hair_colour,
    hill,
    mix,
    paint,
    ramp,
    scaled,
    skin_colour,
    unit,
)

# Linear RGB.
_IRIS = ((0.06, 0.025, 0.01), (0.2, 0.11, 0.03), (0.12, 0.2, 0.08), (0.09, 0.25, 0.5))
_IRIS_GREY: Colour = (0.4, 0.47, 0.52)
_FRAMES = ((0.01, 0.01, 0.012), (0.1, 0.04, 0.015), (0.3, 0.02, 0.03), (0.55, 0.5, 0.4))


def painted_face(identity: Identity, conditions: Conditions, view: View, head: Body) -> Face:
    """Return the face with all that is painted on it."""
    albedo = np.empty((3, *head.x.shape), np.float32)
    albedo[:] = np.asarray(skin_colour(identity), np.float32)[:, None, None]
    face = Face(x=head.x, y=head.y, albedo=albedo, relief=np.zeros_like(head.x), pixel=view.pixel)
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


def _paint_skin(face: Face, identity: Identity) -> None:
    mouth = _mouth_y(identity)
    cheeks = face.band(-0.2, 0.75)
    aside = np.abs(cheeks.x)
    apple = hill((aside - 0.38) / 0.3, (cheeks.y - identity.eye_height - 0.34) / 0.26)
    cheeks.relief[:] += (0.02 + 0.09 * identity.cheekbones) * apple
    cheeks.albedo[1:] *= 1 - identity.blush * apple
    fold = aside - 0.2 - 0.35 * (cheeks.y - identity.eye_height - identity.nose_length)
    depth = hill(fold / 0.06, (cheeks.y - mouth + 0.13) / 0.22)
    darken(cheeks, (0.45 * max(identity.wrinkles, 0.0)) * depth)
    chin = face.band(mouth + 0.08, 1.1)
    chin.relief[:] += 0.07 * hill(chin.x / 0.3, (chin.y - mouth - 0.32) / 0.2)
    dimple = hill(chin.x / 0.05, (chin.y - mouth - 0.33) / 0.1)
    darken(chin, 0.5 * max(identity.chin_dimple, 0.0) * dimple)
    mole = hill(
        (face.x - identity.mole_x) / (max(identity.mole_radius, 0.0) * 1.6 + 1e-3),
        (face.y - identity.mole_y) / (max(identity.mole_radius, 0.0) * 1.6 + 1e-3),
    )
    darken(face, 0.85 * mole)
    _paint_lines(face, identity)


def _paint_lines(face: Face, identity: Identity) -> None:
    """Paint freckles over nose and cheeks, and the forehead's lines."""
    if identity.freckles > 0:
        band = face.band(-0.15, 0.5)
        spots = np.sin(band.x * 47 + 3 * np.sin(band.y * 29)) * np.sin(band.y * 53)
        spots += np.sin(band.x * 83) * np.sin(band.y * 71 + band.x * 31)
        where = hill(band.x / 0.75, (band.y - 0.2) / 0.4)
        darken(band, identity.freckles * where * np.clip(spots - 0.6, 0, 0.4))
    if identity.wrinkles > 0:
        brow = face.band(-0.75, -0.35)
        lines = unit(np.sin(brow.y * 55 + brow.x * brow.x * 3) - 0.5)
        where = hill(brow.x / 0.5, (brow.y + 0.55) / 0.2)
        darken(brow, 0.7 * identity.wrinkles * lines * where)


def _paint_nose(face: Face, identity: Identity, conditions: Conditions) -> None:
    tip = identity.eye_height + identity.nose_length
    nose = face.band(identity.eye_height - 0.12, tip + 0.2)
    # What stands out moves further when the head turns.
    down = unit((nose.y - identity.eye_height + 0.1) / (identity.nose_length + 0.1))
    x = nose.x - identity.nose_height * 0.55 * math.tan(conditions.yaw) * down
    width = identity.nose_bridge + (0.6 * identity.nose_width - identity.nose_bridge) * down * down
    end = 1 - ramp((nose.y - tip) / 0.09)
    ridge = hill(x / (1.7 * width)) * (0.35 + 0.65 * down) * end
    bump = identity.nose_bump * 0.07 * hill(x / 0.1, (nose.y - tip + 0.25) / 0.13)
    aside = np.abs(x)
    wings = hill((aside - 0.62 * identity.nose_width) / 0.09, (nose.y - tip + 0.01) / 0.1)
    nose.relief[:] += identity.nose_height * ridge + bump + 0.08 * wings
    holes = hill((aside - 0.45 * identity.nose_width) / 0.07, (nose.y - tip - 0.055) / 0.045)
    darken(nose, np.minimum(1.3 * holes, 0.8))
    crease = hill((aside - identity.nose_width) / 0.05, (nose.y - tip) / 0.1)
    under = hill(x / (identity.nose_width * 1.1), (nose.y - tip - 0.1) / 0.08)
    darken(nose, 0.35 * crease + 0.3 * under)


def _paint_mouth(face: Face, identity: Identity, conditions: Conditions) -> None:
    middle = _mouth_y(identity)
    smile, gape = conditions.smile, max(conditions.mouth_open, 0.0) * 0.13
    mouth = face.band(middle - 0.25, middle + 0.4)
    width = identity.mouth_width * (1 + 0.22 * smile)
    across = mouth.x / width
    inside = np.maximum(1 - across * across, 0)
    y = mouth.y - middle + (identity.mouth_curve + 0.08 * smile) * (1 - inside) - 0.02 * smile
    bow = 1 - 0.3 * hill(mouth.x / 0.07)
    tops = identity.upper_lip * (1 - 0.15 * smile) * bow * np.sqrt(inside)
    gap = gape * inside
    bottoms = gap + identity.lower_lip * (1 - 0.15 * smile) * np.sqrt(inside)
    lips = np.minimum(mouth.edge(y + tops), mouth.edge(bottoms - y)) * np.minimum(9 * inside, 1)
    skin = skin_colour(identity)
    red = blend(scaled(skin, 0.72), (0.55, 0.09, 0.09), 0.15 + 0.4 * identity.lip_redness)
    paint(mouth.albedo, red, lips * 0.9)
    mouth.relief[:] += 0.05 * lips * hill((y - bottoms * 0.6) / 0.12)
    if gape > 0:
        hole = np.minimum(mouth.edge(y), mouth.edge(gap - y)) * (inside > 0)
        paint(mouth.albedo, (0.06, 0.012, 0.012), hole)
        teeth = np.minimum(hole, mouth.edge(0.055 - y)) * (0.4 + 0.5 * (smile > 0.1))
        paint(mouth.albedo, (0.8, 0.76, 0.68), teeth)
    line = mouth.edge(0.014 - np.abs(y)) * np.minimum(6 * inside, 1)
    darken(mouth, 0.75 * line)
    shade = hill(across * 0.9, (y - bottoms - 0.05) / 0.07)
    darken(mouth, 0.3 * shade)


def _paint_beard(face: Face, identity: Identity) -> None:
    beard, moustache = max(identity.beard, 0.0), max(identity.moustache, 0.0)
    if beard == 0 and moustache == 0:
        return
    middle = _mouth_y(identity)
    band = face.band(-0.1, 1.3)
    aside = np.abs(band.x)
    hairs = 0.93 + 0.07 * np.sin(band.x * 90 + 2 * np.sin(band.y * 60))
    lips = hill(band.x / (identity.mouth_width * 1.1), (band.y - middle - 0.02) / 0.14)
    bare = np.minimum(2.5 * lips, 1)
    edge = band.y - middle + 0.04 + 0.25 * hill((aside - identity.face_width) / 0.35)
    jaw = ramp((edge + 0.08) / 0.12) * (1 - bare)
    top = identity.eye_height + identity.nose_length + 0.07
    lip = hill(band.x / (identity.mouth_width * 1.25)) ** 0.5 * ramp((band.y - top) / 0.04)
    lip *= ramp((middle - 0.005 - band.y) / 0.05)
    amount = np.maximum(jaw * min(1.0, 1.6 * beard), lip * min(1.0, 1.6 * moustache))
    paint(band.albedo, scaled(hair_colour(identity), 1.15), amount * hairs)


def _paint_eyes(face: Face, identity: Identity, conditions: Conditions) -> None:
    eyes = face.band(identity.eye_height - 0.28, identity.eye_height + 0.28)
    off = np.abs(eyes.x) - identity.eye_spacing  # positive outwards, in both eyes
    y = eyes.y - identity.eye_height - identity.eye_tilt * off
    socket = hill(off / 0.3, y / 0.26)
    eyes.relief[:] -= 0.05 * socket
    darken(eyes, identity.eye_shadow * socket)
    across = off / identity.eye_width
    inside = 1 - across * across
    height = identity.eye_opening * identity.eye_width
    lids = max(conditions.lids, 0.0) * (1 - 0.3 * max(conditions.smile, 0.0))
    upper = y + 1.1 * height * lids * inside
    lower = 0.8 * height * min(lids + 0.25, 1.0) * inside - y
    eye = np.minimum(eyes.edge(upper), eyes.edge(lower))
    paint(eyes.albedo, (0.78, 0.75, 0.72), eye)
    _paint_iris(eyes, identity, conditions, off, y, eye)
    lash = eyes.edge(0.012 + 0.02 * identity.lashes - np.abs(upper - 0.005))
    darken(eyes, 0.9 * lash * (inside > -0.12))
    darken(eyes, 0.35 * eyes.edge(0.012 - np.abs(lower)) * (inside > 0))
    crease = y + 1.1 * height * inside + 0.055
    darken(eyes, 0.55 * identity.lid_fold * hill(crease / 0.035) * (inside > -0.1))


def _paint_iris(
    eyes: Face, identity: Identity, conditions: Conditions, off: Map, y: Map, eye: Map
) -> None:
    """Paint iris, pupil and glint where the eye is open; both eyes look the same way."""
    beside = off - np.copysign(np.float32(conditions.gaze_x), eyes.x) * np.sign(conditions.gaze_x)
    away = np.hypot(beside, y - conditions.gaze_y)
    iris = mix((*_IRIS, _IRIS_GREY), identity.iris_colour)
    radius = identity.iris_radius
    paint(eyes.albedo, scaled(iris, 0.5), eye * eyes.edge(radius - away))
    paint(eyes.albedo, iris, eye * eyes.edge(radius * 0.82 - away))
    paint(eyes.albedo, (0.005, 0.005, 0.006), eye * eyes.edge(radius * 0.42 - away))
    glint = np.hypot(
        eyes.x - np.copysign(np.float32(identity.eye_spacing), eyes.x) + 0.03, y + 0.03
    )
    paint(eyes.albedo, (1.0, 1.0, 1.0), 0.85 * eye * eyes.edge(0.022 - glint))


def _paint_brows(face: Face, identity: Identity, conditions: Conditions) -> None:
    middle = identity.eye_height - identity.brow_distance - conditions.brow_raise
    brows = face.band(middle - 0.25, middle + 0.25)
    off = np.abs(brows.x) - identity.eye_spacing - 0.02
    along = off / identity.brow_length
    inside = np.maximum(1 - along * along, 0)
    y = brows.y - middle - identity.brow_tilt * off + identity.brow_arch * (inside - 0.5)
    half = identity.brow_thickness * np.sqrt(inside) * (1 - 0.35 * along)
    cover = brows.edge(half - np.abs(y)) * (inside > 0)
    brows.relief[:] += 0.03 * hill(off / 0.35, y / 0.14)
    colour = blend(hair_colour(identity), (0.05, 0.03, 0.02), 0.35)
    paint(brows.albedo, colour, identity.brow_density * cover)


def _paint_glasses(face: Face, identity: Identity, conditions: Conditions) -> None:
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
    colour = mix(_FRAMES, identity.glasses_colour)
    lens = band.edge(-rim)
    paint(
        band.albedo,
        (0.02, 0.02, 0.025) if dark else (0.7, 0.75, 0.8),
        lens * (0.93 if dark else 0.06),
    )
    bars = np.minimum(band.edge(0.5 * frame + 0.008 - np.abs(y + 0.06)), band.edge(rim))
    paint(band.albedo, colour, np.maximum(band.edge(frame - np.abs(rim)), bars))
