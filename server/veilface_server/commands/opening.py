"""What the coordinator's commands share: the folder, and how answers are printed."""

from __future__ import annotations

import argparse
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from veilface_common.errors import ConfigError
from veilface_server.home import Home, Settings, open_home

HOME_VARIABLE = "VEILFACE_SERVER_HOME"


def folder_of(arguments: argparse.Namespace) -> Path:
    """Return the coordinator's folder.

    Raises:
        ConfigError: none is named.
    """
    named = arguments.home or os.environ.get(HOME_VARIABLE)
    if not named:
        raise ConfigError(
            "expected the coordinator's folder, got none",
            hint=f"veilface-server --home DIR, or the variable {HOME_VARIABLE}",
        )
    return Path(named).absolute()


def opened(arguments: argparse.Namespace) -> tuple[Home, Settings]:
    """Return the coordinator's folder and settings, checked: see `open_home`."""
    return open_home(folder_of(arguments))


def now() -> datetime:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def print_json(content: object) -> None:
    """Print an answer as JSON."""
    print(json.dumps(content, indent=2, ensure_ascii=False))
