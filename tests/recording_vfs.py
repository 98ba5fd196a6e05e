"""SQLite's own VFS with the calls that change something written down on their way.

It is laid over the library that Python's `sqlite3` is linked to, reached through ctypes, and hands
everything on: for what the structures hold see sqlite.org/c3ref/vfs.html and io_methods.html.
That a folder is synced is seen where SQLite opens it, which it does for nothing else.
"""

from __future__ import annotations

import _sqlite3
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tests.power_cut import Recording

Kind = Literal[
    "create", "write", "truncate", "sync", "link", "rename", "unlink", "sync-folder", "promise"
]
Refuse = Callable[[Kind], int]  # SQLite's code for a call that shall fail, 0 for one that shall not


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was asked of the disk, or a promise that was given in between."""

    kind: Kind
    name: str = ""  # in the folder
    to: str = ""  # of a link or a rename
    offset: int = 0  # of a write; the new size of a truncate
    data: bytes = b""
    promise: object = None


_OPEN_FOLDER_NAME = b"openDirectory"
_OPEN = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_DELETE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_CLOSE = ctypes.CFUNCTYPE(c_int, c_void_p)
_WRITE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = ctypes.CFUNCTYPE(c_int, c_void_p, c_int)
_OPEN_FOLDER = ctypes.CFUNCTYPE(c_int, c_char_p, c_void_p)
_SET_CALL = ctypes.CFUNCTYPE(c_int, c_void_p, c_char_p, c_void_p)
_GET_CALL = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_char_p)


class _Vfs(ctypes.Structure):  # sqlite3_vfs, version 3
    _fields_ = (
        *((name, c_int) for name in ("version", "file_size", "longest_path")),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", _OPEN),
        ("delete", _DELETE),
        *((f"kept_{number}", c_void_p) for number in range(11)),  # up to xCurrentTimeInt64
        ("set_call", _SET_CALL),
        ("get_call", _GET_CALL),
        ("next_call", c_void_p),
    )


class _Methods(ctypes.Structure):  # sqlite3_io_methods, version 3
    _fields_ = (
        ("version", c_int),
        ("close", _CLOSE),
        ("read", c_void_p),
        ("write", _WRITE),
        ("truncate", _TRUNCATE),
        ("sync", _SYNC),
        *((f"kept_{number}", c_void_p) for number in range(13)),
    )


class RecordingVfs:
    """A VFS that tells a `Recording` of what succeeded, and fails where `refuse` says so."""

    def __init__(self, recording: Recording, refuse: Refuse) -> None:
        self._recording, self._refuse = recording, refuse
        # The very library that Python's module is linked to
        self._sqlite = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
        self._sqlite.sqlite3_vfs_find.restype = c_void_p
        self._below: int = self._sqlite.sqlite3_vfs_find(None)
        self._real = _Vfs.from_address(self._below)
        self._vfs = _Vfs.from_buffer_copy(self._real)
        self._vfs.name = b"recording"
        self._vfs.open, self._vfs.delete = _OPEN(self._open), _DELETE(self._delete)
        self._open_folder = _OPEN_FOLDER(self._real.get_call(self._below, _OPEN_FOLDER_NAME))
        self._watched_folder = _OPEN_FOLDER(self._sync_folder)
        self._methods: dict[int, _Methods] = {}  # by the address of those below
        self._files: dict[int, str] = {}  # the names of the open ones, by address

    @contextmanager
    def default(self) -> Iterator[None]:
        """Be the VFS that every new connection uses."""
        self._real.set_call(
            self._below, _OPEN_FOLDER_NAME, ctypes.cast(self._watched_folder, c_void_p)
        )
        self._sqlite.sqlite3_vfs_register(ctypes.byref(self._vfs), 1)
        try:
            yield
        finally:
            self._sqlite.sqlite3_vfs_unregister(ctypes.byref(self._vfs))
            self._real.set_call(self._below, _OPEN_FOLDER_NAME, None)
        assert not self._files, f"expected every connection closed, got open {self._files}"

    def _open(self, _: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        code = int(self._real.open(self._below, name, file, flags, out))
        inside = name and self._recording.name_of(ctypes.string_at(name).decode())
        if code == 0 and inside:
            self._recording.adopt(inside)
            self._files[file] = inside
            methods = c_void_p.from_address(file)
            methods.value = ctypes.addressof(self._watched(int(methods.value or 0)))
        return code

    def _delete(self, _: int, name: int, sync: int) -> int:
        if code := self._refuse("unlink"):
            return code
        inside = self._recording.name_of(ctypes.string_at(name).decode())
        if inside in self._recording.names:  # before the call, which may sync the folder at its end
            self._recording.names.discard(str(inside))
            self._recording.add(Step(kind="unlink", name=str(inside)))
        return int(self._real.delete(self._below, name, sync))

    def _sync_folder(self, path: bytes, out: int) -> int:
        """Open, to be synced, the folder of the file at `path`."""
        inside = self._recording.name_of(Path(path.decode()).parent)
        if inside is not None:
            self._recording.add(Step(kind="sync-folder", name=inside))
        return int(self._open_folder(path, out))

    def _watched(self, address: int) -> _Methods:
        """Return the methods at `address` with those that change a file written down."""
        if address in self._methods:
            return self._methods[address]
        real = _Methods.from_address(address)
        copy = self._methods[address] = _Methods.from_buffer_copy(real)

        def passed(step: Step, call: Callable[[], int]) -> int:
            code = self._refuse(step.kind) or int(call())
            if code == 0:
                self._recording.add(step)
            return code

        def write(file: int, data: int, count: int, offset: int) -> int:
            content = ctypes.string_at(data, count)
            step = Step(kind="write", name=self._files[file], offset=offset, data=content)
            return passed(step, lambda: real.write(file, data, count, offset))

        def truncate(file: int, size: int) -> int:
            step = Step(kind="truncate", name=self._files[file], offset=size)
            return passed(step, lambda: real.truncate(file, size))

        def sync(file: int, flags: int) -> int:
            if code := self._refuse("sync"):
                return code
            # Before the call, at whose end its folder may be synced
            self._recording.add(Step(kind="sync", name=self._files[file]))
            return int(real.sync(file, flags))

        def close(file: int) -> int:
            del self._files[file]
            return int(real.close(file))

        copy.write, copy.truncate = _WRITE(write), _TRUNCATE(truncate)
        copy.sync, copy.close = _SYNC(sync), _CLOSE(close)
        return copy
