"""Runs: what the operator wants, what has become of it. SERVER/runs/ID/run.json, under a lock.

    waiting --> running --> finished
       |           |------> failed      --train --resume--> waiting
       '--> stopped <-- stopping

{"schema": 1, "state", "settings": {Flower's flat dict}, "flower": [numbers of Flower's runs],
 "asked": ISO 8601, "epsilon", "delta", "error": one line}

ID is 16 hex digits. A run that the ServerApp left without a word (it was killed, or the machine
went down) is handed to Flower again, under a new number, and goes on after its last checkpoint.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from veilface_common.config import RunConfig, Scalar, from_flat, to_flat
from veilface_common.errors import ArtifactError, ConfigError, VeilfaceError
from veilface_common.files import write_atomically
from veilface_common.locks import held
from veilface_common.typed_json import from_json, to_json
from veilface_server.home import Home

State = Literal["waiting", "running", "finished", "failed", "stopping", "stopped"]
OPEN: tuple[State, ...] = ("waiting", "running", "stopping")
SCHEMA = 1
RUN = "run.json"
OUTCOME = "outcome.json"
SETTINGS = "settings.toml"
_LOCK = ".lock"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a federation."""

    id: str
    state: State
    settings: Mapping[str, Scalar]
    asked: str  # ISO 8601
    flower: tuple[str, ...] = ()  # numbers, the newest last
    epsilon: float = 0.0  # planned, for each organisation; 0: without privacy
    delta: float = 0.0
    error: str = ""  # the last one, one line

    @property
    def config(self) -> RunConfig:
        """The settings, read."""
        return from_flat(RunConfig, self.settings)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the ServerApp says of itself."""

    state: Literal["waiting", "running", "finished", "failed"]
    waiting_for: tuple[str, ...] = ()
    error: str = ""


def folder_of(home: Home, run: str) -> Path:
    """Return the folder of a run. Raises ConfigError when the name cannot be one."""
    if not re.fullmatch(r"[0-9a-f]{16}", run):
        raise ConfigError(f"expected a run as 16 hex digits, got {run[:40]!r}")
    return home.runs / run


def create_run(
    home: Home, config: RunConfig, *, epsilon: float, delta: float, now: datetime
) -> Run:
    """Write down that a run is wanted; the coordinator's process takes it from there.

    `config.run` names it, and its folder may hold the model to start from.
    """
    run = Run(
        id=config.run,
        state="waiting",
        settings=to_flat(config),
        asked=now.isoformat(),
        epsilon=epsilon,
        delta=delta,
    )
    folder = folder_of(home, run.id)
    folder.mkdir(exist_ok=True, mode=0o700)
    write_settings(folder / SETTINGS, run.settings)
    with held(home.runs / _LOCK):
        _save(home, run)
    return run


def new_name() -> str:
    """Return a name that no other run has."""
    return secrets.token_hex(8)


def write_settings(path: Path, settings: Mapping[str, Scalar]) -> None:
    """Write settings as `flwr run --run-config` takes them; JSON agrees with TOML for scalars."""
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    write_atomically(path, "".join(lines).encode())


def load_run(home: Home, run: str) -> Run:
    """Return a run.

    Raises:
        ConfigError: there is none of that name.
        ArtifactError: its file is damaged.
    """
    path = folder_of(home, run) / RUN
    try:
        body = json.loads(path.read_bytes())
    except OSError:
        known = ", ".join(entry.id for entry in load_runs(home)) or "none"
        raise ConfigError(f"expected a run, got {run!r}", hint=f"runs: {known}") from None
    except ValueError:
        body = None
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise ArtifactError(f"expected a run in {path}, got a damaged file")
    settings = body.pop("settings", None)
    found = from_json(Run, {**body, "id": run, "settings": {}}, str(path))
    if not isinstance(settings, dict):
        raise ArtifactError(f"expected the run's settings in {path}, got a damaged file")
    return replace(found, settings=settings)


def load_runs(home: Home) -> tuple[Run, ...]:
    """Return all runs, the oldest first.

    Raises:
        ArtifactError: a file is damaged.
    """
    found = [load_run(home, path.parent.name) for path in home.runs.glob(f"*/{RUN}")]
    return tuple(sorted(found, key=lambda run: (run.asked, run.id)))


def change_run(home: Home, run: str, step: Callable[[Run], Run]) -> Run:
    """Put what `step` returns in the place of a run, under the lock, and return it."""
    with held(home.runs / _LOCK):
        changed = step(load_run(home, run))
        _save(home, changed)
    return changed


def stopped(run: Run) -> Run:
    """Return the run as it is after somebody asked to stop it.

    Raises:
        ConfigError: it has ended already.
    """
    if run.state not in OPEN:
        raise ConfigError(f"expected a run that goes on, got {run.id}, which is {run.state}")
    return replace(run, state="stopped" if run.state == "waiting" else "stopping")


def resumed(run: Run) -> Run:
    """Return the run as it is after somebody asked to go on with it.

    Raises:
        ConfigError: it goes on already, or has finished.
    """
    if run.state not in ("failed", "stopped"):
        raise ConfigError(
            f"expected a run that failed or was stopped, got {run.id}, which is {run.state}"
        )
    return replace(run, state="waiting", error="")


def load_outcome(folder: Path) -> Outcome | None:
    """Return what the ServerApp said last of itself, or None where it has not yet."""
    try:
        return from_json(Outcome, json.loads((folder / OUTCOME).read_bytes()))
    except (OSError, ValueError, VeilfaceError):
        return None


def _save(home: Home, run: Run) -> None:
    body = {"schema": SCHEMA, **to_json(run)}
    del body["id"]
    content = (json.dumps(body, indent=2) + "\n").encode()
    write_atomically(folder_of(home, run.id) / RUN, content)
