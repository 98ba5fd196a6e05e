"""Faces ready for a network: decoded, cropped, mapped from the cache, with the people they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veilface_client.cache import (
    FORMAT,
    Index,
    PixelWriter,
    build_lock,
    entry_key,
    read_entry,
    write_entry,
)
from veilface_client.folders import Tally, printable
from veilface_client.images import Crop, PhotographError, Pixels, cut_canvas
from veilface_client.sources import Photograph, Source
from veilface_common.errors import DataError

Progress = Callable[[int, int], None]  # (photographs done, photographs in all)


@dataclass(frozen=True, kw_only=True, eq=False)
class Faces:
    """Faces of people, the pixels shared with every other choice from the same cache entry.

    Face i is `images[rows[i]]`, shows `people[i]` and was read from `photo_names[i]`.
    """

    path: Path  # of the cache entry, for `open_faces`
    images: Pixels  # [M, 3, P, P], RGB, mapped and read-only; M >= N
    rows: NDArray[np.int64]  # [N]
    people: NDArray[np.int64]  # [N], index into person_names
    person_names: tuple[str, ...]
    photo_names: tuple[str, ...]  # [N]
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        """The number of faces, N."""
        return len(self.rows)

    def __getitem__(self, faces: NDArray[np.int64] | slice) -> Pixels:
        """Return a copy of the pixels of some faces: [n] -> [n, 3, P, P]."""
        return self.images[self.rows[faces]]

    def photographs_per_person(self) -> NDArray[np.int64]:
        """Return how many faces each person has: [people]."""
        return np.bincount(self.people, minlength=len(self.person_names))

    def of_people(self, chosen: Sequence[int]) -> Faces:
        """Return the faces of these people alone, numbered in the order given; copies no pixels."""
        number = np.full(len(self.person_names), -1, dtype=np.int64)
        number[np.asarray(chosen, dtype=np.int64)] = np.arange(len(chosen))
        people = number[self.people]
        (kept,) = np.nonzero(people >= 0)
        return replace(
            self,
            rows=self.rows[kept],
            people=people[kept],
            person_names=tuple(self.person_names[person] for person in chosen),
            photo_names=tuple(self.photo_names[face] for face in kept),
        )


def load_faces(
    source: Source, *, pixels: int, cache: Path, progress: Progress | None = None
) -> Faces:
    """Return every readable face of a source as a canvas of `pixels` x `pixels`.

    Decodes what `cache` does not hold yet; `images.canvas_pixels` says how large a canvas a network
    needs. Photographs that cannot be read are left out and counted in the warnings.

    Raises:
        DataError: not one photograph can be read, or the cache cannot be written.
    """
    key = entry_key(source.fingerprint, source.crop, pixels)
    path = cache / f"{key}.json"
    entry = read_entry(path)
    if entry is None:
        try:
            with build_lock(cache, key):
                entry = read_entry(path) or _build_entry(source, pixels, path, progress)
        except OSError as error:
            raise DataError(
                f"cannot write decoded faces to {cache}: {error.strerror or error}",
                hint="it needs room for 3 bytes a pixel of every canvas",
            ) from error
    return _faces(path, *entry)


def open_faces(path: Path) -> Faces:
    """Return the faces of a cache entry, named by `Faces.path`, without their source.

    Raises:
        DataError: there is no whole entry at `path`.
    """
    entry = read_entry(path)
    if entry is None:
        raise DataError(
            f"expected decoded faces at {path}, got nothing whole there",
            hint="load the photographs again",
        )
    return _faces(path, *entry)


def check_trainable(faces: Faces) -> None:
    """Do nothing if a recognizer can be trained on these faces.

    Raises:
        DataError: they do not show two people; one alone cannot be told from anyone.
    """
    people = int(np.count_nonzero(faces.photographs_per_person()))
    if people < 2:
        raise DataError(
            f"expected faces of at least 2 people to train on, got {people}",
            hint="a folder for each person, with that person's photographs in it",
        )


def check_evaluable(faces: Faces) -> None:
    """Do nothing if a recognizer can be measured on these faces.

    Raises:
        DataError: they hold no genuine pair, of one person, or no impostor pair, of two.
    """
    photographs = faces.photographs_per_person()
    if np.count_nonzero(photographs) < 2:
        raise DataError(
            "expected faces of at least 2 people to evaluate on, got "
            f"{np.count_nonzero(photographs)}",
            hint="without a second person there is nobody to take a face for",
        )
    if photographs.max() < 2:
        raise DataError(
            "expected a second photograph of somebody to evaluate on, got one of each person",
            hint="without two photographs of one person there is no genuine pair to compare",
        )


def _faces(path: Path, index: Index, images: Pixels) -> Faces:
    return Faces(
        path=path,
        images=images,
        rows=np.arange(len(index.people), dtype=np.int64),
        people=np.asarray(index.people, dtype=np.int64),
        person_names=index.person_names,
        photo_names=index.photo_names,
        warnings=index.warnings,
    )


class _Gathered:
    """What is known of the faces so far; a person counts from the first face that can be read."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.people: list[int] = []
        self.photo_names: list[str] = []
        self.without_face: dict[str, None] = {}
        self.tally = Tally()

    def keep(self, photograph: Photograph) -> None:
        self.people.append(self.numbers.setdefault(photograph.person, len(self.numbers)))
        self.photo_names.append(photograph.name)
        self.without_face.pop(photograph.person, None)

    def leave_out(self, photograph: Photograph, error: DataError) -> None:
        fault = error.fault if isinstance(error, PhotographError) else "damaged"
        detail = printable(f"{photograph.name}: {error}")
        self.tally.add("photograph", f"could not be read: {fault}", detail)
        if photograph.person and photograph.person not in self.numbers:
            self.without_face[photograph.person] = None

    def warnings(self) -> tuple[str, ...]:
        for person in self.without_face:
            self.tally.add("person", "left out: no readable photograph", printable(person))
        return self.tally.lines()


