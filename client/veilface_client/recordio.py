"""MXNet's RecordIO pair, in which CASIA-WebFace and MS1M are distributed, read without MXNet.

A `.rec` file is a sequence of records, each a sequence of parts, each padded to 4 bytes:

    magic 0xced7230a : u32 | flag : 3 bits, length : 29 bits | data | padding

(little-endian; flag 0: the whole record, 1: its first part, 2: a middle one, 3: its last). A record
is cut where its data holds the magic at a multiple of 4 bytes; those four bytes are left out of the
file and put back between the parts. The `.idx` file has a line `key TAB offset` for each record.

A record of a picture starts with a header `flag : u32, label : f32, id : u64, id2 : u64`; with
flag > 0, that many f32 labels follow. Then comes the picture as a JPEG or PNG file. In the sets of
InsightFace the record with key 0 holds no picture but two labels: the pictures have the keys below
the first, and after them, up to the second, come records that list the pictures of each person.
They are not needed: every picture's own record says whose it is.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from veilface_common.errors import DataError

MAGIC = 0xCED7230A
MAX_RECORD_BYTES = 64 * 2**20  # a face is some kilobytes; a damaged length must not fill the memory
MAX_INDEX_BYTES = 2**30

_PART = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_MAGIC_BYTES = struct.pack("<I", MAGIC)


@dataclass(frozen=True, kw_only=True)
class Record:
    """The labels of a record, its own and those that follow it, and what comes after them."""

    flag: int
    labels: tuple[float, ...]
    payload: bytes

    @property
    def person(self) -> int:
        """The number of the person in the picture.

        Raises:
            DataError: the label is not a whole number from 0.
        """
        label = self.labels[0]
        if not (math.isfinite(label) and label >= 0 and label == int(label)):
            raise DataError(f"expected a person's number as label, got {label}")
        return int(label)


@dataclass(frozen=True, kw_only=True)
class RecordFile:
    """A `.rec` file and the `.idx` file beside it; nothing is read until it is asked for."""

    path: Path

    @property
    def index_path(self) -> Path:
        """The `.idx` file that belongs to the `.rec` file."""
        return self.path.with_suffix(".idx")

    @cached_property
    def _index(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return read_index(self.index_path)

    def read(self, key: int) -> Record:
        """Return one record.

        Raises:
            DataError: there is no such record, or it is damaged.
        """
        with _open(self.path) as file:
            return unpack(read_record(file, self._offset(key)))

    def people(self) -> Iterator[tuple[int, int | DataError]]:
        """Give (key, person) of every picture, by key; an error in place of one that is damaged."""
        keys = self._picture_keys()
        with _open(self.path) as file:
            for key in keys:
                try:
                    yield key, _read_person(file, self._offset(key))
                except DataError as error:
                    yield key, error

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self._picture_keys())

    def _picture_keys(self) -> list[int]:
        keys: list[int] = self._index[0].tolist()
        if not keys:
            raise DataError("expected records in the .idx file, got none")
        first = self.read(keys[0])
        if first.flag == 0 or first.payload:
            return keys
        end = first.labels[0]
        if not (math.isfinite(end) and 1 <= end <= keys[-1] + 1):
            raise DataError(f"expected the first record to count the pictures, got {end}")
        return [key for key in keys if 0 < key < int(end)]

    def _offset(self, key: int) -> int:
        keys, offsets = self._index
        place = int(np.searchsorted(keys, key))
        if place == len(keys) or keys[place] != key:
            raise DataError(f"expected a record {key} in the .idx file, got none")
        return int(offsets[place])


def read_index(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the keys in an `.idx` file, rising, and the offset of each: int64 [K], int64 [K].

    Raises:
        DataError: the file is missing or not lines of two whole numbers, or names a key twice.
    """
    hint = "the .rec file needs the .idx file of the same name beside it"
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise DataError(f"expected at most {MAX_INDEX_BYTES} bytes in {path.name}, got more")
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path.name}: {error.strerror}", hint=hint) from None
    words = text.split()
    lines = text.count(b"\n") + (not text.endswith(b"\n") and bool(text))
    try:
        table = np.array([int(word) for word in words], dtype=np.int64).reshape(lines, 2)
    except (ValueError, OverflowError):
        raise DataError(f"expected KEY<tab>OFFSET on each line of {path.name}", hint=hint) from None
    keys, order = np.unique(table[:, 0], return_index=True)
    if len(keys) != lines:
        raise DataError(f"expected each key once in {path.name}, got {lines - len(keys)} again")
    return keys, table[order, 1]


def read_record(file: BinaryIO, offset: int) -> bytes:
    """Return the data of the record at `offset`, its parts joined.

    Raises:
        DataError: no record starts there, the file ends within it, or it is too large.
    """
    parts: list[bytes] = []
    flag, size = _FIRST, 0
    while flag in (_FIRST, _MIDDLE):
        flag, length = _read_part_head(file, offset)
        if (flag in (_WHOLE, _FIRST)) == bool(parts) or flag > _LAST:
            raise DataError(f"expected the next part of a record, got flag {flag}")
        size += length + len(_MAGIC_BYTES)
        if size > MAX_RECORD_BYTES:
            raise DataError(f"expected a record of at most {MAX_RECORD_BYTES} bytes, got more")
        parts.append(_read_exactly(file, offset + _PART.size, length))
        offset += _PART.size + -(-length // 4) * 4
    return _MAGIC_BYTES.join(parts)


def unpack(data: bytes) -> Record:
    """Return a record's header and payload.

    Raises:
        DataError: the record is shorter than its header says.
    """
    if len(data) < _HEADER.size:
        raise DataError(f"expected a header of {_HEADER.size} bytes, got {len(data)}")
    flag, label, _, _ = _HEADER.unpack_from(data)
    start = _HEADER.size + 4 * flag
    if start > len(data):
        raise DataError(f"expected {flag} labels, got {(len(data) - _HEADER.size) // 4}")
    labels = struct.unpack_from(f"<{flag}f", data, _HEADER.size) if flag else (label,)
    return Record(flag=flag, labels=labels, payload=data[start:])


def _read_person(file: BinaryIO, offset: int) -> int:
    """Return whose picture a record holds, from its first bytes alone if they are together."""
    flag, length = _read_part_head(file, offset)
    enough = _HEADER.size + 4
    if flag != _WHOLE or length < enough:
        return unpack(read_record(file, offset)).person
    head = _read_exactly(file, offset + _PART.size, enough)
    labels, label = _HEADER.unpack_from(head)[:2]
    if labels:
        (label,) = struct.unpack_from("<f", head, _HEADER.size)
    return Record(flag=labels, labels=(label,), payload=b"").person


def _read_part_head(file: BinaryIO, offset: int) -> tuple[int, int]:
    magic, word = _PART.unpack(_read_exactly(file, offset, _PART.size))
    if magic != MAGIC:
        raise DataError(f"expected a record with magic {MAGIC:#010x}, got {magic:#010x}")
    return word >> 29, word & (2**29 - 1)


def _read_exactly(file: BinaryIO, offset: int, length: int) -> bytes:
    # Not memory-mapped: a file that is cut while it is read would kill the process.
    try:
        file.seek(offset)
        data = file.read(length)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read at byte {offset}: {error}") from None
    if len(data) != length:
        raise DataError(f"expected {length} bytes at byte {offset}, got {len(data)}")
    return data


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path.name}: {error.strerror}") from None
