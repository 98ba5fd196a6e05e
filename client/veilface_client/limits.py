"""How often somebody may ask, and be wrong, before nobody answers any more for a while.

A hundred answers about one person are enough to work a face towards theirs, and whoever may ask
without end finds somebody who looks like him. What was asked is counted in the access log, so
neither a restart nor a second process begins to count anew. An account that claims somebody ten
times in an hour in vain also locks that person out for the rest of it; the alert says who it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from veilface_client.access_events import Event
from veilface_client.access_log import AccessLog
from veilface_client.roles import Actor
from veilface_common.errors import AccessDenied, ConfigError


class LimitReached(AccessDenied):
    """Something that was asked too often; `wait` says how long it stays closed."""

    def __init__(self, message: str, *, hint: str, wait: timedelta) -> None:
        super().__init__(message, hint=hint)
        self.wait = wait


@dataclass(frozen=True, kw_only=True)
class Limits:
    """So many until the door closes; a camera that many strangers pass needs larger ones."""

    failures_per_person_per_hour: int = 10
    failures_per_person_per_day: int = 50
    requests_per_operator_per_minute: int = 60
    failures_per_operator_per_hour: int = 100

    def __post_init__(self) -> None:
        for limit in fields(self):
            if getattr(self, limit.name) < 1:
                raise ConfigError(
                    f"expected {limit.name} of at least 1, got {getattr(self, limit.name)}"
                )


@dataclass(frozen=True, kw_only=True)
class _Count:
    name: str  # of the limit
    allowed: int
    window: timedelta
    whom: str
    times: list[datetime]  # in the window, the oldest first


def verify_allowed(
    log: AccessLog, limits: Limits, actor: Actor, subject: str | None, now: datetime
) -> None:
    """Do nothing if `actor` may ask once more, of the person `subject` if one is claimed.

    Call it in the `log.exclusive` block in which the answer is written down: of many requests at
    the same moment, no more than the limit then get one.

    Raises:
        LimitReached: a limit is reached; the hint says when it opens again. The first time in a
            limit's window, an 'alert' is written down.
    """
    with log.exclusive():
        for count in _counts(log, limits, actor, subject, now):
            if len(count.times) >= count.allowed:
                _alert(log, count, actor, subject, now)
                raise _denied(count, now)


def _counts(
    log: AccessLog, limits: Limits, actor: Actor, subject: str | None, now: datetime
) -> Iterator[_Count]:
    hour, day, minute = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
    if subject is not None:
        for name, window in (
            ("failures_per_person_per_hour", hour),
            ("failures_per_person_per_day", day),
        ):
            times = log.failures(subject=subject, since=now - window)
            yield _count(limits, name, window, subject, times)
    times = log.requests(actor=actor.name, since=now - minute)
    yield _count(limits, "requests_per_operator_per_minute", minute, actor.name, times)
    times = log.failures(actor=actor.name, since=now - hour)
    yield _count(limits, "failures_per_operator_per_hour", hour, actor.name, times)


def _count(
    limits: Limits, name: str, window: timedelta, whom: str, times: list[datetime]
) -> _Count:
    allowed = int(getattr(limits, name))
    return _Count(name=name, allowed=allowed, window=window, whom=whom, times=times)


def _alert(log: AccessLog, count: _Count, actor: Actor, subject: str | None, now: datetime) -> None:
    if log.alerts(since=now - count.window, limit=count.name, whom=count.whom):
        return
    event = Event(
        actor=actor.name,
        role=actor.role,
        subject=subject if count.whom == subject else None,
        outcome="refused",
        reason="a limit was reached",
        details={"limit": count.name, "allowed": count.allowed},
    )
    log.append("alert", event)


def _denied(count: _Count, now: datetime) -> LimitReached:
    opens = count.times[-count.allowed] + count.window
    what = count.name.replace("_", " ")
    return LimitReached(
        f"expected at most {count.allowed} {what}, got {len(count.times)} already",
        hint=f"it opens again at {opens.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        wait=opens - now,
    )
