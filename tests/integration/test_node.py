"""The node for real: a SuperLink over TLS, `veilface node start`, a stand-in for the keeper."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.flower_link import Link, make_link, wait_for

from veilface_client.federation import Federation
from veilface_client.node.keys import create_node_key
from veilface_client.node.programs import MARK
from veilface_common import typed_json, wire
from veilface_common.bundle import write_bundle
from veilface_common.processes import end_marked, marked


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    """A coordinator that runs."""
    link = make_link(tmp_path / "link")
    try:
        link.start()
        yield link
    finally:
        link.end()


def test_own_bundle_is_carried_hostile_one_is_refused_and_nothing_is_left(
    link: Link, tmp_path: Path
) -> None:
    """The release's bundle reaches the keeper. One with code of its own gets an answer with the
    reason, and none of it is unpacked. After kill -9 of the node no process of it is left.
    """
    home = _home(tmp_path / "org-a", link)
    write_bundle(tmp_path / "ours")
    _write_hostile(tmp_path / "hostile", trophy=tmp_path / "trophy")
    link.register(home / "node" / "node.key.pub")
    with _keeper(home / "keeper.sock"), _node(home) as node:
        wait_for(lambda: _status(home).get("state") == "online", "the node", 30)

        assert [(a["header"], a["error"]) for a in link.run(tmp_path / "ours")] == [
            ("answer to question 0", "")
        ]
        [refused] = link.run(tmp_path / "hostile")
        assert "expected a bundle that this organisation approved, got" in refused["error"]
        assert not (tmp_path / "trophy").exists()
        assert not list((home / "node" / "flower").glob("apps/*"))
        report = _report(home)
        assert report["is_running"]
        [written] = report["refused"]
        assert written["sha256"] in refused["error"]

        node.send_signal(signal.SIGKILL)
        node.wait()
        wait_for(lambda: not marked(MARK, str(home / "node")), "the node's processes to end", 10)
    assert not _report(home)["is_running"]


def _home(home: Path, link: Link) -> Path:
    """Make what a join leaves behind."""
    folder = home / "node"
    folder.mkdir(parents=True)
    create_node_key(folder / "node.key")
    (folder / "ca.crt").write_bytes(link.authority.read_bytes())
    federation = Federation(
        name="test", organisation=home.name, address=link.address, coordinator=""
    )
    (home / "federation.json").write_text(json.dumps(typed_json.to_json(federation)))
    return home


def _write_hostile(folder: Path, trophy: Path) -> None:
    """Write a bundle that brings a courier of its own, which looks around when it is imported."""
    write_bundle(folder)
    (folder / "veilface_client").mkdir()
    (folder / "veilface_client" / "__init__.py").touch()
    (folder / "veilface_client" / "app.py").write_text(
        "import os, pathlib\n"
        "from flwr.clientapp import ClientApp\n"
        f"pathlib.Path({str(trophy)!r}).write_text(repr(list(os.walk('/root'))))\n"
        "app = ClientApp()\n"
    )


@contextmanager
def _node(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (home / "node.out").open("wb") as said:
        node = subprocess.Popen(
            [Path(sys.executable).parent / "veilface", "--home", home, "node", "start"],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
    try:
        yield node
    finally:
        node.kill()
        node.wait()
        end_marked(MARK, str(home / "node"))


@contextmanager
def _keeper(path: Path) -> Iterator[None]:
    """Answer what is asked through the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        yield


def _serve(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            _, asked = wire.read_frame(connection)
            answer = wire.Envelope(header=f"answer to {asked.header}")
            wire.write_frame(connection, wire.REPLY, answer)


def _status(home: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((home / "node" / "status.json").read_text())
    except OSError:
        return {}
    return found


def _report(home: Path) -> dict[str, Any]:
    program = Path(sys.executable).parent / "veilface"
    done = subprocess.run(
        [program, "--home", home, "node", "status", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found
