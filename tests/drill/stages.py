"""Where a round is: seen from the files that it leaves, without a change to the product."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.drill.federation import Federation, Organisation
from tests.drill.services import OFTEN_SECONDS, send, wait_until

from veilface_client.replies import FILE as REPLY
from veilface_server import runs
from veilface_server.checkpoint import load_records

_RUN_SECONDS = 500.0
COURIER = "veilface_client.node.guard"


def charges(organisation: Organisation, run: str) -> list[dict[str, Any]]:
    """Return what the ledger says that was charged for a run, the oldest first."""
    uri = f"{(organisation.training / 'ledger.db').as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=60.0)) as ledger:
        rows = ledger.execute(
            "SELECT body FROM entries WHERE kind = 'reserve' AND body LIKE ? ORDER BY sequence",
            (f'%"{run}"%',),
        ).fetchall()
    found = [json.loads(body)["context"] for (body,) in rows]
    return [context for context in found if context["run"] == run]


def request_of(organisation: Organisation, run: str, number: int) -> str | None:
    """Return the request that a round was charged for, if it was."""
    found = [c["request"] for c in charges(organisation, run) if c["round"] == number]
    return found[-1] if found else None


def is_kept(organisation: Organisation, run: str, number: int) -> bool:
    """Whether the reply to a round's request lies on disk."""
    path = organisation.training / REPLY
    request = request_of(organisation, run, number)
    if request is None or not path.exists():
        return False
    line = path.read_bytes().partition(b"\n")[0]
    return bool(json.loads(line)["request"] == request)


def await_charged(organisation: Organisation, run: str, number: int) -> None:
    """Wait until a round is charged."""
    what = f"{organisation.name} charges round {number}"
    wait_until(
        lambda: request_of(organisation, run, number) is not None, what, look_seconds=OFTEN_SECONDS
    )


def await_kept(organisation: Organisation, run: str, number: int) -> None:
    """Wait until the reply to a round's request lies on disk."""
    what = f"{organisation.name} keeps the reply of round {number}"
    wait_until(lambda: is_kept(organisation, run, number), what, look_seconds=OFTEN_SECONDS)


def await_recorded(federation: Federation, run: str, number: int) -> None:
    """Wait until a round is recorded."""
    path = folder_of(federation, run) / "rounds.jsonl"

    def is_recorded() -> bool:
        return path.exists() and load_records(path.parent)[-1].round >= number

    wait_until(is_recorded, f"round {number} is recorded", look_seconds=OFTEN_SECONDS)


def await_ended(federation: Federation, run: str) -> None:
    """Wait until a run has ended in one way or another."""

    def has_ended() -> bool:
        return runs.load_run(federation.home, run).state not in runs.OPEN

    wait_until(has_ended, f"run {run} ends", _RUN_SECONDS)


@contextmanager
def training_held(organisation: Organisation, run: str, number: int = 1) -> Iterator[None]:
    """Stop the keeper while it trains, charged and without a reply, while the block runs."""
    await_charged(organisation, run, number)
    keeper = organisation.keeper.itself
    send(keeper, signal.SIGSTOP)
    try:
        assert not is_kept(organisation, run, number), "the keeper was quicker than the drill"
        yield
    finally:
        send(keeper, signal.SIGCONT)


@contextmanager
def reply_held(organisation: Organisation, run: str, number: int = 1) -> Iterator[None]:
    """Stop the courier; the block runs while the reply is kept, and has not been sent."""
    await_charged(organisation, run, number)
    courier = organisation.node.of(COURIER)
    assert courier, "the courier was quicker than the drill"
    send(courier, signal.SIGSTOP)
    try:
        await_kept(organisation, run, number)
        yield
    finally:
        send(courier, signal.SIGCONT)


def folder_of(federation: Federation, run: str) -> Path:
    """Return the folder of a run at the coordinator."""
    return runs.folder_of(federation.home, run)
