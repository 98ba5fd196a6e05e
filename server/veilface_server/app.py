"""The Flower ServerApp: read the settings, run the rounds. No logic.

In a deployment DIR, the coordinator's folder, holds the members' keys and DIR/runs/RUN a run;

    DIR/runs/RUN/outcome.json    {"state": "waiting", "running", "finished" or "failed",
                                  "waiting_for": [names], "error": one line}

In a simulation DIR is the run's own, and whoever answers is a member.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from veilface_common.command import one_line
from veilface_common.config import RunConfig, from_flat
from veilface_common.crypto.signing import VerifyKey
from veilface_common.errors import ConfigError
from veilface_common.files import write_atomically
from veilface_server.checkpoint import server_key
from veilface_server.journal import Journal, NotedMembers
from veilface_server.members import GridMembers
from veilface_server.register import load_members
from veilface_server.rounds import run_rounds

FOLDER_SETTING = "folder"
FOLDER_VARIABLE = "VEILFACE_SERVER_FOLDER"
RUNS = "runs"
OUTCOME = "outcome.json"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that the run configuration describes."""
    config = from_flat(RunConfig, context.run_config)
    home = _folder(context)
    if not config.run:
        run_rounds(GridMembers(grid, server_key(home), config.federation), config, home)
        return
    folder = home / RUNS / config.run
    say, journal = partial(_say, folder), Journal(home, config.run)

    def on_wait(names: Sequence[str]) -> None:
        say("waiting" if names else "running", waiting_for=names)
        journal.waiting(names)

    try:
        members = GridMembers(
            grid,
            server_key(folder),
            config.federation,
            known=partial(_known, home),
            on_wait=on_wait,
        )
        run_rounds(NotedMembers(members, journal, folder), config, folder)
    except Exception as error:
        say("failed", error=one_line(f"{type(error).__name__}: {error}"))
        journal.ended(error)
        raise
    say("finished")
    journal.ended()


def _say(folder: Path, state: str, *, waiting_for: Sequence[str] = (), error: str = "") -> None:
    body = {"state": state, "waiting_for": list(waiting_for), "error": error}
    write_atomically(folder / OUTCOME, (json.dumps(body) + "\n").encode())


def _known(home: Path) -> dict[str, VerifyKey]:
    members = load_members(home)
    return {name: member.key for name, member in members.items() if member.status == "member"}


def _folder(context: Context) -> Path:
    """Return where checkpoints go: the node's own setting, never the run's."""
    folder = context.node_config.get(FOLDER_SETTING) or os.environ.get(FOLDER_VARIABLE)
    if not isinstance(folder, str):
        raise ConfigError(
            "expected a folder for checkpoints, got none", hint=f"set {FOLDER_VARIABLE}"
        )
    return Path(folder)
