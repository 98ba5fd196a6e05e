"""MXNet's RecordIO without MXNet: the format to the byte, and damage to it."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilface_client import recordio
from veilface_client.recordio import RecordFile, read_index, read_record, unpack
from veilface_common.errors import DataError

MAGIC = struct.pack("<I", 0xCED7230A)


def record(data: bytes) -> bytes:
    """Write a record as dmlc-core does: cut at each aligned magic, which is left out."""
    cuts = [at for at in range(0, len(data) // 4 * 4, 4) if data[at : at + 4] == MAGIC]
    starts, ends = [0, *(at + 4 for at in cuts)], [*cuts, len(data)]
    parts = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    written = b""
    for number, part in enumerate(parts):
        flag = 0 if len(parts) == 1 else 1 if number == 0 else 3 if number == len(cuts) else 2
        written += MAGIC + struct.pack("<I", flag << 29 | len(part)) + part + bytes(-len(part) % 4)
    return written


def packed(labels: float | Sequence[float], payload: bytes, key: int = 0) -> bytes:
    """Put MXNet's IRHeader before a picture."""
    if isinstance(labels, int | float):
        return struct.pack("<IfQQ", 0, labels, key, 0) + payload
    return struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0, key, 0, *labels) + payload


def write_pair(folder: Path, records: dict[int, bytes], name: str = "train") -> RecordFile:
    """Write a .rec and .idx pair."""
    written, index = b"", ""
    for key, data in records.items():
        index += f"{key}\t{len(written)}\n"
        written += record(data)
    (folder / f"{name}.rec").write_bytes(written)
    (folder / f"{name}.idx").write_text(index)
    return RecordFile(path=folder / f"{name}.rec")


def insightface_records(people: Sequence[Sequence[bytes]]) -> dict[int, bytes]:
    """Lay out pictures as InsightFace's sets do: a count, pictures, then a record per person."""
    pictures = [(person, data) for person, of in enumerate(people) for data in of]
    end = 1 + len(pictures)
    records = {0: packed([end, end + len(people)], b"")}
    start = 1
    for key, (person, data) in enumerate(pictures, start=1):
        records[key] = packed([person, 1.0], data, key)
    for person, of in enumerate(people):
        records[end + person] = packed([start, start + len(of)], b"", end + person)
        start += len(of)
    return records


def test_golden_bytes() -> None:
    """A record of one part and one of two, byte by byte as dmlc-core writes them."""
    whole = bytes.fromhex("0a23d7ce 05000000 68656c6c6f 000000")
    assert read_record(io.BytesIO(whole), 0) == b"hello"
    cut = bytes.fromhex("0a23d7ce 04000020 41414141 0a23d7ce 01000060 42 000000")
    assert read_record(io.BytesIO(cut), 0) == b"AAAA" + MAGIC + b"B"


def test_header_bytes() -> None:
    """The header is flag, label, id, id2; labels beyond the first follow it."""
    one = bytes.fromhex("00000000 0000e040 0100000000000000 0000000000000000") + b"JPEG"
    assert unpack(one) == recordio.Record(flag=0, labels=(7.0,), payload=b"JPEG")
    two = bytes.fromhex("02000000 00000000 0100000000000000 0000000000000000 00004040 0000803f")
    assert unpack(two + b"J") == recordio.Record(flag=2, labels=(3.0, 1.0), payload=b"J")


@given(pieces=st.lists(st.sampled_from([MAGIC, b"A", b"", b"data", MAGIC[:3], bytes(4)])))
def test_data_with_the_magic_in_it_survives(pieces: list[bytes]) -> None:
    """Whatever a picture holds, reading gives back what was written, at any offset."""
    data = b"".join(pieces)
    file = io.BytesIO(record(b"first") + record(data))
    assert read_record(file, len(record(b"first"))) == data


def test_insightface_layout_gives_pictures_with_people(tmp_path: Path) -> None:
    """The counting record and the person records are no pictures; labels say who is who."""
    records = insightface_records([[b"a", b"b"], [b"c"]])
    pair = write_pair(tmp_path, records)
    assert list(pair.people()) == [(1, 0), (2, 0), (3, 1)]
    assert len(pair) == 3
    assert pair.read(3).payload == b"c"


def test_plain_layout_gives_every_record(tmp_path: Path) -> None:
    """Without a counting record every record is a picture, in the order of the keys."""
    pair = write_pair(tmp_path, {7: packed(4.0, b"z"), 2: packed([3.0], b"x")})
    assert list(pair.people()) == [(2, 3), (7, 4)]


def test_label_in_a_record_of_parts_is_found(tmp_path: Path) -> None:
    """A magic right behind the header cuts the record before its first label ends."""
    data = packed(5.0, MAGIC + b"picture")
    pair = write_pair(tmp_path, {0: data})
    assert list(pair.people()) == [(0, 5)]
    assert pair.read(0).payload == MAGIC + b"picture"


