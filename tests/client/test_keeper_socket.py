"""The keeper's socket and the courier: who may ask, how much, how long, and what a crash does."""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from veilface_client import courier, keeper_socket
from veilface_client.courier import carry
from veilface_client.failures import KeptAtHome
from veilface_client.keeper_socket import CONNECTIONS, listening
from veilface_common import wire
from veilface_common.errors import ConfigError, ProtocolError, RequestRefused
from veilface_common.wire import Envelope

QUESTION = Envelope(header="question", tensors=bytes(3_000_000), signature=b"s" * 64)
ANSWER = Envelope(header="answer", tensors=bytes(2_000_000), signature=b"t" * 64)


class Door:
    """What the socket needs of one: an answer to each request, and how large a model may be."""

    max_model_bytes = 4 << 20

    def __init__(self, answer: Callable[[Envelope], Envelope] = lambda _: ANSWER) -> None:
        self.answer = answer


@contextmanager
def kept(path: Path, door: Door) -> Iterator[None]:
    with listening(path, door):  # type: ignore[arg-type]  # a door of a test
        yield


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(courier, "_RETRY_SECONDS", 0.05)
    return tmp_path / "keeper.sock"


def connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.connect(str(path))
    return connection


def test_a_request_is_carried_to_the_keeper_and_back(path: Path) -> None:
    """Whole and unread, both ways; the socket is its owner's alone, and goes at the end."""
    seen = []

    def answer(envelope: Envelope) -> Envelope:
        seen.append(envelope)
        return ANSWER

    with kept(path, Door(answer)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert carry(path, QUESTION) == ANSWER
    assert seen == [QUESTION]
    assert not path.exists()


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(path: Path) -> None:
    """A keeper that was killed leaves its socket; one that runs keeps it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_over:
        left_over.bind(str(path))
    with kept(path, Door()):
        assert carry(path, QUESTION) == ANSWER
        with pytest.raises(ConfigError, match="another keeper listens"), kept(path, Door()):
            pass
        assert carry(path, QUESTION) == ANSWER


def test_a_file_of_another_kind_is_not_replaced(tmp_path: Path) -> None:
    """A slip of `--socket` would remove it."""
    path = tmp_path / "home.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="another kind"), kept(path, Door()):
        pass
    assert path.read_text() == "{}"


def test_a_path_that_no_socket_can_have_is_an_error(tmp_path: Path) -> None:
    """Too long for the kernel, or in a folder that is not there."""
    for bad in (tmp_path / ("x" * 120), tmp_path / "gone" / "keeper.sock"):
        with pytest.raises(ConfigError, match="socket"), kept(bad, Door()):
            pass
    with pytest.raises(ConfigError, match="user of this machine"):  # noqa: SIM117 -- one statement
        with listening(tmp_path / "k", Door(), "nobody-of-this-name"):  # type: ignore[arg-type]
            pass


def test_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says who connected; the message is not even read."""

    class Foreign(socket.socket):
        def getsockopt(self, *_: object) -> bytes:  # type: ignore[override]
            return struct.pack("3i", os.getpid(), os.getuid() + 1, os.getgid())

    real = keeper_socket._verify_peer

    def foreign(connection: socket.socket, allowed: set[int]) -> None:
        real(Foreign(fileno=os.dup(connection.fileno())), allowed)

    monkeypatch.setattr(keeper_socket, "_verify_peer", foreign)
    door = Door(lambda _: pytest.fail("asked"))
    with kept(path, door), pytest.raises(RequestRefused, match="expected the node's user"):
        carry(path, QUESTION, away_seconds=5)


def test_a_model_of_10_gb_is_refused_from_what_it_declares(path: Path) -> None:
    """Its bytes are never waited for, and no room is made for them."""
    with kept(path, Door()), connected(path) as connection:
        connection.sendall(b"VFK\x01" + struct.pack(">cIIQ", b"q", 2, 64, 10 * 10**9))
        kind, refusal = wire.read_frame(connection)
    assert kind == wire.REFUSED
    assert "got 10000000000" in refusal.header


def test_a_model_beyond_the_rules_is_refused_to_the_courier(path: Path) -> None:
    """While it is still being sent: the reason arrives, and is not taken for a keeper away."""
    large = Envelope(header="{}", tensors=bytes(Door.max_model_bytes + 1))
    with kept(path, Door()):
        for _ in range(20):  # how far it comes before it is cut off differs
            with pytest.raises(RequestRefused, match="bytes of tensors"):
                carry(path, large, away_seconds=0)


def test_half_a_frame_and_then_silence_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place of whoever says nothing more is free again after the time for reading."""
    monkeypatch.setattr(keeper_socket, "READ_SECONDS", 0.3)
    with kept(path, Door()), connected(path) as connection:
        connection.sendall(b"VFK\x01")
        assert connection.recv(1) == b""
        assert carry(path, QUESTION) == ANSWER


def test_what_is_no_request_is_refused(path: Path) -> None:
    """A reply in its place, or another protocol."""
    with kept(path, Door()):
        for content in (
            b"VFK\x01" + struct.pack(">cIIQ", b"r", 0, 0, 0),
            b"GET / HTTP/1.1\r\n\r\n" * 2,
        ):
            with connected(path) as connection:
                connection.sendall(content)
                assert wire.read_frame(connection)[0] == wire.REFUSED


def test_a_refusal_is_told_and_other_words_are_not(path: Path) -> None:
    """What the door lets out arrives as it is."""
    for error in (RequestRefused("not at night"), KeptAtHome("failed with DataError")):

        def refuse(_: Envelope, error: ProtocolError = error) -> Envelope:
            raise error

        with kept(path, Door(refuse)), pytest.raises(RequestRefused) as refused:
            carry(path, QUESTION)
        assert str(refused.value) == str(error)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_beyond_the_door_says_nothing(path: Path) -> None:
    """A fault of our own is not sent to whoever caused it; the keeper lives on."""

    def broken(envelope: Envelope) -> Envelope:
        if envelope == QUESTION:
            raise RuntimeError("/home/org/faces")
        return ANSWER

    with kept(path, Door(broken)):
        with pytest.raises(ProtocolError) as failed:
            carry(path, QUESTION, away_seconds=0.2)
        assert "faces" not in str(failed.value)
        assert carry(path, Envelope(header="other")) == ANSWER


def test_a_keeper_that_ends_in_the_middle_is_asked_again(path: Path) -> None:
    """Killed while it trained, long after the courier's patience for one that is away."""
    first = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    first.bind(str(path))
    first.listen()
    answers: list[Envelope] = []
    thread = threading.Thread(
        target=lambda: answers.append(carry(path, QUESTION, away_seconds=0.5))
    )
    thread.start()
    connection, _ = first.accept()
    wire.read_frame(connection)
    time.sleep(0.8)  # at work for longer than a keeper may be away
    connection.close()
    first.close()
    time.sleep(0.2)
    with kept(path, Door()):
        thread.join(10)
    assert answers == [ANSWER]


def test_a_request_that_ends_the_keeper_each_time_is_given_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked as often as one charge lasts, and no more."""
    monkeypatch.setattr(courier, "_RETRY_SECONDS", 0.01)
    asked = []

    def die(_: Envelope) -> Envelope:
        asked.append(1)
        time.sleep(0.05)
        raise OSError

    with kept(path, Door(die)), pytest.raises(ProtocolError, match="it ended 3 times"):
        carry(path, QUESTION, away_seconds=60)
    assert len(asked) == 3


def test_a_keeper_away_is_waited_for_and_then_said_to_be(path: Path) -> None:
    """Until the time is over; the hint says what to start."""
    with pytest.raises(ProtocolError, match=r"nobody for 0\.2 s") as away:
        carry(path, QUESTION, away_seconds=0.2)
    assert away.value.hint == "at the organisation: veilface serve"


def test_more_connections_than_places_come_again(path: Path) -> None:
    """Who finds no place is not refused: it asks again until there is one."""
    go_on = threading.Event()

    def slowly(_: Envelope) -> Envelope:
        go_on.wait(10)
        return ANSWER

    answers: list[Envelope] = []
    with kept(path, Door(slowly)):
        threads = [
            threading.Thread(target=lambda: answers.append(carry(path, QUESTION, 10)))
            for _ in range(CONNECTIONS + 3)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        assert not answers
        go_on.set()
        for thread in threads:
            thread.join(20)
    assert answers == [ANSWER] * (CONNECTIONS + 3)


def test_a_moment_without_descriptors_does_not_end_the_keeper(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`accept` fails while the process has no more of them; the next one is answered."""
    failures = [OSError(24, "Too many open files")]
    real = socket.socket.accept

    def accept(self: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop()
        return real(self)

    monkeypatch.setattr(socket.socket, "accept", accept)
    answers: list[Envelope] = []
    with kept(path, Door()):
        asking = threading.Thread(target=lambda: answers.append(carry(path, QUESTION)), daemon=True)
        asking.start()
        asking.join(10)
    assert (answers, failures) == ([ANSWER], [])
