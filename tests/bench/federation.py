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
from veilface_server.runs import load_runs
from veilface_simulations.cli import main as simulate

POLICY = """unit = "identity"
epsilon = 100.0
delta = 1e-5
max_sample_rate = 1.0

[requests]
models = ["tiny/128"]
min_participants = 2
allow_no_privacy = true
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
        before = {run.id for run in load_runs_of(self.coordinator)}
        done = veilface_server(["--home", str(self.coordinator), "train", *options])
        assert done == 0
        (run,) = (r.id for r in load_runs_of(self.coordinator) if r.id not in before)
        return self.coordinator / "runs" / run

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