@pytest.mark.parametrize("label", [float("nan"), float("inf"), -1.0, 0.5])
def test_label_that_is_no_person_is_refused(tmp_path: Path, label: float) -> None:
    """A person's number is a whole number from 0."""
    pair = write_pair(tmp_path, {0: packed(1.0, b"x"), 1: packed(label, b"y")})
    (_, first), (_, second) = pair.people()
    assert first == 1
    assert isinstance(second, DataError)


def test_corrupt_magic_is_refused(tmp_path: Path) -> None:
    """A damaged record is an error in its place; the others can be read."""
    pair = write_pair(tmp_path, {key: packed(key, b"picture") for key in range(3)})
    content = bytearray(pair.path.read_bytes())
    content[len(content) // 3] ^= 1
    pair.path.write_bytes(content)
    found = dict(pair.people())
    assert (found[0], found[2]) == (0, 2)
    assert isinstance(found[1], DataError)
    with pytest.raises(DataError, match="magic"):
        pair.read(1)


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    """A picture that the file's end cuts off does not load."""
    pair = write_pair(tmp_path, {0: packed(0, b"picture"), 1: packed(1, b"x" * 100)})
    pair.path.write_bytes(pair.path.read_bytes()[:-50])
    with pytest.raises(DataError, match="expected 124 bytes"):
        pair.read(1)


@pytest.mark.parametrize("offset", [4, 10**9, -8, 2**62])
def test_index_that_points_elsewhere_is_refused(tmp_path: Path, offset: int) -> None:
    """An offset between records, beyond the file or before it gives an error, not bytes."""
    pair = write_pair(tmp_path, {0: packed(0, b"picture")})
    pair.index_path.write_text(f"0\t{offset}\n")
    with pytest.raises(DataError):
        pair.read(0)


@pytest.mark.parametrize(
    "text", ["0 1 2\n", "zero\t0\n", "0\t0\n0\t8\n", "\xff\n", "9" * 30 + "\t1"]
)
def test_damaged_index_is_refused(tmp_path: Path, text: str) -> None:
    """Lines that are not two whole numbers, and keys that come twice, are refused."""
    (tmp_path / "train.idx").write_text(text)
    with pytest.raises(DataError):
        read_index(tmp_path / "train.idx")


def test_missing_and_empty_index_are_refused(tmp_path: Path) -> None:
    """The .idx file must be there and name records."""
    pair = write_pair(tmp_path, {})
    with pytest.raises(DataError, match="got none"):
        len(pair)
    (tmp_path / "train.idx").unlink()
    with pytest.raises(DataError, match=r"train\.idx"):
        len(RecordFile(path=pair.path))


@pytest.mark.parametrize("end", [float("nan"), 0.0, 1e9])
def test_count_beyond_the_records_is_refused(tmp_path: Path, end: float) -> None:
    """A counting record that counts what is not there is damaged."""
    pair = write_pair(tmp_path, {0: packed([end, end], b""), 1: packed(0, b"x")})
    with pytest.raises(DataError, match="count"):
        len(pair)


def test_promised_gigabytes_are_refused() -> None:
    """Lengths and label counts that a damaged file promises do not fill the memory."""
    huge = MAGIC + struct.pack("<I", 2**29 - 1)
    with pytest.raises(DataError, match="at most"):
        read_record(io.BytesIO(huge), 0)
    with pytest.raises(DataError, match="labels"):
        unpack(struct.pack("<IfQQ", 2**32 - 1, 0, 0, 0))
    endless = (MAGIC + struct.pack("<I", 1 << 29)) + (MAGIC + struct.pack("<I", 2 << 29)) * 1000
    with pytest.raises(DataError, match="expected 8 bytes"):
        read_record(io.BytesIO(endless), 0)


@pytest.mark.parametrize("flags", [[2], [3], [1, 0], [1, 1], [4]])
def test_parts_out_of_order_are_refused(flags: list[int]) -> None:
    """A record starts with its first part and goes on until its last."""
    data = b"".join(MAGIC + struct.pack("<I", flag << 29 | 4) + b"data" for flag in flags)
    with pytest.raises(DataError, match="part"):
        read_record(io.BytesIO(data), 0)


@given(data=st.binary(max_size=120), offset=st.integers(-4, 120))
@settings(max_examples=200)
def test_no_bytes_raise_anything_but_a_data_error(data: bytes, offset: int) -> None:
    """Whatever the bytes, reading gives a record or a DataError."""
    for content in (data, MAGIC + data, record(data)):
        with contextlib.suppress(DataError):
            unpack(read_record(io.BytesIO(content), offset))
