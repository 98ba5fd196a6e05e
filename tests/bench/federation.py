"""A whole federation of real processes on loopback, counted: CPU, memory, bytes on the wire.

Folders are made by the commands' own functions in this process, since each command as a program
imports PyTorch anew; what runs while training are the programs that the README starts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.relay import Relay
from tests.integration.deployment import free_port

from veilface_client.cli import main as veilface
from veilface_server.cli import main as veilface_server
from veilface_server.home import open_home
from veilface_server.runs import load_run, load_runs
from veilface_simulations.cli import main as simulate

POLICY = """unit = "identity"
epsilon = 100.0
delta = 1e-5
max_sample_rate = 1.0

[requests]
models = ["tiny/128"]
min_participants = 2
"""
PATIENCE_SECONDS = 600.0


@dataclass(kw_only=True)
class Federation:
    """The coordinator, its organisations, and every process that was started for them."""

    place: Path
    names: Sequence[str]
    relay: Relay
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def coordinator(self) -> Path:
        """Return the coordinator's folder."""
        return self.place / "coordinator"

    def home(self, name: str) -> Path:
        """Return an organisation's folder."""
        return self.place / name

    def start(self, what: str, program: str, *arguments: str) -> None:
        """Start one of our programs; what it says goes to WHAT.log."""
        path = str(Path(sys.executable).parent / program)
        with (self.place / f"{what}.log").open("ab") as log:
            self.started[what] = subprocess.Popen(
                [path, *arguments],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_for(self, what: str, text: str) -> None:
        """Wait until a program has said `text`."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while text not in (said := (self.place / f"{what}.log").read_text(errors="replace")):
            assert self.started[what].poll() is None, (what, said)
            assert time.monotonic() < ends, (what, text, said)
            time.sleep(0.1)

    def train(self, *options: str) -> Path:
        """Have the coordinator train and return the run's folder at once."""
        home, _ = open_home(self.coordinator)
        before = {run.id for run in load_runs(home)}
        assert veilface_server(["--home", str(self.coordinator), "train", *options]) == 0
        (run,) = (run.id for run in load_runs(home) if run.id not in before)
        return self.coordinator / "runs" / run

    def verify_goes_on(self, run: Path) -> None:
        """Do nothing while the run may still come to its end."""
        home, _ = open_home(self.coordinator)
        known = load_run(home, run.name)
        assert known.state in ("waiting", "running", "finished"), known

    def end(self) -> None:
        """End what was started, the newest first."""
        for process in reversed(self.started.values()):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in reversed(self.started.values()):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.relay.end()


def set_up(place: Path, names: Sequence[str], *, account: Path | None) -> Federation:
    """Make a coordinator that runs and organisations that it has approved; nothing of theirs runs.

    Args:
        place: a folder for all of them.
        names: of the organisations.
        account: photographs that each of them opens an account with; None: they have none.
    """
    os.environ["VEILFACE_PASSPHRASE_FILE"] = str(place / "passphrase.txt")
    (place / "passphrase.txt").touch(mode=0o600)
    (place / "passphrase.txt").write_text("a passphrase for a measurement\n")
    (place / "policy.toml").write_text(POLICY)
    listen, public = free_port(), free_port()
    federation = Federation(place=place, names=names, relay=Relay(public, listen))
    home = ["--home", str(federation.coordinator)]
    address = ["--address", f"127.0.0.1:{public}", "--listen", f"127.0.0.1:{listen}"]
    assert veilface_server([*home, "init", "--name", "city", *address]) == 0
    federation.start("coordinator", "veilface-server", *home, "start")
    federation.wait_for("coordinator", "https://")
    for name in names:
        invitation = str(place / f"{name}.invitation")
        assert veilface_server([*home, "invite", name, "--out", invitation]) == 0
        own = ["--home", str(federation.home(name))]
        assert veilface([*own, "init", "--name", name]) == 0
        assert veilface([*own, "join", invitation]) == 0
        if account is not None:
            declared = ["--people-declared", "30", "--photos-declared", "120"]
            opening = ["account", "open", f"folder:{account}", "--policy"]
            assert veilface([*own, *opening, str(place / "policy.toml"), *declared]) == 0
        assert veilface_server([*home, "approve", name]) == 0
    return federation


def start_keepers(federation: Federation) -> None:
    """Start every organisation's keeper, all at once, and wait until each answers."""
    for name in federation.names:
        home = str(federation.home(name))
        federation.start(f"keeper-{name}", "veilface", "--home", home, "serve", "--no-web")
    for name in federation.names:
        federation.wait_for(f"keeper-{name}", "keeper:")


def start_nodes(federation: Federation) -> None:
    """Start every organisation's node, all at once, and wait until each is online."""
    for name in federation.names:
        home = str(federation.home(name))
        federation.start(f"node-{name}", "veilface", "--home", home, "node", "start")
    for name in federation.names:
        federation.wait_for(f"node-{name}", "online in")


def draw_people(place: Path) -> Path:
    """Return a folder of 30 drawn people with four photographs each."""
    assert simulate(["draw", "30x4", "--seed", "11", "--out", str(place / "staff")]) == 0
    return place / "staff"


def public_model(place: Path) -> Path:
    """Return a model of other drawn people, to begin private training with."""
    run = ["run", "--data", "drawn:60x6", "--arms", "central", "--rounds", "2", "--seed", "2"]
    run += ["--engine", "inprocess", "--cache", str(place / "cache"), "--out", str(place / "demo")]
    assert simulate(run) == 0
    return place / "demo" / "model"
