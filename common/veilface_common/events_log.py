"""What a process did, one JSON line an event: for operators and their tools, not for evidence.

    {"time": ISO 8601 UTC, "level": "info", "event": "request", "kind": "train", "round": 3, ...}

No person's name, path of a photograph or template has a place in it: a text is one word of a fixed
form, so that of an error its class can stand here and its message cannot. A text of another form is
replaced by "-". Whole sentences are for the coordinator's side alone, which sees nobody's faces:
what an organisation said to it (`told`), and what the program says of its own processes (`text`).

Several processes may write one file: a line is written, and the file turned over, under a lock.
A disk that is full takes no line, and stops nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging import makeLogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal

from veilface_common.command import one_line
from veilface_common.locks import held

Level = Literal["info", "warning", "error"]
Field = str | int | float
MAX_BYTES = 4 << 20  # of a file, before it is turned over
KEPT = 3  # older files
_LONGEST = 300  # characters of a sentence
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,63}")
_NOTHING: Mapping[str, str] = {}


class EventsLog:
    """A log of events in one file; to make one touches nothing."""

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path = path
        self._now = now

    def write(
        self,
        level: Level,
        event: str,
        fields: Mapping[str, Field] = _NOTHING,
        *,
        told: Mapping[str, str] = _NOTHING,
        text: str = "",
    ) -> None:
        """Write an event down; whatever hinders that is no matter of the caller's.

        Args:
            level: how bad it is.
            event: what happened, one word.
            fields: what is known of it, each one word or a number.
            told: {organisation: what it said, or what is said of it}; at the coordinator alone.
            text: a sentence of the program's own; at the coordinator alone.
        """
        body: dict[str, object] = {
            "time": self._now().isoformat(timespec="milliseconds"),
            "level": level,
            "event": _word(event),
            **{name: _word(value) for name, value in fields.items()},
        }
        if told:
            body["organisations"] = {name: _sentence(words) for name, words in told.items()}
        if text:
            body["text"] = _sentence(text)
        with suppress(OSError), self._alone():
            handler = _Rotating(self._path, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8")
            try:
                handler.emit(makeLogRecord({"msg": json.dumps(body, ensure_ascii=False)}))
            finally:
                handler.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with held(self._path.with_name(f".{self._path.name}.lock")):
            yield


def newest_errors(path: Path, most: int = 5) -> tuple[dict[str, object], ...]:
    """Return the newest events of level error in a log and the file before it, the oldest first."""
    found: list[dict[str, object]] = []
    for file in (path.with_name(f"{path.name}.1"), path):
        with suppress(OSError):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            found += filter(None, map(_error_in, lines))
    return tuple(found[-most:])


class _Rotating(RotatingFileHandler):
    def handleError(self, record: object) -> None:  # noqa: N802 -- logging's name
        """Let the line go: its error would say so at a terminal that nobody looks at."""


def _error_in(line: str) -> dict[str, object] | None:
    try:
        body = json.loads(line)
    except ValueError:  # cut short by a crash
        return None
    return body if isinstance(body, dict) and body.get("level") == "error" else None


def _word(value: Field) -> Field:
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) else "-"
    return value


def _sentence(text: str) -> str:
    return one_line(text)[:_LONGEST]
