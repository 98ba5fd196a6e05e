"""A coordinator that is Flower alone: a SuperLink with TLS and node authentication on a free port.

Its ServerApp is a stand-in that asks every node `describe` some times and writes the answers down.
What the coordinator sends is what a test puts into a bundle, the hostile one included.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from veilface_common.processes import end_marked, free_port
from veilface_server.authority import CA, LINK, LINK_KEY, make_authority, renew_link_certificate
from veilface_server.flower_command import (
    flower_environment,
    flwr,
    is_healthy,
    program,
    submit,
    write_connection,
)

_MARK = "VEILFACE_TEST_LINK_OF"
_APP = """
import json, os, time
from pathlib import Path
from flwr.app import Message
from flwr.serverapp import ServerApp
from veilface_common import wire

app = ServerApp()

@app.main()
def main(grid, context):
    answers = []
    for number in range(int(os.environ["TEST_MESSAGES"])):
        while not (nodes := list(grid.get_node_ids())):
            time.sleep(0.1)
        begun = time.monotonic()
        asked = [
            Message(
                wire.to_record(wire.Envelope(header=f"question {number}")),
                dst_node_id=node, message_type=wire.DESCRIBE, group_id=str(number),
            )
            for node in nodes
        ]
        for reply in grid.send_and_receive(asked, timeout=60):
            answers.append({
                "seconds": time.monotonic() - begun,
                "error": reply.error.reason if reply.has_error() else "",
                "header": "" if reply.has_error() else wire.from_record(reply.content).header,
            })
    path = Path(os.environ["TEST_ANSWERS"])
    path.with_suffix(".new").write_text(json.dumps(answers))
    path.with_suffix(".new").rename(path)
"""


@dataclass
class Link:
    """A SuperLink that runs, and what it is asked to run."""

    folder: Path
    port: int
    environment: dict[str, str]

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    @property
    def authority(self) -> Path:
        """The certificate of who vouches for it."""
        return self.folder / "tls" / CA

    def start(self) -> None:
        """Start it, again where it was ended."""
        command = [
            program("flower-superlink", self.environment),
            "--host", "127.0.0.1", "--port", str(self.port),
            "--ssl-ca-certfile", str(self.authority),
            "--ssl-certfile", str(self.folder / "tls" / LINK),
            "--ssl-keyfile", str(self.folder / "tls" / LINK_KEY),
            "--enable-supernode-auth", "--database", str(self.folder / "state.db"),
            "--disable-runtime-dependency-installation",
        ]  # fmt: skip
        with (self.folder / "link.log").open("ab") as log:
            subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: is_healthy(self.address, self.authority), "the SuperLink", 30)

    def end(self) -> None:
        """End it and all that it started."""
        end_marked(_MARK, str(self.folder))

    def register(self, public_key: Path) -> None:
        """Take a node's key."""
        flwr(["supernode", "register", str(public_key)], self.environment)

    def run(self, bundle: Path, seconds: float = 60) -> list[dict[str, Any]]:
        """Run a bundle and return what the nodes answered."""
        answers = self.folder / "answers.json"
        answers.unlink(missing_ok=True)
        submit(bundle, [], self.environment)
        wait_for(answers.exists, "the nodes' answers", seconds)
        found: list[dict[str, Any]] = json.loads(answers.read_text())
        return found


def make_link(folder: Path, messages: int = 1) -> Link:
    """Make a coordinator in `folder`; it asks each node so many times in a run."""
    (folder / "tls").mkdir(parents=True)
    now = datetime.now(UTC)
    make_authority(folder / "tls", "test", now)
    renew_link_certificate(folder / "tls", "127.0.0.1", now)
    stand_in = folder / "apps" / "veilface_server"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    (stand_in / "app.py").write_text(_APP)
    environment = flower_environment(
        folder / "flower",
        {
            _MARK: str(folder),
            "PYTHONPATH": str(folder / "apps"),
            "TEST_ANSWERS": str(folder / "answers.json"),
            "TEST_MESSAGES": str(messages),
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        },
    )
    link = Link(folder=folder, port=free_port(), environment=environment)
    write_connection(folder / "flower", link.address, link.authority)
    return link


def wait_for(holds: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until something holds; it does in time, or the test fails."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and not only what is left for its parent to read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return os.path.exists(f"/proc/{pid}")  # noqa: PTH110 -- gone in between, or not Linux
