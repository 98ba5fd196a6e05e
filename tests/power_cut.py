"""Power cuts, replayed: what is asked of a disk is written down, and disks are rebuilt from it.

A disk keeps what was synced. Of everything else it may keep all, nothing, some writes and not the
ones before them, or single sectors of a write; a name that was made, moved or removed may be as
before until its folder was synced. `power_cuts` rebuilds such disks for a cut after every step.

`recorded` stands between the SQLite of Python's own `sqlite3` and the operating system (see
`recording_vfs`), so the code under test runs as it is: any journal mode, locks and shared memory
included. What Python itself writes in the folder is seen where it is synced, linked or renamed, as
`veilface_common.files` does. Every connection that is opened inside is closed inside.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args
from unittest.mock import patch

from tests.recording_vfs import Kind, RecordingVfs, Refuse, Step

SECTOR = 512
How = Literal["nothing", "everything", "some", "torn"]  # what it kept of what was not synced
HOWS: tuple[How, ...] = get_args(How)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A disk after a power cut; `folder` is this one's until the next is asked for."""

    after: int  # steps
    how: How
    promised: tuple[object, ...]
    folder: Path


@dataclass
class Recording:
    """What was asked of the disk so far."""

    folder: Path
    steps: list[Step] = field(default_factory=list)
    before: dict[str, bytes] = field(default_factory=dict)  # what was there, safe, at the start
    names: set[str] = field(default_factory=set)

    def promise(self, what: object) -> None:
        """Write down that somebody was told `what`: it must survive every later cut."""
        self.add(Step(kind="promise", promise=what))

    def name_of(self, path: str | os.PathLike[str]) -> str | None:
        """Return the path inside the folder, or None for one outside."""
        found = Path(os.path.abspath(path))  # noqa: PTH100 -- a link may be the thing itself
        return str(found.relative_to(self.folder)) if found.is_relative_to(self.folder) else None

    def adopt(self, name: str) -> None:
        """Take in a file that was made unseen: with what it holds, and nothing of it synced."""
        if name in self.names:
            return
        self.names.add(name)
        self.add(Step(kind="create", name=name))
        if content := (self.folder / name).read_bytes():
            self.add(Step(kind="write", name=name, data=content))

    def rewrite(self, name: str) -> None:
        """Take in that a file which is known was written unseen."""
        content = (self.folder / name).read_bytes()
        self.add(Step(kind="write", name=name, data=content))
        self.add(Step(kind="truncate", name=name, offset=len(content)))

    def add(self, step: Step) -> None:
        """Write a step down."""
        self.steps.append(step)


@contextmanager
def recorded(folder: Path, refuse: Refuse = lambda _: 0) -> Iterator[Recording]:
    """Record what is asked of the disk inside `folder`; what is there already counts as synced.

    Args:
        folder: it exists.
        refuse: asked before each write, truncate, sync and unlink of SQLite's; what is not 0 is
            the error that SQLite gets for it (10 I/O error, 13 disk full).
    """
    recording = Recording(folder.resolve())
    for path in sorted(recording.folder.rglob("*")):
        if path.is_file():
            recording.before[str(path.relative_to(recording.folder))] = path.read_bytes()
    recording.names.update(recording.before)
    vfs = RecordingVfs(recording, refuse)
    with ExitStack() as stack:
        for function, replacement in _python_calls(recording):
            stack.enter_context(patch.object(os, function, replacement))
        stack.enter_context(vfs.default())
        yield recording


def power_cuts(recording: Recording, into: Path, seed: int = 1) -> Iterator[Cut]:
    """Yield the disks that a cut after each step may leave, each in the folder `into`, once."""
    disk, chance, seen = _Disk(recording.before), random.Random(seed), set()  # noqa: S311 -- no secret
    promised: tuple[object, ...] = ()
    for after, step in enumerate(recording.steps, start=1):
        if step.kind == "promise":
            promised = (*promised, step.promise)
        else:
            disk.apply(step)
        for how in HOWS:
            image = disk.image(how, chance)
            digest = sha256(repr((len(promised), sorted(image.items()))).encode()).digest()
            if digest in seen:
                continue
            seen.add(digest)
            shutil.rmtree(into, ignore_errors=True)
            into.mkdir()
            for name, content in image.items():
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                (into / name).touch(mode=0o600)  # modes are not recorded
                (into / name).write_bytes(content)
            yield Cut(after=after, how=how, promised=promised, folder=into)


