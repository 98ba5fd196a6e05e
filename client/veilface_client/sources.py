"""Where faces come from: `kind:where`, one argument for every set of photographs.

| kind | where | face region |
|---|---|---|
| folder | a folder for each person (torchvision's ImageFolder) | the whole picture |
| lfw | Labeled Faces in the Wild, originals or 160 px centre crops | the middle |
| orl | AT&T (Olivetti) faces, `s1/1.pgm` | the whole picture |
| celeba | pictures with `identity_CelebA.txt`, or a folder for each person | below the middle |
| vggface2 | VGGFace2, or the folder above its `train` | the middle |
| ytf | face frames of YouTube Faces, a folder for each person | above the middle |
| casia, ms1m | a folder for each person, or RecordIO's `.rec` and `.idx` | the whole picture |

`kind:where@SHARE` sets the side of the face region as a share of the picture's shorter side, such
as `folder:photos@0.7`; a path that exists with the @ in it is taken as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from veilface_client.folders import (
    Listing,
    PhotoFile,
    Tally,
    list_flat,
    list_people,
    open_subfolder,
    printable,
    resolve_folder,
)
from veilface_client.images import Crop, Pixels, decode, read_photograph
from veilface_client.recordio import RecordFile
from veilface_common.errors import ConfigError, DataError

# How much of a picture is face, by how each set was made.
ALREADY_CROPPED = Crop()  # aligned to 112 px, or cropped by whoever made the folder
LFW = Crop(share=0.8, within_pixels=160)  # funneled: the face is in the middle of 250 px
CELEBA = Crop(share=0.72, centre_y=0.53, made_for=(178, 218))  # eyes at y = 111, 40 px apart
VGGFACE2 = Crop(share=0.8)  # the detector's box, loosened by a factor of 1.3 by its makers
YTF = Crop(share=0.55, centre_y=0.45)  # chosen by error rate, on half of its people

MAX_IDENTITY_BYTES = 2**28
IDENTITY_FILE = "identity_CelebA.txt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Photograph:
    """One photograph before it is decoded."""

    person: str  # folder name or number in the source
    name: str  # path under the source, for warnings
    load: Callable[[], Pixels]  # -> uint8 [H, W, 3], RGB; raises DataError


class Source(Protocol):
    """People and their photographs before decoding, the same ones in the same order each time."""

    @property
    def name(self) -> str:
        """The argument that named it, such as 'lfw:PATH'."""

    @property
    def crop(self) -> Crop:
        """How much of a picture is the face; not applied yet."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that determines the photographs and warnings."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was left out, counted and named."""

    def photographs(self) -> Iterable[Photograph]:
        """Give every photograph; with a length, if it is known before they are read."""


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Photographs in files."""

    name: str
    crop: Crop
    fingerprint: str
    warnings: tuple[str, ...]
    files: tuple[PhotoFile, ...]

    def photographs(self) -> tuple[Photograph, ...]:
        """Return every photograph, by person and name."""
        return tuple(
            Photograph(person=file.person, name=file.name, load=partial(read_photograph, file.path))
            for file in self.files
        )


@dataclass(frozen=True, kw_only=True)
class RecordSource:
    """Photographs in a RecordIO pair; a damaged record is a photograph that does not load."""

    name: str
    crop: Crop
    fingerprint: str
    records: RecordFile
    warnings: tuple[str, ...] = ()

    def photographs(self) -> RecordPhotographs:
        """Return every photograph, by key."""
        return RecordPhotographs(self.records)


class RecordPhotographs:
    """The photographs of a RecordIO pair, one at a time: MS1M has 5.8 million."""

    def __init__(self, records: RecordFile) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Photograph]:
        for key, person in self._records.people():
            name = f"record {key}"
            if isinstance(person, DataError):
                yield Photograph(person="", name=name, load=partial(_raise, person))
            else:
                load = partial(_decode, self._records, key)
                yield Photograph(person=str(person), name=name, load=load)


def _raise(error: DataError) -> Pixels:
    raise error


def _decode(records: RecordFile, key: int) -> Pixels:
    return decode(records.read(key).payload)


def open_source(argument: str) -> Source:
    """Return the photographs that `kind:where` names; lists them, decodes nothing.

    Raises:
        ConfigError: the argument is not of that form, or of no known kind.
        DataError: there is nothing of that kind there.
    """
    kind, colon, where = argument.partition(":")
    if not (colon and where.strip()):
        raise ConfigError(f"expected a source as KIND:WHERE, got {argument!r}", hint=_KINDS_HINT)
    if kind not in KINDS:
        raise ConfigError(f"expected a known kind of source, got {kind!r}", hint=_KINDS_HINT)
    try:
        path, share = _split_share(where)
        source = KINDS[kind](argument, path)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {argument!r}: {reason}") from None
    return source if share is None else replace(source, crop=replace(source.crop, share=share))


def _split_share(where: str) -> tuple[Path, float | None]:
    found = re.fullmatch(r"(.+)@(\d*\.?\d+)", where)
    if found is None or Path(where).exists():
        return Path(where), None
    return Path(found[1]), float(found[2])