def _build_entry(
    source: Source, pixels: int, path: Path, progress: Progress | None
) -> tuple[Index, Pixels]:
    gathered = _Gathered()
    with PixelWriter(path.parent, path.stem) as writer:
        photographs = source.photographs()
        if not isinstance(photographs, Sized):
            photographs = list(photographs)
        for done, photograph in enumerate(photographs, start=1):
            canvas = _read_canvas(photograph, source.crop, pixels, gathered)
            if canvas is not None:
                writer.append(canvas)
            if progress is not None:
                progress(done, len(photographs))
        warnings = source.warnings + gathered.warnings()
        if not gathered.people:
            left_out = "; ".join(warnings) or "there are none"
            raise DataError(f"expected readable photographs at {source.name}, got none: {left_out}")
        pixels_file = writer.commit()
    index = Index(
        format=FORMAT,
        pixels_file=pixels_file,
        side=pixels,
        people=tuple(gathered.people),
        person_names=tuple(gathered.numbers),
        photo_names=tuple(gathered.photo_names),
        warnings=warnings,
    )
    write_entry(path, index)
    entry = read_entry(path)
    if entry is None:
        raise DataError(
            f"expected decoded faces at {path}, got something else: is it being removed?"
        )
    return entry


def _read_canvas(
    photograph: Photograph, crop: Crop, pixels: int, gathered: _Gathered
) -> Pixels | None:
    """Return the canvas of a photograph that can be read; take note of it either way."""
    try:
        picture = photograph.load()  # [H, W, 3]
    except DataError as error:
        gathered.leave_out(photograph, error)
        return None
    gathered.keep(photograph)
    height, width, _ = picture.shape
    if crop.made_for and not crop.fits(width, height):
        expected = "{} x {}".format(*crop.made_for)
        outcome = f"not aligned to {expected}, so cropped around the middle, face or not"
        gathered.tally.add("photograph", outcome, printable(photograph.name))
    return cut_canvas(picture, crop, pixels)
