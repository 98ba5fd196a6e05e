"""How messages travel: frames of a socket, records of Flower; whatever comes is refused in time."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from veilface_common import wire
from veilface_common.errors import ProtocolError
from veilface_common.wire import Envelope

MESSAGE = Envelope(header='{"a": "ü"}', tensors=bytes(range(256)) * 9000, signature=b"s" * 64)
GOLDEN = bytes.fromhex("56464b0171000000020000000100000000000000037b7d73616263")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_message_survives_a_record() -> None:
    """What one side puts into Flower's record the other takes out."""
    assert wire.from_record(wire.to_record(MESSAGE)) == MESSAGE


def test_a_message_survives_a_frame(pair: tuple[socket.socket, socket.socket]) -> None:
    """Of more bytes than a socket holds at once, with its kind."""
    ours, theirs = pair
    threading.Thread(target=wire.write_frame, args=(ours, wire.REPLY, MESSAGE)).start()
    assert wire.read_frame(theirs) == (wire.REPLY, MESSAGE)


def test_the_frame_is_as_it_was(pair: tuple[socket.socket, socket.socket]) -> None:
    """Golden bytes: a keeper and a node of two releases read each other, or neither does."""
    ours, theirs = pair
    wire.write_frame(ours, wire.REQUEST, Envelope(header="{}", signature=b"s", tensors=b"abc"))
    assert theirs.recv(100) == GOLDEN


def test_the_signature_is_over_both_parts() -> None:
    """Golden bytes of what is signed: header, zero, SHA-256 of the tensors."""
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert Envelope(header="{}", tensors=b"abc").signed_bytes == b"{}\0" + bytes.fromhex(digest)


def declared(kind: bytes = b"q", header: int = 0, signature: int = 0, tensors: int = 0) -> bytes:
    return b"VFK\x01" + struct.pack(">cIIQ", kind, header, signature, tensors)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (declared(tensors=10 * 10**9), "bytes of tensors, got 10000000000"),
        (declared(tensors=2**63), "bytes of tensors"),
        (declared(header=2**31), "bytes of header"),
        (declared(signature=65), "bytes of signature"),
        (declared(kind=b"z"), "of kind q, r or x"),
        (b"VFK\x02" + declared()[4:], "protocol, version 1"),
        (b"GET / HTTP/1.1\r\n\r\n", "protocol, version 1"),
        (declared(header=1) + b"\xff", "UTF-8"),
    ],
)
def test_a_foreign_frame_is_refused(
    pair: tuple[socket.socket, socket.socket], frame: bytes, reason: str
) -> None:
    """From what it declares: not a byte of a model of 10 GB is waited for, or made room for."""
    ours, theirs = pair
    ours.sendall(frame)
    theirs.settimeout(2)
    with pytest.raises(ProtocolError, match=reason):
        wire.read_frame(theirs)


def test_half_a_frame_is_no_message(pair: tuple[socket.socket, socket.socket]) -> None:
    """Who hangs up in the middle is an error of the connection: it may come again."""
    ours, theirs = pair
    ours.sendall(GOLDEN[:-1])
    ours.close()
    with pytest.raises(ConnectionResetError):
        wire.read_frame(theirs)


def test_a_frame_that_drips_ends_in_time(pair: tuple[socket.socket, socket.socket]) -> None:
    """A byte every now and then is not patience without end: the limit is of the whole frame."""
    ours, theirs = pair
    over = threading.Event()

    def drip() -> None:
        ours.sendall(declared(tensors=1000))
        while not over.wait(0.05):
            ours.send(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        wire.read_frame(theirs, seconds=0.3)
    over.set()
    thread.join()
    assert time.monotonic() - began < 2


@given(st.binary(max_size=60))
def test_rubbish_is_refused_or_cut_short(content: bytes) -> None:
    """Whatever bytes come, the answer is one of two errors, or a message."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(content)
        ours.close()
        try:
            kind, message = wire.read_frame(theirs)
        except (ProtocolError, OSError):
            return
    assert content.startswith(b"VFK\x01" + kind)
    assert content[21:].startswith(message.header.encode())


@pytest.mark.parametrize(
    "values",
    [
        None,
        {"header": 1, "tensors": b"", "signature": b""},
        {"header": "{}", "tensors": b""},
        {"header": "{}", "tensors": "x", "signature": b""},
        {"header": "{}", "tensors": b"", "signature": b"s" * 65},
        {"header": "x" * (wire.MAX_HEADER_BYTES + 1), "tensors": b"", "signature": b""},
    ],
)
def test_a_foreign_record_is_refused(values: dict[str, str | bytes | int] | None) -> None:
    """Records of another application, or of other sizes, are refused, not guessed."""
    records = {} if values is None else {"veilface": ConfigRecord(dict(values))}
    with pytest.raises(ProtocolError):
        wire.from_record(RecordDict(dict(records)))
