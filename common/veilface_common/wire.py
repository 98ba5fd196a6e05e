"""A message as it travels: a JSON header, safetensors bytes, and a signature over both.

    signed = header in UTF-8 || 0x00 || SHA-256(tensors)

Through Flower the three stand in one ConfigRecord. Through the keeper's Unix socket they are a
frame, one in each direction; lengths are in bytes, big-endian:

    "VFK" 0x01 || kind [1] || header's length [4] || signature's [4] || tensors' [8] || the three

A frame's kind is `q` (request), `r` (reply) or `x`: no reply; its header is the reason, one line.
Whoever carries a message needs nothing but this file: the courier forwards what it cannot read.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import time
from dataclasses import dataclass

from flwr.app import ConfigRecord, RecordDict

from veilface_common.errors import ProtocolError

DESCRIBE = "query.describe"
TRAIN = "train"
EVALUATE = "evaluate"
MAX_TENSOR_BYTES = 1 << 30
MAX_HEADER_BYTES = 1 << 20
MAX_SIGNATURE_BYTES = 64
REQUEST, REPLY, REFUSED = b"q", b"r", b"x"
_MAGIC = b"VFK\x01"
_LENGTHS = struct.Struct(">cIIQ")
_RECORD = "veilface"
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A message as it travels: what the courier sees."""

    header: str
    tensors: bytes = b""
    signature: bytes = b""

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over; it binds header and tensors to one another."""
        return self.header.encode() + b"\0" + hashlib.sha256(self.tensors).digest()


def to_record(envelope: Envelope) -> RecordDict:
    """Return the message's content as Flower carries it."""
    values: dict[str, str | bytes] = {
        "header": envelope.header,
        "tensors": envelope.tensors,
        "signature": envelope.signature,
    }
    return RecordDict({_RECORD: ConfigRecord(dict(values))})


def from_record(content: RecordDict, max_tensor_bytes: int = MAX_TENSOR_BYTES) -> Envelope:
    """Return what `to_record` wrote.

    Raises:
        ProtocolError: it is something else, or larger than a message may be.
    """
    record = content.get(_RECORD)
    if not isinstance(record, ConfigRecord):
        raise ProtocolError("expected a Veilface message, got another")
    header, tensors = record.get("header"), record.get("tensors")
    signature = record.get("signature")
    if not (
        isinstance(header, str) and isinstance(tensors, bytes) and isinstance(signature, bytes)
    ):
        raise ProtocolError("expected a header, tensors and a signature in the message")
    _verify_lengths(len(header.encode()), len(signature), len(tensors), max_tensor_bytes)
    return Envelope(header=header, tensors=tensors, signature=signature)


def write_frame(connection: socket.socket, kind: bytes, envelope: Envelope) -> None:
    """Send one frame. Raises OSError when nobody takes it."""
    header = envelope.header.encode()
    lengths = _LENGTHS.pack(kind, len(header), len(envelope.signature), len(envelope.tensors))
    connection.sendall(_MAGIC + lengths + header + envelope.signature)
    connection.sendall(envelope.tensors)


def read_frame(
    connection: socket.socket,
    max_tensor_bytes: int = MAX_TENSOR_BYTES,
    *,
    seconds: float | None = None,
) -> tuple[bytes, Envelope]:
    """Return (kind, message) of the next frame; nothing is kept of one that says it is larger.

    Args:
        connection: what it comes through.
        max_tensor_bytes: of the tensors; header and signature have limits of their own.
        seconds: in which all of it must be here, however it drips; None: no limit.

    Raises:
        ProtocolError: it is no frame, or too large.
        OSError: the connection ended too early, or the time was over.
    """
    ends = None if seconds is None else time.monotonic() + seconds
    magic = _exactly(connection, len(_MAGIC), ends)
    if magic != _MAGIC:
        raise ProtocolError(
            "expected a frame of the keeper's protocol, version 1, got another",
            hint="the keeper and the node need the same release of Veilface",
        )
    kind, header, signature, tensors = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size, ends))
    if kind not in (REQUEST, REPLY, REFUSED):
        raise ProtocolError(f"expected a frame of kind q, r or x, got {kind!r}")
    _verify_lengths(header, signature, tensors, max_tensor_bytes)
    try:
        text = _exactly(connection, header, ends).decode()
    except UnicodeDecodeError:
        raise ProtocolError("expected a header in UTF-8") from None
    mark = _exactly(connection, signature, ends)
    body = _exactly(connection, tensors, ends)
    return kind, Envelope(header=text, signature=mark, tensors=body)


def _exactly(connection: socket.socket, count: int, ends: float | None) -> bytes:
    content = bytearray()
    while len(content) < count:
        if ends is not None:
            connection.settimeout(max(1e-3, ends - time.monotonic()))  # 0 would not wait at all
        part = connection.recv(min(_CHUNK, count - len(content)))
        if not part:
            raise ConnectionResetError("the other side hung up inside a frame")
        content += part
    return bytes(content)


def _verify_lengths(header: int, signature: int, tensors: int, max_tensors: int) -> None:
    for what, got, most in (
        ("header", header, MAX_HEADER_BYTES),
        ("signature", signature, MAX_SIGNATURE_BYTES),
        ("tensors", tensors, max_tensors),
    ):
        if got > most:
            raise ProtocolError(f"expected at most {most} bytes of {what}, got {got}")
