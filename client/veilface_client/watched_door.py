"""The keeper's door, watched: each request becomes a line of the log and moves the figures.

    HOME/log/events.jsonl    {"event": "request", "kind", "round", "outcome", "seconds", "error"}
    HOME/metrics.prom        for the textfile collector of Prometheus' node_exporter

Of an error its class stands there, and its words stay in `failures.jsonl`. What a stranger writes
into a request is not repeated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from veilface_client.door import Door
from veilface_client.home_layout import training_folder
from veilface_client.prometheus import KeeperFigures
from veilface_common.errors import RequestRefused, VeilfaceError
from veilface_common.events_log import EventsLog, Field, Level
from veilface_common.files import PUBLIC, write_atomically
from veilface_common.wire import Envelope

LOG = Path("log") / "events.jsonl"
TEXTFILE = "metrics.prom"
_KINDS = ("describe", "train", "evaluate")
_MOST_ROUNDS = 100_000


class WatchedDoor:
    """An organisation's door, of which an operator sees what is done at it."""

    def __init__(self, door: Door, home: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch the door of the organisation in `home`."""
        self._door = door
        self._home = home
        self._clock = clock
        self._log = EventsLog(home / LOG)
        self._figures = KeeperFigures(training_folder(home))
        self._figures_to_disk()

    @property
    def max_model_bytes(self) -> int:
        """How large a model may be that a request brings; raises as `Door.max_model_bytes` does."""
        return self._door.max_model_bytes

    def answer(self, envelope: Envelope) -> Envelope:
        """Return the signed reply to a request; raises as `Door.answer` does."""
        started = self._clock()
        try:
            reply = self._door.answer(envelope)
        except RequestRefused:
            self._note({"kind": "unknown", "outcome": "refused"}, started)
            raise
        except Exception as error:
            kind = type(error.__context__ or error).__name__
            fields = _asked(envelope) | {"outcome": "failed", "error": kind}
            self._note(fields, started, level="error")
            raise
        told = _read(reply)
        outcome = "refused" if told.get("refusal") else "answered"
        self._note(_asked(envelope) | {"outcome": outcome}, started)
        return reply

    def _note(self, fields: dict[str, Field], started: float, level: Level = "info") -> None:
        seconds = round(self._clock() - started, 3)
        if fields["outcome"] == "refused":
            level = "warning"
        self._log.write(level, "request", {**fields, "seconds": seconds})
        self._figures.count(str(fields["kind"]), str(fields["outcome"]), seconds)
        self._figures_to_disk()

    def _figures_to_disk(self) -> None:
        # A ledger that is damaged stops the next training, which says so; a full disk, too.
        with suppress(VeilfaceError, OSError):
            write_atomically(self._home / TEXTFILE, self._figures.text(), mode=PUBLIC)


def _asked(envelope: Envelope) -> dict[str, Field]:
    header = _read(envelope)
    kind, number = header.get("kind"), header.get("round")
    fields: dict[str, Field] = {"kind": kind if kind in _KINDS else "unknown"}
    if type(number) is int and 0 < number <= _MOST_ROUNDS:
        fields["round"] = number
    return fields


def _read(envelope: Envelope) -> dict[str, object]:
    try:
        header = json.loads(envelope.header)
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}
