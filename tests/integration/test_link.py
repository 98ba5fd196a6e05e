"""A coordinator for real: Flower's programs on the loopback, TLS, one organisation's node.

No training: what a run does is tested where keepers are. This is the way there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.server.coordinator_parts import asks_to_join, new_node_key

from veilface_common.invitation import parse_invitation, spoken
from veilface_common.processes import end, free_port, marked
from veilface_server.home import Home, open_home
from veilface_server.link import MARK, mark_of
from veilface_server.nodes import node_states

PROGRAM = Path(sys.executable).parent / "veilface-server"
LOCAL = urllib.request.ProxyHandler({})


@dataclass
class Link:
    """A coordinator that runs."""

    home: Home
    address: str
    process: subprocess.Popen[str]
    said: list[str]

    def command(self, *words: str) -> str:
        """Run one of the coordinator's commands and return what it prints."""
        return subprocess.run(
            [PROGRAM, "--home", self.home.folder, *words],
            check=True, capture_output=True, text=True, timeout=60,
        ).stdout  # fmt: skip

    def post(self, path: str, body: bytes = b"") -> int:
        """Send something to the public port and return the status."""
        trust = urllib.request.HTTPSHandler(
            context=ssl.create_default_context(cafile=self.home.authority)
        )
        request = urllib.request.Request(f"https://{self.address}{path}", data=body, method="POST")
        try:
            with urllib.request.build_opener(LOCAL, trust).open(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def child(self, name: str) -> psutil.Process:
        """Return one of the processes that the coordinator keeps."""
        (found,) = (p for p in marked(MARK, mark_of(self.home)) if name in " ".join(p.cmdline()))
        return found


def started(folder: Path) -> subprocess.Popen[str]:
    """Start the coordinator; it has said nothing yet."""
    return subprocess.Popen(
        [PROGRAM, "--home", folder, "start"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ready(process: subprocess.Popen[str]) -> list[str]:
    """Return what it said until it was ready."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("coordinator's key: "):
            return lines
    raise AssertionError("\n".join(lines))


def waited_for(what: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Return whether it came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.2)
    return False


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    """Return a coordinator that runs; all of it is ended."""
    folder = tmp_path_factory.mktemp("link") / "federation"
    address = f"127.0.0.1:{free_port()}"
    words = ["--name", "clinics", "--address", address, "--listen", address]
    subprocess.run([PROGRAM, "--home", folder, "init", *words], check=True, capture_output=True)
    process = started(folder)
    home, _ = open_home(folder)
    running = Link(home=home, address=address, process=process, said=[])
    try:
        running.said += ready(process)
        yield running
    finally:
        running.process.terminate()
        running.process.wait(30)
        assert marked(MARK, mark_of(home)) == []


@contextlib.contextmanager
def node(link: Link, folder: Path) -> Iterator[Path]:
    """Run Flower's SuperNode with the key in `folder`, through the public port; give its log."""
    log = folder / "log"
    command = [
        "flower-supernode", "--superlink", link.address,
        "--root-certificates", folder / "ca.crt",
        "--auth-supernode-private-key", folder / "node.key",
        "--isolation", "process", "--port", str(free_port()),
    ]  # fmt: skip
    own = {"FLWR_HOME": str(folder / "flower"), "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=os.environ | own, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield log
    finally:
        end([psutil.Process(process.pid)], grace_seconds=0)
        process.wait(10)


def test_from_an_invitation_to_a_node_that_is_there(link: Link, tmp_path: Path) -> None:
    """init, start, invite, join, approve, a node over TLS; then what must not get through."""
    folder = tmp_path / "ada"
    folder.mkdir()
    file = tmp_path / "ada.invitation"
    link.command("invite", "ada", "--out", str(file))
    found = parse_invitation(file.read_text())
    assert spoken(found.coordinator_key) in link.said[-1]

    key = new_node_key()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (folder / "node.key").write_bytes(private)
    (folder / "node.key").chmod(0o600)
    (folder / "ca.crt").write_text(found.ca)
    request = asks_to_join("ada", found.token, key)
    assert link.post("/veilface/join", request.encode()) == 200
    assert spoken(request.organisation_key) in link.command("members")
    link.command("approve", "ada")

    with node(link, folder) as log:
        assert waited_for(lambda: "SuperNode ID" in log.read_text()), log.read_text()
        assert list(node_states(link.home).values()) == ["online"]
        for path in ("/v1/control/list-nodes", "/v1/runtime/acquire-task", "/health"):
            assert link.post(path) == 404
            assert link.post("/v1/fleet/.." + path.removeprefix("/v1")) == 404
        assert raw(link, f"POST https://{link.address}/v1/control/list-nodes HTTP/1.1") == 404
        assert raw(link, "POST //v1/control/list-nodes HTTP/1.1") == 404
        assert raw(link, "POST /v1/fleet/%2e%2e/control/list-nodes HTTP/1.1") == 404
        assert is_up(link)
        link.command("remove", "ada")
    assert list(node_states(link.home).values()) == ["unregistered"]


def test_what_dies_is_started_again_and_nothing_is_left(link: Link) -> None:
    """kill -9 of each process, then of the coordinator itself, which starts again beside it all."""
    for name in ("flower-superlink", "flower-superexec", "proxy_process"):
        link.child(name).kill()
    assert waited_for(lambda: len(marked(MARK, mark_of(link.home))) == 3 and is_up(link))
    leftovers = marked(MARK, mark_of(link.home))
    link.process.send_signal(signal.SIGKILL)
    link.process.wait(10)
    link.process = started(link.home.folder)
    assert "coordinator's key" in ready(link.process)[-1]
    # Ended, and taken away by whoever is their parent now, which can take a moment.
    assert waited_for(lambda: not any(process.is_running() for process in leftovers))
    assert is_up(link)


def is_up(link: Link) -> bool:
    """Whether Flower answers behind the public port; the proxy alone would say 503."""
    with contextlib.suppress(OSError):
        return link.post("/v1/fleet/get-run") == 415  # of a form, which is no message
    return False


def raw(link: Link, line: str) -> int:
    """Send a request line that no client library would, and return the status."""
    host, port = link.address.split(":")
    trust = ssl.create_default_context(cafile=link.home.authority)
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall(f"{line}\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        return int(connection.recv(1000).split()[1])
