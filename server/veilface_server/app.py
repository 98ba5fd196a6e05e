"""The Flower ServerApp: read the settings, run the rounds. No logic."""

from __future__ import annotations

import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from veilface_common.config import RunConfig, from_flat
from veilface_common.errors import ConfigError
from veilface_server.members import GridMembers
from veilface_server.rounds import run_rounds

FOLDER_SETTING = "folder"
FOLDER_VARIABLE = "VEILFACE_SERVER_FOLDER"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that the run configuration describes."""
    config = from_flat(RunConfig, context.run_config)
    members = GridMembers(grid, config.federation.timeout_seconds)
    run_rounds(members, config, _folder(context))


def _folder(context: Context) -> Path:
    """Return where checkpoints go: the node's own setting, never the run's."""
    folder = context.node_config.get(FOLDER_SETTING) or os.environ.get(FOLDER_VARIABLE)
    if not isinstance(folder, str):
        raise ConfigError(
            "expected a folder for checkpoints, got none", hint=f"set {FOLDER_VARIABLE}"
        )
    return Path(folder)
