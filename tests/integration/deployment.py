"""A federation of real processes on loopback: what the README's section 'Deploy' says, run."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SECONDS = 150.0
LOOPBACK = "127.0.0.1"


def deploy_section() -> str:
    return README.split("## Deploy")[1].split("\n## ")[0]


def commands_of(text: str) -> list[str]:
    return re.findall(r"^    (\S.*)$", text, re.MULTILINE)


def policy_of(text: str) -> str:
    return text.split("```toml\n")[1].split("```", maxsplit=1)[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass(kw_only=True)
class Terminal:
    """Somebody's terminals on one machine: a folder, variables, and what runs in the background."""

    place: Path
    variables: dict[str, str] = field(default_factory=dict)
    background: list[subprocess.Popen[bytes]] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)

    @property
    def environment(self) -> Mapping[str, str]:
        return {**os.environ, **self.variables, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}

    def run(self, command: str) -> str:
        """Run a command to its end and return what it printed."""
        if command.startswith("export "):
            self.variables.update(re.findall(r"(\w+)=(\S+)", command))
            return ""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def start(self, command: str, name: str) -> subprocess.Popen[bytes]:
        """Start a command that stays; what it prints goes to NAME.log."""
        path = self.place / f"{name}.log"
        with path.open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.place,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.background.append(process)
        self.logs.append(path)
        return process

    def wait_for(self, text: str, name: str, seconds: float = SECONDS) -> None:
        """Wait until a background command has printed `text`."""
        path = self.place / f"{name}.log"
        ends = time.monotonic() + seconds
        while text not in path.read_text(errors="replace"):
            ended = [p.returncode for p in self.background if p.poll() is not None]
            assert time.monotonic() < ends, (name, text, ended, path.read_text(errors="replace"))
            time.sleep(0.2)

    def end(self) -> None:
        """End what runs in the background, the newest first, as an operator would."""
        for process in reversed(self.background):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self.background):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def link_programs(place: Path) -> None:
    """Let `.venv/bin/...` of the README lead to the programs that are tested."""
    (place / ".venv").mkdir()
    (place / ".venv" / "bin").symlink_to(Path(sys.executable).parent)


def with_name(commands: Sequence[str], name: str) -> list[str]:
    """Return the commands of `shop` as those of another organisation."""
    return [re.sub(r"\bshop\b", name, command) for command in commands]
