"""How the node is: what `veilface node start` writes down for everybody else.

HOME/node/status.json    as below; rewritten at every change and every quarter of a minute
HOME/node/node.lock      held while the node runs, whatever ends it
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from veilface_common import typed_json
from veilface_common.errors import ArtifactError, ConfigError
from veilface_common.files import write_atomically
from veilface_common.locks import is_held, only_one

STATUS = "status.json"
LOCK = "node.lock"
SCHEMA = 1
State = Literal[
    "starting",
    "online",
    "unreachable",  # nobody answers at the coordinator's address
    "wrong-authority",  # somebody else answers there
    "clock",  # ours is too far from the coordinator's
    "version",  # the coordinator has another Flower
    "not-approved",  # not yet, or no longer
    "still-online",  # for the coordinator, after a crash of ours
    "ended",  # one of Flower's programs did, without a word that we know
    "stopped",
]


@dataclass(frozen=True, kw_only=True)
class NodeStatus:
    """How the node is now, or was when it wrote last."""

    schema: int = SCHEMA
    state: State = "starting"
    since: str = ""  # UTC, as all times here
    seen: str = ""  # when this was written
    pid: int = 0
    node_id: str = ""  # Flower's number
    last_error: str = ""
    starts: int = 0  # of Flower's programs
    messages: int = 0  # since the node was started
    last_message: str = ""
    bundle: str = ""  # SHA-256 of the installed release's own
    software: str = ""


def save_status(folder: Path, status: NodeStatus) -> None:
    """Write it, whole or not at all."""
    body = json.dumps(typed_json.to_json(status), indent=2) + "\n"
    write_atomically(folder / STATUS, body.encode())


def load_status(folder: Path) -> NodeStatus | None:
    """Return what the node wrote last, or nothing if it never did or it cannot be read."""
    try:
        body = json.loads((folder / STATUS).read_bytes())
        return typed_json.from_json(NodeStatus, body, STATUS)
    except (OSError, ValueError, ArtifactError):
        return None


def is_running(folder: Path) -> bool:
    """Whether a node of this folder runs now."""
    return is_held(folder / LOCK)


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Be the one node of this folder.

    Raises:
        ConfigError: another one runs.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(only_one(folder / LOCK))
        except BlockingIOError:
            raise ConfigError(
                "expected no other node of this organisation, got one that runs",
                hint="veilface node status",
            ) from None
        yield


def age_seconds(time: str, now: datetime) -> float:
    """Return how long ago a time of the status was; endless for none."""
    try:
        return (now - datetime.fromisoformat(time)).total_seconds()
    except (ValueError, TypeError):
        return float("inf")
