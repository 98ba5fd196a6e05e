"""A folder of photographs, listed without trusting it.

Links may lead from one place in the folder to another, never out of it: a shared folder must not
become a way to read someone's other files. Everything that is left out is counted and named.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from veilface_client.images import SUFFIXES
from veilface_common.errors import DataError


class Tally:
    """Things left out, counted by reason, each with the first one's name."""

    def __init__(self) -> None:
        self._reasons: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, noun: str, outcome: str, name: str) -> None:
        """Count one more `noun` with this outcome."""
        count, first = self._reasons.get((noun, outcome), (0, name))
        self._reasons[noun, outcome] = count + 1, first

    def lines(self) -> tuple[str, ...]:
        """Return a line for each reason: '3 files left out: not images (first: README.txt)'."""
        return tuple(
            f"{count} {_plural(noun) if count > 1 else noun} {outcome} (first: {first})"
            for (noun, outcome), (count, first) in self._reasons.items()
        )


def _plural(noun: str) -> str:
    return "people" if noun == "person" else noun + "s"


def printable(name: str) -> str:
    """Return a file's name without what a terminal would obey or no file could be written with."""
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in name
    )


@dataclass(frozen=True, kw_only=True)
class PhotoFile:
    """A file in a folder that looks like a photograph, and what its listing said."""

    person: str  # name of the folder under the root; empty for a file in the root itself
    name: str  # path under the root
    path: Path  # where it is, links resolved
    size: int
    modified: int  # nanoseconds


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The photographs in a folder, by name, and a count of what was left out."""

    files: tuple[PhotoFile, ...]
    tally: Tally

    def fingerprint(self, *more: str) -> str:
        """Return a digest that changes when a file is added, removed, renamed or written to."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.name!r} {file.size} {file.modified}\n".encode())
        # What is left out is told with the faces, so that a cache of them must follow it too.
        for line in (*more, *self.tally.lines()):
            digest.update(f"{line!r}\n".encode())
        return digest.hexdigest()


@dataclass
class _Walk:
    root: Path  # resolved
    suffixes: frozenset[str]
    tally: Tally = field(default_factory=Tally)

    def person(self, folder: Path, name: str) -> list[PhotoFile]:
        """Return the photographs anywhere under one person's folder."""
        found: list[PhotoFile] = []
        seen: set[Path] = set()
        pending = [(folder, name)]
        while pending:
            below, label = pending.pop()
            if below in seen:
                self.tally.add(
                    "link", "left out: to a folder that is read already", printable(label)
                )
                continue
            seen.add(below)
            for entry, path, is_folder in self.entries(below, label):
                if is_folder:
                    pending.append((path, f"{label}/{entry}"))
                else:
                    found += self.file(path, name, f"{label}/{entry}")
        if not found:
            self.tally.add("person folder", "left out: without a photograph", printable(name))
        return found

    def file(self, path: Path, person: str, name: str) -> Iterator[PhotoFile]:
        """Give the file if its name ends like a photograph's."""
        if path.suffix.lower() not in self.suffixes:
            self.tally.add("file", "left out: not named like an image", printable(name))
            return
        try:
            status = path.stat()
        except OSError:
            self.tally.add("file", "left out: gone or forbidden", printable(name))
            return
        yield PhotoFile(
            person=printable(person),
            name=printable(name),
            path=path,
            size=status.st_size,
            modified=status.st_mtime_ns,
        )

    def entries(self, folder: Path, label: str) -> Iterator[tuple[str, Path, bool]]:
        """Give (name, resolved path, is it a folder); links out of the root are left out."""
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            self.tally.add("folder", "left out: it cannot be opened", printable(label or "."))
            return
        for entry in entries:
            if entry.is_symlink():
                yield from self.link(entry, f"{label}/{entry.name}" if label else entry.name)
            else:
                yield entry.name, Path(entry.path), entry.is_dir(follow_symlinks=False)

    def link(self, entry: os.DirEntry[str], label: str) -> Iterator[tuple[str, Path, bool]]:
        """Give what a link leads to, if that is in the root."""
        try:
            path = Path(entry.path).resolve(strict=True)
            is_folder = path.is_dir()
        except (OSError, RuntimeError):  # RuntimeError: links in a circle
            self.tally.add("symbolic link", "left out: leading nowhere", printable(label))
            return
        if path.is_relative_to(self.root):
            yield entry.name, path, is_folder
        else:
            self.tally.add("symbolic link", "left out: leading out of the folder", printable(label))


def open_subfolder(root: Path, name: str) -> Path | None:
    """Return the folder `name` in a resolved `root`, if there is one.

    Raises:
        DataError: it is a link that leads out of the root.
    """
    below = (root / name).resolve()
    if not below.is_dir():
        return None
    if not below.is_relative_to(root):
        raise DataError(f"expected the folder {name} in {root}, got a link that leads out of it")
    return below


def resolve_folder(path: Path, what: str) -> Path:
    """Return the folder itself, behind any links.

    Raises:
        DataError: there is no such folder.
    """
    try:
        resolved = path.resolve(strict=True)
    except (FileNotFoundError, RuntimeError):
        raise DataError(
            f"expected {what} at {path}, got nothing there",
            hint="check the path; it is taken from the folder that the command runs in",
        ) from None
    if not resolved.is_dir():
        raise DataError(
            f"expected {what} at {path}, got a file", hint="name the folder that holds the pictures"
        )
    return resolved


def list_people(root: Path, suffixes: Iterable[str] = SUFFIXES) -> Listing:
    """Return the photographs of a folder with a folder for each person, at any depth below that."""
    walk = _Walk(root=root, suffixes=frozenset(suffixes))
    files: list[PhotoFile] = []
    for name, path, is_folder in walk.entries(root, ""):
        if is_folder:
            files += walk.person(path, name)
        else:
            walk.tally.add("file", "left out: beside the person folders", printable(name))
    files.sort(key=lambda file: file.name.split("/"))
    return Listing(files=tuple(files), tally=walk.tally)


def list_flat(root: Path, folder: Path, ignore: str) -> Listing:
    """Return the photographs right in `folder`, of nobody yet; links may lead within `root`.

    The file named `ignore` is not missed.
    """
    walk = _Walk(root=root, suffixes=SUFFIXES)
    files: list[PhotoFile] = []
    for name, path, is_folder in walk.entries(folder, ""):
        if is_folder:
            walk.tally.add("folder", "left out: beside the photographs", printable(name))
        elif name != ignore:
            files += walk.file(path, "", name)
    return Listing(files=tuple(files), tally=walk.tally)