@dataclass
class _File:
    synced: bytes = b""
    unsynced: list[Step] = field(default_factory=list)

    def content(self, how: How, chance: random.Random) -> bytes:
        if how == "nothing":
            return self.synced
        content = bytearray(self.synced)
        for step in self.unsynced:
            is_in_doubt = how == "some" or (how == "torn" and step.kind == "truncate")
            if is_in_doubt and chance.random() < 0.5:
                continue
            if step.kind == "truncate":
                content = content[: step.offset].ljust(step.offset, b"\0")
                continue
            for start, end in _sectors(step):
                if how == "torn" and chance.random() < 0.5:
                    continue
                content.extend(bytes(max(0, end - len(content))))
                content[start:end] = step.data[start - step.offset : end - step.offset]
        return bytes(content)


def _sectors(step: Step) -> Iterator[tuple[int, int]]:
    """Yield from where to where a write goes in each sector that it touches."""
    start, last = step.offset, step.offset + len(step.data)
    while start < last:
        end = min(last, (start // SECTOR + 1) * SECTOR)
        yield start, end
        start = end


class _Disk:
    """Files and names, each as they are now and as they were last synced."""

    def __init__(self, before: dict[str, bytes]) -> None:
        self._names = {name: _File(content) for name, content in before.items()}
        self._synced = dict(self._names)
        self._changes: list[dict[str, _File | None]] = []  # of names, in their order

    def apply(self, step: Step) -> None:
        file = self._names.get(step.name)
        match step.kind:
            case "create":
                self._rename({step.name: _File()})
            case "link":
                self._rename({step.to: file})
            case "rename":
                self._rename({step.to: file, step.name: None})
            case "unlink":
                self._rename({step.name: None})
            case "sync-folder":
                self._sync_names(step.name)
            case "sync":
                assert file is not None
                file.synced = file.content("everything", random.Random())  # noqa: S311 -- unused
                file.unsynced = []
            case _:
                assert file is not None
                file.unsynced.append(step)

    def image(self, how: How, chance: random.Random) -> dict[str, bytes]:
        """Return what each file may hold; names are lost from some change on, as journals do."""
        last = len(self._changes)
        kept = {"nothing": 0, "everything": last}.get(how, chance.randint(0, last))
        names = dict(self._synced)
        for change in self._changes[:kept]:
            _change(names, change)
        return {name: file.content(how, chance) for name, file in sorted(names.items())}

    def _rename(self, change: dict[str, _File | None]) -> None:
        self._changes.append(change)
        _change(self._names, change)

    def _sync_names(self, folder: str) -> None:
        def is_inside(change: dict[str, _File | None]) -> bool:
            return any(str(Path(name).parent) == folder for name in change)

        for change in filter(is_inside, self._changes):
            _change(self._synced, change)
        self._changes = [change for change in self._changes if not is_inside(change)]


def _change(names: dict[str, _File], change: dict[str, _File | None]) -> None:
    for name, file in change.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def _python_calls(recording: Recording) -> Iterator[tuple[str, Callable[..., None]]]:
    """Yield the functions of `os` that are watched, and what stands in their place."""
    fsync = os.fsync

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        name = recording.name_of(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 -- no path
        if name is not None and (recording.folder / name).is_dir():
            recording.add(Step(kind="sync-folder", name=name))
        elif name is not None:
            if name in recording.names:
                recording.rewrite(name)
            recording.adopt(name)
            recording.add(Step(kind="sync", name=name))

    yield "fsync", watched_fsync
    yield "link", _watched_move(recording, "link", os.link)
    for function in ("rename", "replace"):
        yield function, _watched_move(recording, "rename", getattr(os, function))
    for function in ("unlink", "remove"):
        yield function, _watched_unlink(recording, getattr(os, function))


def _watched_move(
    recording: Recording, kind: Kind, real: Callable[[str, str], None]
) -> Callable[[str, str], None]:
    def move(source: str, to: str) -> None:
        old, new = recording.name_of(source), recording.name_of(to)
        if old is not None:
            recording.adopt(old)
        real(source, to)
        if old is None or new is None:
            return
        recording.names.add(new)
        if kind == "rename":
            recording.names.discard(old)
        recording.add(Step(kind=kind, name=old, to=new))

    return move


def _watched_unlink(recording: Recording, real: Callable[..., None]) -> Callable[..., None]:
    def unlink(path: str, *, dir_fd: int | None = None) -> None:
        real(path, dir_fd=dir_fd)
        name = recording.name_of(path)
        if name in recording.names:
            recording.names.discard(str(name))
            recording.add(Step(kind="unlink", name=str(name)))

    return unlink
