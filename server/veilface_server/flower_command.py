"""Flower's own programs, as we call them: answers as data, failures as one line.

FLWR_HOME/config.toml   where the SuperLink is, and who vouches for it
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from veilface_common.errors import EngineError
from veilface_common.files import write_atomically

CONNECTION = "here"
_SECONDS = 90.0  # for one of Flower's commands
_HEALTH_SECONDS = 2.0


def flower_environment(home: Path, own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of Flower's programs: quiet, offline, with its files in `home`.

    `own` are variables of ours, such as the mark by which the processes are found again.
    """
    programs = str(Path(sys.executable).parent)
    return os.environ | {
        "FLWR_HOME": str(home.resolve()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",  # seconds; 1 without it, in every round
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        # `python -m` and console scripts must find Flower's programs without an activated venv.
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", "")]),
        **own,
    }


def write_connection(home: Path, address: str, authority: Path | None) -> None:
    """Write down where `flwr` finds the SuperLink; without an authority it speaks no TLS.

    None is for the loopback alone, between processes of one user on one machine.
    """
    home.mkdir(parents=True, exist_ok=True)
    trust = (
        "insecure = true"
        if authority is None
        else f"root-certificates = {json.dumps(str(authority.resolve()))}"
    )
    write_atomically(
        home / "config.toml",
        f'[superlink]\ndefault = "{CONNECTION}"\n'
        f'[superlink.{CONNECTION}]\naddress = "{address}"\n{trust}\n'.encode(),
    )


def flwr(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, object]:
    """Run `flwr ... --format json` and return what it answers.

    Raises:
        EngineError: it failed; the message is Flower's last line.
    """
    what = " ".join(word for word in arguments[:2] if word.isalpha())
    try:
        done = subprocess.run(  # noqa: S603 -- our own command line
            [program("flwr", environment), *arguments, "--format", "json"],
            env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"flwr {what} took over {_SECONDS:g} s") from error
    start = done.stdout.find("{")  # after lines for a terminal
    try:
        answer = json.loads(done.stdout[start:]) if start >= 0 else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or answer.get("success") is False:
        raise EngineError(f"flwr {what} failed: {_last_line(answer, done)}")
    return answer


def submit(bundle: Path, options: Sequence[str], environment: Mapping[str, str]) -> str:
    """Hand the bundle in a folder to Flower to be run, and return the number of the run.

    Raises:
        EngineError: Flower does not take it.
    """
    answer = flwr(["run", str(bundle), CONNECTION, *options], environment)
    number = answer.get("run-id")
    if not number:
        raise EngineError("Flower did not accept the run")
    return str(number)


@dataclass(frozen=True)
class Standing:
    """What Flower says of a run."""

    status: str  # such as `running` or `finished:failed`; nothing where it knows of none
    details: str = ""  # why it failed, in a sentence of Flower's


def standing_of(number: str, environment: Mapping[str, str]) -> Standing:
    """Ask Flower about a run: two seconds of a processor, for it starts a program of Flower's."""
    runs = flwr(["ls", CONNECTION, "--run-id", number], environment).get("runs")
    first = runs[0] if isinstance(runs, list) and runs else None
    if not isinstance(first, dict):
        return Standing("")
    return Standing(str(first.get("status", "")), str(first.get("status-details", "")))


def is_healthy(address: str, authority: Path | None) -> bool:
    """Whether a SuperLink answers at HOST:PORT, with a certificate of that authority if any."""
    scheme = "http" if authority is None else "https"
    try:
        trust = None if authority is None else ssl.create_default_context(cafile=authority)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )
        with opener.open(f"{scheme}://{address}/health", timeout=_HEALTH_SECONDS):
            return True
    except (urllib.error.URLError, OSError, ValueError):
        return False


def is_listening(address: str) -> bool:
    """Whether somebody accepts connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_HEALTH_SECONDS):
            return True
    except OSError:
        return False


def program(name: str, environment: Mapping[str, str]) -> str:
    """Return where one of Flower's programs is. Raises EngineError when it is nowhere."""
    path = shutil.which(name, path=environment["PATH"])
    if path is None:
        raise EngineError(f"expected Flower's program {name!r}, got none", hint="make setup")
    return path


def reason_in(log: Path, said: str = "") -> str:
    """Return the line of a log that names an error of ours, else what Flower said, or the last."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    ours = [line.strip() for line in lines if "veilface_common.errors." in line]
    rest = [line.strip() for line in lines if line.strip()] or ["no output"]
    return (ours or [said or rest[-1]])[-1].removeprefix("veilface_common.errors.")


def _last_line(answer: object, done: subprocess.CompletedProcess[str]) -> str:
    said = answer.get("error-message") if isinstance(answer, dict) else None
    text = str(said or done.stderr or done.stdout).strip().splitlines()
    return text[-1] if text else "no output"
