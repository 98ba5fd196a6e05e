"""The node's key, its clock, its log, and what it makes of Flower's words."""

from __future__ import annotations

import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from veilface_client.federation import Federation
from veilface_client.node import programs, starting
from veilface_client.node.keys import create_node_key
from veilface_client.node.programs import Tail
from veilface_client.node.reaching import Unreachable, clock_warning
from veilface_client.node.signs import Sign, read_sign
from veilface_client.node.status import (
    NodeStatus,
    State,
    is_running,
    load_status,
    running,
    save_status,
)
from veilface_common.errors import ConfigError, EngineError, KeyFileError
from veilface_common.invitation import parse_node_key

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """P-384 in OpenSSH's format, as Flower and the coordinator read it."""
    path = tmp_path / "node.key"
    line = create_node_key(path)
    assert create_node_key(path) == line
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / "node.key.pub").read_text() == f"{line}\n"
    key = load_ssh_private_key(path.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert parse_node_key(line).public_numbers() == key.public_key().public_numbers()


def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """It may be in other hands already."""
    create_node_key(tmp_path / "node.key")
    (tmp_path / "node.key").chmod(0o640)
    with pytest.raises(KeyFileError, match="owner alone"):
        create_node_key(tmp_path / "node.key")


@pytest.mark.parametrize(
    ("ahead", "says"),
    [(0, None), (2, None), (-60, None), (4, "4 s ahead"), (-61, "61 s behind")],
)
def test_clock_that_drifts_is_warned_of(ahead: float, says: str | None) -> None:
    """Long before Flower refuses what the node signs."""
    warning = clock_warning(NOW + timedelta(seconds=ahead), NOW)
    assert (warning is None) if says is None else (warning is not None and says in warning)


@pytest.mark.parametrize("ahead", [-301, 7, 86400])
def test_clock_that_flower_would_refuse_is_explained(ahead: float) -> None:
    """Its window is not the same on both sides."""
    with pytest.raises(EngineError, match="clock"):
        clock_warning(NOW + timedelta(seconds=ahead), NOW)


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("\x1b[92mINFO \x1b[0m:      SuperNode ID: 1522740675683841850", "online"),
        ("[code: 2004] Failed to activate SuperNode.", "refused"),
        ("WARNING :   Connection attempt failed, retrying in 0.58 seconds", "away"),
        ("INFO :      Connection successful after 0.84 seconds and 3 tries.", "back"),
        ("ERROR :     SSL/TLS handshake error detected.", "authority"),
        ("INFO :      SuperNode terminated gracefully.", "signed-off"),
        ("Exception in thread Thread-1 (_run):", "broken"),
        ("INFO :      Receiving: train message (ID: 3)", "message"),
        ("INFO:     Application startup complete.", None),
    ],
)
def test_flowers_words_are_understood(line: str, meaning: str | None) -> None:
    """As release 1.41 prints them."""
    sign = read_sign(line)
    assert (sign.meaning if sign else None) == meaning


def test_log_is_read_on_in_whole_lines_and_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also across its being begun anew."""
    monkeypatch.setattr(programs, "_LOG_BYTES", 20)
    path = tmp_path / "x.log"
    path.write_bytes(b"of an earlier start\n")
    tail = Tail(path)
    read: list[str] = []
    with path.open("ab", buffering=0) as log:
        for piece in (b"one\ntw", b"o\n", b"three and more\nfo", b"ur\n"):
            log.write(piece)
            read += tail.lines()
    assert read == ["one", "two", "three and more", "four"]
    assert path.stat().st_size < 20


def test_one_node_runs_in_a_folder(tmp_path: Path) -> None:
    """And whether one does is asked of the system, not of a file that a crash leaves behind."""
    assert not is_running(tmp_path)
    with running(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(ConfigError, match="no other node"), running(tmp_path):
            pass
    assert not is_running(tmp_path)


def test_status_is_read_back_and_damage_is_none(tmp_path: Path) -> None:
    """A status is for looking; nothing hangs on it but a waiting time."""
    save_status(tmp_path, NodeStatus(state="online", messages=3))
    assert load_status(tmp_path) == NodeStatus(state="online", messages=3)
    (tmp_path / "status.json").write_text("{")
    assert load_status(tmp_path) is None


def made_node(folder: Path) -> starting._Node:
    return starting._Node(
        folder=folder,
        federation=Federation(name="f", organisation="o", address="a:1", coordinator=""),
        socket=folder / "s",
        say=lambda _: None,
        stop=threading.Event(),
    )


@pytest.mark.parametrize(
    ("state", "seconds_ago", "expected"),
    [
        ("online", 30, "still-online"),
        ("online", 600, "not-approved"),
        ("stopped", 30, "not-approved"),
        (None, 0, "not-approved"),
    ],
)
def test_refused_key_is_told_from_one_that_still_counts_as_online(
    state: State | None,
    seconds_ago: float,
    expected: State,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flower has one code for both; when the node was online last tells them apart."""
    monkeypatch.setattr(starting, "bundle_digest", lambda: "00")
    (tmp_path / "log").mkdir()
    (tmp_path / "ca.crt").touch()
    if state is not None:
        seen = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()
        save_status(tmp_path, NodeStatus(state=state, seen=seen))
    node = made_node(tmp_path)
    assert node._trouble(Sign(meaning="refused")).state == expected
    node._trouble(Sign(meaning="signed-off"))
    assert node._trouble(Sign(meaning="refused")).state == "not-approved"


def state_of(node: starting._Node) -> State | None:
    status = load_status(node._folder)
    return None if status is None else status.state


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> starting._Node:
    """Return a node that is online, of which Flower then says that it finds nobody."""
    monkeypatch.setattr(starting, "bundle_digest", lambda: "00")
    (tmp_path / "log").mkdir()
    (tmp_path / "ca.crt").touch()
    node = made_node(tmp_path)
    node._follow(Sign(meaning="online", detail="1"))
    node._follow(Sign(meaning="away"))
    assert state_of(node) == "unreachable"
    return node


def test_node_that_gets_a_message_is_online(node: starting._Node) -> None:
    """Whatever Flower's threads said of their connections."""
    node._follow(Sign(meaning="message"))
    assert state_of(node) == "online"


def test_node_whose_flower_falls_silent_asks_the_coordinator(
    node: starting._Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower was seen to find it again without a word; the status then stayed "unreachable"."""
    monkeypatch.setattr(starting, "verify_clock", lambda *_: None)
    node._refresh()
    assert state_of(node) == "unreachable"
    monkeypatch.setattr(starting, "_QUIET_SECONDS", 0.0)
    node._refresh()
    assert state_of(node) == "online"


def test_node_whose_coordinator_is_away_stays_unreachable(
    node: starting._Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: str) -> None:
        raise Unreachable("nobody answers")

    monkeypatch.setattr(starting, "verify_clock", away)
    monkeypatch.setattr(starting, "_QUIET_SECONDS", 0.0)
    node._refresh()
    assert state_of(node) == "unreachable"
