"""Who sits for a drawn photograph, and how it is taken: numbers alone, no pixels.

Lengths are in head units: the tight face region is the square [-1, 1] x [-1, 1] with x to the
right and y down, the canvas around it reaches to 1.25. Each field carries the range that
`veilface_simulations.drawn` draws it from; where a range reaches below zero, values at or below
zero mean that the person does not have the thing (most people wear no glasses).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Occlusion = Literal["none", "object", "sunglasses", "scarf", "cap"]


def _between(low: float, high: float) -> Any:
    """Return a field without default that remembers the range it is drawn from."""
    return dataclasses.field(metadata={"range": (low, high)})


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What stays the same in every photograph of one person."""

    # Head
    face_width: float = _between(0.62, 0.82)  # half-width at the cheekbones
    jaw_width: float = _between(0.5, 0.92)  # width at the chin's height, as a share of the face's
    jaw_squareness: float = _between(2.2, 4.8)  # exponent of the outline: oval to square
    chin_length: float = _between(-0.1, 0.1)  # added below the mouth
    cheek_fullness: float = _between(-0.03, 0.06)  # added to the half-width beside the nose
    cheekbones: float = _between(0.0, 1.0)  # strength of the relief
    chin_dimple: float = _between(-1.0, 1.0)
    ear_size: float = _between(0.12, 0.24)  # half-height
    ear_spread: float = _between(0.0, 0.09)  # how far the ears stand off
    # Skin
    melanin: float = _between(0.0, 1.0)  # fair to dark
    ruddiness: float = _between(-1.0, 1.0)  # olive to pink
    blush: float = _between(0.0, 0.4)  # redness of the cheeks
    freckles: float = _between(-1.6, 1.0)
    mole_x: float = _between(-0.45, 0.45)
    mole_y: float = _between(0.1, 0.75)
    mole_radius: float = _between(-0.06, 0.045)
    wrinkles: float = _between(-0.6, 1.0)  # folds from nose to mouth, lines on the forehead
    # Eyes
    eye_spacing: float = _between(0.25, 0.37)  # of each eye's centre from the midline
    eye_height: float = _between(-0.13, 0.03)  # y of the eyes
    eye_width: float = _between(0.135, 0.2)  # half-width
    eye_opening: float = _between(0.36, 0.68)  # half-height, as a share of the half-width
    eye_tilt: float = _between(-0.25, 0.25)  # slope; positive: the outer corners hang
    iris_colour: float = _between(0.0, 1.0)  # brown, hazel, green, blue, grey
    iris_radius: float = _between(0.065, 0.095)
    lid_fold: float = _between(0.0, 1.0)  # depth of the crease above the eye
    lashes: float = _between(0.2, 1.0)  # strength of the upper lid's line
    eye_shadow: float = _between(0.0, 0.5)  # darkness of the sockets
    # Brows
    brow_distance: float = _between(0.16, 0.3)  # above the eyes
    brow_thickness: float = _between(0.02, 0.065)
    brow_length: float = _between(0.15, 0.26)  # half-length
    brow_tilt: float = _between(-0.2, 0.28)  # positive: the outer ends hang
    brow_arch: float = _between(0.0, 0.09)
    brow_density: float = _between(0.35, 1.0)
    # Nose
    nose_length: float = _between(0.3, 0.5)  # below the eyes
    nose_width: float = _between(0.1, 0.21)  # half-width at the wings
    nose_bridge: float = _between(0.05, 0.11)  # half-width of the ridge
    nose_height: float = _between(0.08, 0.22)  # how far it stands out
    nose_bump: float = _between(-0.5, 1.0)  # a bump half way down the ridge
    # Mouth
    mouth_gap: float = _between(0.17, 0.3)  # below the nose
    mouth_width: float = _between(0.19, 0.34)  # half-width
    upper_lip: float = _between(0.025, 0.085)
    lower_lip: float = _between(0.035, 0.11)
    lip_redness: float = _between(0.0, 1.0)
    mouth_curve: float = _between(-0.05, 0.05)  # at rest; positive: the corners rise
    # Hair
    hair_lightness: float = _between(-0.25, 1.0)  # black (at or below 0) to blond
    hair_redness: float = _between(-0.8, 0.8)
    hair_grey: float = _between(-2.0, 1.0)
    hair_density: float = _between(0.05, 2.4)  # below 1 the scalp shows
    hair_volume: float = _between(0.02, 0.17)  # how far it stands off the skull
    hair_length: float = _between(-0.5, 1.4)  # y that it falls to
    hairline: float = _between(-0.88, -0.52)  # y of its edge in the middle of the forehead
    hair_parting: float = _between(-0.45, 0.45)  # x at which it parts
    fringe: float = _between(-0.25, 0.42)  # how far it falls beside the parting; below 0: recedes
    hair_curl: float = _between(0.0, 1.0)
    # Beard and glasses
    beard: float = _between(-1.5, 1.0)
    moustache: float = _between(-1.5, 1.0)
    glasses: float = _between(-0.055, 0.03)  # thickness of the frame
    glasses_width: float = _between(0.2, 0.27)  # half-width of a lens
    glasses_roundness: float = _between(2.0, 6.0)  # exponent of the outline: round to square
    glasses_colour: float = _between(0.0, 1.0)  # black, brown, red, metal


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What differs between photographs of one person. Angles are in radians."""

    # Pose and framing
    yaw: float = _between(-0.5, 0.5)
    pitch: float = _between(-0.25, 0.25)
    roll: float = _between(-0.2, 0.2)
    shift_x: float = _between(-0.07, 0.07)
    shift_y: float = _between(-0.07, 0.07)
    zoom: float = _between(0.92, 1.1)
    # Expression
    smile: float = _between(-0.25, 1.0)
    mouth_open: float = _between(-0.8, 1.0)
    brow_raise: float = _between(-0.04, 0.07)
    lids: float = _between(0.45, 1.2)  # 0: shut, 1: as open as at rest
    gaze_x: float = _between(-0.06, 0.06)
    gaze_y: float = _between(-0.03, 0.03)
    # Light
    light_azimuth: float = _between(-1.5, 1.5)
    light_elevation: float = _between(-0.3, 1.1)
    light_share: float = _between(0.3, 0.93)  # of the light that comes from one direction
    warmth: float = _between(-0.4, 0.4)  # blue to orange
    tint: float = _between(-0.09, 0.09)  # magenta to green
    ambient_warmth: float = _between(-0.4, 0.4)
    # Surroundings
    background: tuple[float, float, float]  # linear RGB
    backdrop: tuple[float, float, float]  # linear RGB that the background passes into
    clothes: tuple[float, float, float]  # linear RGB
    clutter: float = _between(0.0, 1.0)  # contrast of the things in the background
    hair_mess: float = _between(-0.05, 0.05)  # volume of the hair on the day
    occlusion: Occlusion
    occlusion_colour: tuple[float, float, float]  # linear RGB
    occlusion_place: float = _between(-1.0, 1.0)
    # Camera
    exposure: float = _between(-1.0, 0.9)  # in stops
    contrast: float = _between(0.75, 1.4)
    saturation: float = _between(0.5, 1.4)
    blur: float = _between(-1.0, 0.75)  # radius in 64ths of the tight face region
    noise: float = _between(0.0, 0.025)  # standard deviation, as a share of full scale
    grain: int  # seed of the clutter and the noise
