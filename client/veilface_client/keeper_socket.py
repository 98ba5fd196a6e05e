"""The keeper as a process: its door behind a Unix socket, for the courier of the Flower node.

The socket is for its owner alone (0600), or for one other user by that user's group (0660); who is
on the other side is asked of the kernel (SO_PEERCRED), not of the message. A connection carries one
request and one answer. One request is worked on at a time, the others wait.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from veilface_client.keeper_probe import is_answered
from veilface_common import wire
from veilface_common.command import one_line
from veilface_common.errors import ConfigError, ProtocolError
from veilface_common.wire import Envelope

READ_SECONDS = 60.0  # in which a request must be here, whole
CONNECTIONS = 8  # held at once; a node needs one
_PAUSE_SECONDS = 0.1
_PEER = struct.Struct("3i")
_LONGEST = 107  # bytes of a Unix socket's path: sun_path, with its end


class Answering(Protocol):
    """A door, watched or not: see `door.Door`."""

    @property
    def max_model_bytes(self) -> int:
        """How large a model may be that a request brings."""
        ...

    def answer(self, envelope: Envelope) -> Envelope:
        """Return the reply to a request. Raises ProtocolError, and nothing else."""
        ...


@contextmanager
def listening(path: Path, door: Answering, node_user: str | None = None) -> Iterator[None]:
    """Answer requests at `path` while the block runs; it ends without waiting for training.

    What a request was charged for that training did not end is there for it when it comes again.

    Args:
        path: of the socket; one that is left over is replaced, one that is answered at is not.
        door: what answers.
        node_user: another user who may ask: the one that the Flower node runs as.

    Raises:
        ConfigError: the path is too long, something else lies or listens there, or there is no such
            user.
    """
    allowed = {os.getuid()}
    group = None
    if node_user is not None:
        entry = _user(node_user)
        allowed.add(entry.pw_uid)
        group = entry.pw_gid
    server = _bound(path, group)
    ended = threading.Event()
    places = threading.BoundedSemaphore(CONNECTIONS)

    def accept() -> None:
        while not ended.is_set():
            try:
                connection, _ = server.accept()
            except OSError:  # closed by us, or no descriptor is left at the moment
                time.sleep(_PAUSE_SECONDS)
                continue
            if not places.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def serve(connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):  # who hung up comes again
                _serve(connection, door, allowed)
        finally:
            places.release()

    threading.Thread(target=accept, daemon=True, name="keeper").start()
    try:
        yield
    finally:
        ended.set()
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        server.close()
        path.unlink(missing_ok=True)


def _serve(connection: socket.socket, door: Answering, allowed: set[int]) -> None:
    try:
        _verify_peer(connection, allowed)
        kind, request = wire.read_frame(connection, door.max_model_bytes, seconds=READ_SECONDS)
        _verify_asks(kind)
        kind, answer = wire.REPLY, door.answer(request)
    except ProtocolError as error:  # all that the door lets out
        kind, answer = wire.REFUSED, Envelope(header=one_line(str(error)))
    connection.settimeout(READ_SECONDS)  # from now on: reading may have used all of it
    wire.write_frame(connection, kind, answer)


def _verify_asks(kind: bytes) -> None:
    if kind != wire.REQUEST:
        raise ProtocolError("expected a request, got another frame")


def _verify_peer(connection: socket.socket, allowed: set[int]) -> None:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, user, _ = _PEER.unpack(raw)
    if user not in allowed:
        raise ProtocolError(f"expected the node's user, got user {user}")


def _bound(path: Path, group: int | None) -> socket.socket:
    if len(os.fsencode(path)) > _LONGEST:
        raise ConfigError(
            f"expected a path of at most {_LONGEST} bytes for the keeper's socket, got {path}",
            hint="--socket PATH",
        )
    if path.exists() and not path.is_socket():
        raise ConfigError(f"expected a socket at {path}, or nothing, got a file of another kind")
    if path.exists() and is_answered(path):
        raise ConfigError(f"another keeper listens at {path}", hint="end it first")
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # from its first moment, the socket is for us alone
    try:
        server.bind(str(path))
    except OSError as error:
        server.close()
        raise ConfigError(f"expected to listen at {path}, got: {error.strerror}") from None
    finally:
        os.umask(before)
    if group is not None:
        try:
            os.chown(path, -1, group)
        except OSError as error:
            server.close()
            path.unlink(missing_ok=True)
            raise ConfigError(
                f"expected to hand {path} to the node's group, got: {error.strerror}",
                hint="the keeper's user must be a member of that group",
            ) from None
        path.chmod(0o660)
    server.listen(CONNECTIONS)
    return server


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"expected a user of this machine, got {name!r}") from None
