"""What a limit counts, from the newest entries of an access log: found by person or operator."""

from __future__ import annotations

import json
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable
from datetime import datetime

from veilface_client.access_chain import Row
from veilface_common.errors import LogError

FAILURES = frozenset({"no-match", "unknown", "failed"})
COUNTED = ("verified", "identified", "user-failed", "alert")  # kinds; others are not looked at


class Recent:
    """When whom what happened to, later than `floor`."""

    def __init__(self, floor: datetime) -> None:
        self.floor = floor
        self._found: dict[tuple[str, str], list[tuple[datetime, int]]] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Take in entries, in any order of their times: a clock may have been set back.

        Raises:
            LogError: one tells of no event, or of no time.
        """
        for sequence, time, kind, body, *_ in rows:
            if kind not in COUNTED:
                continue
            moment = _moment(time)
            if moment > self.floor:
                for key in _keys(kind, body):
                    insort(self._found.setdefault(key, []), (moment, sequence))

    def times(self, what: str, whom: str, since: datetime) -> list[datetime]:
        """Return when, later than `since`, the oldest first."""
        found = self._found.get((what, whom), [])
        first = bisect_right(found, since, key=lambda item: item[0])
        return [moment for moment, _ in found[first:]]

    def forget_after(self, sequence: int) -> None:
        """Drop later entries, which were not written after all."""
        self._keep(lambda item: item[1] <= sequence)

    def raise_floor(self, floor: datetime) -> None:
        """Drop what is not later than `floor`."""
        self.floor = floor
        self._keep(lambda item: item[0] > floor)

    def _keep(self, is_kept: Callable[[tuple[datetime, int]], bool]) -> None:
        kept = {key: list(filter(is_kept, found)) for key, found in self._found.items()}
        self._found = {key: found for key, found in kept.items() if found}


def _moment(time: str) -> datetime:
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        moment = datetime.min  # noqa: DTZ901 -- refused in the next line
    if moment.tzinfo is None:
        raise LogError("expected the time of each log entry in UTC, got another text")
    return moment


def _keys(kind: str, body: str) -> list[tuple[str, str]]:
    """Return under what an entry is found."""
    try:
        content = json.loads(body)  # an `Event` of each would take three times as long
        actor, subject = str(content["actor"]), content["subject"] and str(content["subject"])
        if kind == "alert":
            return [(f"alert {content['details']['limit']}", subject or actor)]
        keys = [] if kind == "user-failed" else [("requests by", actor)]
        if content["outcome"] in FAILURES:
            keys.append(("failures by", actor))
            if subject:
                keys.append(("failures of", subject))
    except (KeyError, TypeError, ValueError) as error:
        raise LogError(f"expected an event in each log entry, got another body ({error})") from None
    return keys