def _folder_source(argument: str, listing: Listing, crop: Crop) -> FolderSource:
    if not listing.files:
        left_out = "; ".join(listing.tally.lines()) or "it is empty"
        raise DataError(
            f"expected photographs at {argument}, got none: {left_out}",
            hint="a folder for each person, with that person's photographs in it",
        )
    return FolderSource(
        name=argument,
        crop=crop,
        fingerprint=listing.fingerprint("folder, version 1"),
        warnings=listing.tally.lines(),
        files=listing.files,
    )


def _open_folder(argument: str, path: Path, crop: Crop = ALREADY_CROPPED) -> FolderSource:
    root = resolve_folder(path, "a folder for each person")
    return _folder_source(argument, list_people(root), crop)


def _open_lfw(argument: str, path: Path) -> FolderSource:
    return _open_folder(argument, path, LFW)


def _open_orl(argument: str, path: Path) -> FolderSource:
    root = resolve_folder(path, "the folders s1, s2, ... of ORL")
    return _folder_source(argument, list_people(root, (".pgm",)), ALREADY_CROPPED)


def _open_vggface2(argument: str, path: Path) -> FolderSource:
    root = resolve_folder(path, "the person folders of VGGFace2")
    return _open_folder(argument, open_subfolder(root, "train") or root, VGGFACE2)


def _open_ytf(argument: str, path: Path) -> FolderSource:
    return _open_folder(argument, path, YTF)


def _open_celeba(argument: str, path: Path) -> FolderSource:
    root = resolve_folder(path, "the pictures of CelebA")
    flat = open_subfolder(root, "img_align_celeba") or root
    for identities in (root / IDENTITY_FILE, root.parent / IDENTITY_FILE):
        if identities.is_file():
            listing = _name_people(list_flat(root, flat, IDENTITY_FILE), identities)
            return _folder_source(argument, listing, CELEBA)
    try:
        return _folder_source(argument, list_people(root), CELEBA)
    except DataError as error:
        error.hint = f"{IDENTITY_FILE} beside the pictures, or a folder for each person"
        raise


def _name_people(listing: Listing, identities: Path) -> Listing:
    """Return the photographs with the people that CelebA's identity file gives them."""
    people = _read_identities(identities, listing.tally)
    files = []
    for file in listing.files:
        person = people.pop(file.name, None)
        if person is None:
            listing.tally.add("photograph", f"left out: not in {IDENTITY_FILE}", file.name)
        else:
            files.append(replace(file, person=person))
    for name in people:
        listing.tally.add("photograph", f"missing that {IDENTITY_FILE} names", printable(name))
    files.sort(key=lambda file: (file.person, file.name))
    return Listing(files=tuple(files), tally=listing.tally)


def _read_identities(path: Path, tally: Tally) -> dict[str, str]:
    """Return file name -> person from lines such as '000001.jpg 2880'."""
    if path.stat().st_size > MAX_IDENTITY_BYTES:
        raise DataError(f"expected at most {MAX_IDENTITY_BYTES} bytes in {path.name}, got more")
    people = {}
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
        words = line.split()
        if len(words) == 2 and words[1].isascii() and words[1].isdigit():
            people[words[0]] = words[1]
        elif words:
            tally.add("line", f"of {IDENTITY_FILE} left out: not FILE PERSON", f"line {number}")
    return people


def _open_records(argument: str, path: Path) -> FolderSource | RecordSource:
    """Return CASIA-WebFace or MS1M, in the form that it has at `path`."""
    file = path
    if path.is_dir():
        root = path.resolve()
        found = sorted(root.glob("*.rec"))
        if not found:
            return _open_folder(argument, path)
        file = _only_pair(found, root)
    elif not path.is_file() or path.suffix != ".rec":
        resolve_folder(path, "a .rec file, or a folder with one or with a folder for each person")
    records = RecordFile(path=file)
    try:
        status = [entry.stat() for entry in (records.path, records.index_path)]
    except OSError as error:
        raise DataError(
            f"expected {file.name} and {records.index_path.name} side by side, got one alone",
            hint="the .rec file cannot be read without its .idx file",
        ) from error
    stamps = [f"{entry.st_size} {entry.st_mtime_ns}" for entry in status]
    digest = hashlib.sha256("\n".join(["records, version 1", *stamps]).encode())
    return RecordSource(
        name=argument, crop=ALREADY_CROPPED, fingerprint=digest.hexdigest(), records=records
    )


def _only_pair(found: list[Path], root: Path) -> Path:
    """Return the one .rec file of a folder: `train.rec` if there are more."""
    chosen = [file for file in found if file.name == "train.rec"] or found
    if len(chosen) > 1:
        names = ", ".join(file.name for file in chosen)
        raise DataError(f"expected one .rec file in {root}, got {names}", hint="name the file")
    for file in (chosen[0], chosen[0].with_suffix(".idx")):
        if not file.resolve().is_relative_to(root):
            raise DataError(f"expected {file.name} in {root}, got a link that leads out of it")
    return chosen[0]


_Opener = Callable[[str, Path], FolderSource | RecordSource]
KINDS: dict[str, _Opener] = {
    "folder": _open_folder,
    "lfw": _open_lfw,
    "orl": _open_orl,
    "celeba": _open_celeba,
    "vggface2": _open_vggface2,
    "ytf": _open_ytf,
    "casia": _open_records,
    "ms1m": _open_records,
}
_KINDS_HINT = "kinds: " + ", ".join(f"{kind}:PATH" for kind in KINDS)
