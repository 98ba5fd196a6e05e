"""Decoded faces on disk, so that they are decoded once.

    KEY.json           who and what is in the rows, and the name of the file with the pixels
    KEY-DIGEST.u8      uint8 [N, 3, P, P] in C order; DIGEST is of these bytes
    KEY.XXXX.partial   pixels that are being written
    KEY.lock           held by the process that writes them

The index is written last, at once, and names its pixels by their content. So whatever is
interrupted, and whoever else writes, an index and pixels that do not belong together are never
opened. The lock only saves work: without it two processes would both decode.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from veilface_client.images import Crop, Pixels
from veilface_common.errors import ArtifactError
from veilface_common.files import sync_folder, write_atomically
from veilface_common.typed_json import from_json, to_json

FORMAT = 1  # of the files here, and of how a canvas is cut: raise it when either changes


@dataclass(frozen=True, kw_only=True)
class Index:
    """What the rows of a file of pixels are."""

    format: int
    pixels_file: str
    side: int
    people: tuple[int, ...]  # [N], index into person_names
    person_names: tuple[str, ...]
    photo_names: tuple[str, ...]  # [N]
    warnings: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the pixels, [N, 3, P, P]."""
        return len(self.people), 3, self.side, self.side

    def is_consistent(self) -> bool:
        """Return whether the parts belong together; a file may say anything."""
        return (
            self.format == FORMAT
            and Path(self.pixels_file).name == self.pixels_file
            and 0 < len(self.people) == len(self.photo_names)
            and min(self.people) >= 0
            and max(self.people) < len(self.person_names)
        )


def entry_key(fingerprint: str, crop: Crop, pixels: int) -> str:
    """Return the name of the entry for these photographs, cropped like this."""
    text = json.dumps([FORMAT, fingerprint, to_json(crop), pixels])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_entry(path: Path) -> tuple[Index, Pixels] | None:
    """Return the index at `path` and its pixels, mapped and read-only; None without a whole entry.

    The pixels' size is compared, not their digest: that would read them all.
    """
    try:
        index = from_json(Index, json.loads(path.read_bytes()))
        pixels_path = path.parent / index.pixels_file
        whole = index.is_consistent() and pixels_path.stat().st_size == np.prod(index.shape)
        if not whole:
            return None
        return index, np.asarray(np.memmap(pixels_path, np.uint8, mode="r", shape=index.shape))
    except (OSError, ValueError, ArtifactError):
        return None


def write_entry(path: Path, index: Index) -> None:
    """Make the entry valid, its pixels being on disk; older pixels of the same key are removed."""
    write_atomically(path, json.dumps(to_json(index)).encode())
    for old in path.parent.glob(f"{path.stem}-*.u8"):
        if old.name != index.pixels_file:
            old.unlink(missing_ok=True)


class PixelWriter:
    """Appends canvases to a file that gets its name when it is complete, or vanishes."""

    def __init__(self, cache: Path, key: str) -> None:
        # mkstemp: readable by nobody else, as faces must be.
        handle, name = tempfile.mkstemp(dir=cache, prefix=f"{key}.", suffix=".partial")
        self._file = os.fdopen(handle, "wb")
        self._path = Path(name)
        self._key = key
        self._digest = hashlib.sha256()

    def __enter__(self) -> PixelWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Closing writes what is buffered, which fails again on a full disk.
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)

    def append(self, canvas: Pixels) -> None:
        """Add a row: uint8 [3, P, P]."""
        content = canvas.tobytes()
        self._file.write(content)
        self._digest.update(content)

    def commit(self) -> str:
        """Put the pixels on disk under their final name, and return it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        name = f"{self._key}-{self._digest.hexdigest()[:32]}.u8"
        self._path.replace(self._path.with_name(name))
        sync_folder(self._path.parent)
        return name


@contextlib.contextmanager
def build_lock(cache: Path, key: str) -> Iterator[None]:
    """Wait until no other process builds this entry, and remove what killed ones left behind."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)  # faces: for the owner alone
    with _locked(cache, key, wait=True):
        _remove_partial(cache, key)
        for other in {path.name.partition(".")[0] for path in cache.glob("*.partial")}:
            with contextlib.suppress(BlockingIOError), _locked(cache, other, wait=False):
                _remove_partial(cache, other)
        yield


@contextlib.contextmanager
def _locked(cache: Path, key: str, *, wait: bool) -> Iterator[None]:
    """Hold the entry's lock; the system releases it when the process ends, however that is."""
    handle = os.open(cache / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_partial(cache: Path, key: str) -> None:
    for pattern in (f"{key}.*.partial", f".{key}.json.*"):
        for path in cache.glob(pattern):
            path.unlink(missing_ok=True)
