"""Which photographs are compared, and each cut down to a scene: a face 112 px wide and around it.

So a level means the same whatever the size of the photograph. A person's first usable photograph is
the reference, as enrolment would keep it, and is never perturbed; the next few are probes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veilface_client.alignment import PIXELS, TEMPLATE, Transform, scale_of, similarity
from veilface_client.detectors.detection import Detector
from veilface_client.faces import align_face, only_face
from veilface_client.folders import Tally, printable
from veilface_client.images import Crop, Pixels, canvas_pixels, cut_canvas
from veilface_client.sources import Photograph, Source
from veilface_common.errors import DataError

PROBES = 3  # of one person at most: nobody's photographs decide alone
REACH = 1.5  # a scene ends so many widths of the aligned face from its middle, or where it is cut
_CANVAS = canvas_pixels(PIXELS)
_MARGIN = (_CANVAS - PIXELS) // 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A photograph cut down and scaled; `face` leads from it to the template, at scale 1."""

    pixels: Pixels  # [H, W, 3]
    face: Transform


class Eye(Protocol):
    """How a face gets from a photograph to the template."""

    def scene(self, photograph: Pixels) -> Scene:
        """Return the scene in uint8 [H, W, 3]. Raises DataError where there is no face."""

    def align(self, scene: Pixels) -> Pixels:
        """Return the face [112, 112, 3] in a scene [H, W, 3]. Raises DataError where none is."""


class Cropped:
    """Looks where the makers of the set of photographs have the face: nothing is sought."""

    def __init__(self, crop: Crop) -> None:
        self._crop = crop

    def scene(self, photograph: Pixels) -> Scene:
        """Return the canvas around the face."""
        canvas = cut_canvas(photograph, self._crop, _CANVAS)
        pixels = np.ascontiguousarray(canvas.transpose(1, 2, 0))
        return Scene(pixels=pixels, face=np.array(((1.0, 0, -_MARGIN), (0, 1.0, -_MARGIN))))

    def align(self, scene: Pixels) -> Pixels:
        """Return the middle of a canvas."""
        return scene[_MARGIN : _MARGIN + PIXELS, _MARGIN : _MARGIN + PIXELS]


class Sought:
    """Looks for the face with a detector, in the photograph and again in the perturbed scene."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def scene(self, photograph: Pixels) -> Scene:
        """Return the surroundings of the one face, as far as `REACH`."""
        landmarks = only_face(self._detector.detect(photograph)).landmarks
        face = similarity(landmarks, TEMPLATE[: len(landmarks)])
        side = PIXELS / scale_of(face)
        x, y = np.linalg.solve(face[:, :2], PIXELS / 2 - face[:, 2])
        height, width, _ = photograph.shape
        x0, y0 = max(0, math.floor(x - REACH * side)), max(0, math.floor(y - REACH * side))
        x1, y1 = math.ceil(x + REACH * side), math.ceil(y + REACH * side)
        part = photograph[y0 : min(height, y1), x0 : min(width, x1)]
        if not part.size:
            raise DataError("expected a face in the photograph, got landmarks outside of it")
        size = (
            max(1, round(part.shape[1] * PIXELS / side)),
            max(1, round(part.shape[0] * PIXELS / side)),
        )
        shrunk = Image.fromarray(part).resize(size, Image.Resampling.BICUBIC)  # antialiased
        stretch = np.diag((part.shape[1] / size[0], part.shape[0] / size[1]))
        turn = face[:, :2] @ stretch
        return Scene(
            pixels=np.asarray(shrunk),
            face=np.column_stack((turn, face[:, 2] + face[:, :2] @ (x0, y0))),
        )

    def align(self, scene: Pixels) -> Pixels:
        """Return what enrolment would make of it; how good it is, is not asked."""
        return align_face(scene, self._detector).pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenes:
    """A clean reference of each person, and probes that are to be perturbed."""

    references: tuple[Scene, ...]  # [G], one of each person
    probes: tuple[Scene, ...]  # [P]
    people: NDArray[np.int64]  # [P], whose probe it is, an index of references
    warnings: tuple[str, ...]


def choose(
    source: Source,
    eye: Eye,
    *,
    people: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> Scenes:
    """Return scenes of at most so many people, drawn by the seed among those with two photographs.

    Raises:
        DataError: fewer than two people have two usable photographs.
    """
    held = [own for own in _by_person(source.photographs()) if len(own) > 1]
    drawn = np.random.default_rng(seed).permutation(len(held))[:people]
    tally = Tally()
    references: list[Scene] = []
    probes: list[Scene] = []
    whose: list[int] = []
    for done, person in enumerate(sorted(drawn.tolist()), start=1):
        usable = _usable(held[person], eye, tally)
        if len(usable) > 1:
            whose += [len(references)] * (len(usable) - 1)
            references.append(usable[0])
            probes += usable[1:]
        else:
            left = f"{len(usable)} of {len(held[person])}"
            tally.add("person", "left out: fewer than two usable photographs", left)
        progress(done, len(drawn))
    if len(references) < 2:
        raise DataError(
            f"expected two people with two usable photographs each, got {len(references)}",
            hint="; ".join(tally.lines()) or "a reference and a probe of each person are compared",
        )
    return Scenes(
        references=tuple(references),
        probes=tuple(probes),
        people=np.array(whose, np.int64),
        warnings=(*source.warnings, *tally.lines()),
    )


def _by_person(photographs: Iterable[Photograph]) -> list[list[Photograph]]:
    held: dict[str, list[Photograph]] = {}
    for photograph in photographs:
        if photograph.person:  # a damaged record names nobody
            held.setdefault(photograph.person, []).append(photograph)
    return list(held.values())


def _usable(photographs: list[Photograph], eye: Eye, tally: Tally) -> list[Scene]:
    """Return the first scenes in which a face is found while nothing is perturbed."""
    found: list[Scene] = []
    for photograph in photographs:
        if len(found) > PROBES:
            break
        try:
            scene = eye.scene(photograph.load())
            eye.align(scene.pixels)
        except DataError as error:
            # The warning stands in a page that is passed on: it names no file, so nobody.
            outcome = "left out, clean as it is: it does not show one face"
            tally.add("photograph", outcome, printable(str(error)))
        else:
            found.append(scene)
    return found
