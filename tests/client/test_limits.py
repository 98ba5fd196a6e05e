"""Limits: so many wrong answers and no more, whoever restarts, hurries or shares the work."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.client.log_parts import ANNA, BERT, Clock, event, reopened, start

from veilface_client.access_events import Event
from veilface_client.access_log import AccessLog
from veilface_client.limits import Limits, verify_allowed
from veilface_client.roles import Actor
from veilface_common.budget.entries import canonical, entry_hash
from veilface_common.errors import AccessDenied, ConfigError

DOOR = Actor(name="door-1", role="operator")
GATE = Actor(name="gate-2", role="operator")
LIMITS = Limits(
    failures_per_person_per_hour=3,
    failures_per_person_per_day=5,
    requests_per_operator_per_minute=6,
    failures_per_operator_per_hour=20,
)


def ask(log: AccessLog, clock: Clock, actor: Actor = DOOR, subject: str | None = ANNA) -> None:
    """Ask once and be wrong, as `recognition` does it."""
    with log.exclusive():
        verify_allowed(log, LIMITS, actor, subject, clock())
        wrong = Event(actor=actor.name, role=actor.role, subject=subject, outcome="no-match")
        log.append("verified", wrong)


def denied(log: AccessLog, clock: Clock, actor: Actor = DOOR, subject: str | None = ANNA) -> str:
    with pytest.raises(AccessDenied) as refused:
        ask(log, clock, actor, subject)
    return f"{refused.value}; {refused.value.hint}"


def test_failures_against_a_person_are_limited_in_an_hour_whoever_asks(tmp_path: Path) -> None:
    """Changing the operator buys no attempt; another person is not locked out; names stay out."""
    clock = Clock()
    log = start(tmp_path, clock)
    for actor in (DOOR, GATE, DOOR):
        ask(log, clock, actor)
        clock.forward(minutes=1)
    told = denied(log, clock, GATE)
    assert "at most 3 failures per person per hour" in told
    assert "2026-01-02 04:04:05 UTC" in told
    assert ANNA not in told
    ask(log, clock, GATE, BERT)


def test_a_limit_opens_when_it_says(tmp_path: Path) -> None:
    """One second before it is still shut, and then it is open once."""
    clock = Clock()
    log = start(tmp_path, clock)
    for _ in range(3):
        ask(log, clock)
        clock.forward(minutes=10)
    clock.forward(minutes=29, seconds=59)
    denied(log, clock)
    clock.forward(seconds=1)
    ask(log, clock)
    denied(log, clock)


def test_failures_against_a_person_are_limited_in_a_day(tmp_path: Path) -> None:
    """A patient attacker gets no more than the day's."""
    clock = Clock()
    log = start(tmp_path, clock)
    for _ in range(5):
        ask(log, clock)
        clock.forward(hours=2)
    assert "at most 5 failures per person per day" in denied(log, clock)


def test_requests_of_an_operator_are_limited_in_a_minute_right_or_wrong(tmp_path: Path) -> None:
    """Whoever may ask without end finds a look-alike."""
    clock = Clock()
    log = start(tmp_path, clock)
    for number in range(6):
        log.append("identified", event("known" if number % 2 else "unknown"))
    assert "6 requests per operator per minute" in denied(log, clock, subject=None)
    ask(log, clock, GATE, None)
    clock.forward(minutes=1)
    ask(log, clock, subject=None)


def test_failures_of_an_operator_are_limited_in_an_hour(tmp_path: Path) -> None:
    """One wrong attempt at each of many people is limited too."""
    clock = Clock()
    log = start(tmp_path, clock)
    for number in range(20):
        ask(log, clock, subject=f"{number:032x}")
        clock.forward(minutes=1)
    assert "at most 20 failures per operator per hour" in denied(log, clock)


def test_restart_does_not_reset_a_limit(tmp_path: Path) -> None:
    """What was asked before is counted by the next process, and by one at the same time."""
    clock = Clock()
    for opened in (start, reopened):
        with opened(tmp_path, clock) as log:
            ask(log, clock)
    first, second = reopened(tmp_path, clock), reopened(tmp_path, clock)
    ask(first, clock)
    denied(second, clock)
    first.close()
    second.close()
    denied(reopened(tmp_path, clock), clock)


def test_an_alert_is_written_once_in_a_window(tmp_path: Path) -> None:
    """However often a shut door is tried, and from however many processes."""
    clock = Clock()
    log = start(tmp_path, clock)
    for _ in range(3):
        ask(log, clock)
    for place in (log, reopened(tmp_path, clock), log):
        denied(place, clock)
    alerts = [entry.content for entry in log.entries() if entry.kind == "alert"]
    assert len(alerts) == 1
    assert alerts[0]["subject"] == ANNA
    assert alerts[0]["details"] == {"allowed": 3, "limit": "failures_per_person_per_hour"}
    clock.forward(hours=1, minutes=1)
    for _ in range(2):
        ask(log, clock)
    clock.forward(hours=1, minutes=1)
    denied(log, clock)
    limits = [e.content["details"]["limit"] for e in log.entries() if e.kind == "alert"]
    assert limits == ["failures_per_person_per_hour", "failures_per_person_per_day"]


def test_asking_many_times_at_once_buys_nothing(tmp_path: Path) -> None:
    """Of requests at the same moment, no more than the limit get an answer."""
    clock = Clock()
    log = start(tmp_path, clock)
    answered = []

    def attack() -> None:
        try:
            ask(log, clock)
            answered.append(1)
        except AccessDenied:
            pass

    threads = [threading.Thread(target=attack) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answered) == 3


def test_a_limit_of_nothing_is_refused() -> None:
    """Whoever means 'no limit' must say a number."""
    with pytest.raises(ConfigError, match="at least 1"):
        Limits(requests_per_operator_per_minute=0)


ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["verified", "identified", "user-failed", "enrolled", "refused"]),
        st.sampled_from(["match", "no-match", "known", "unknown", "failed", "refused"]),
        st.sampled_from(["door-1", "gate-2"]),
        st.sampled_from([None, ANNA, BERT]),
        st.integers(-3600, 40 * 3600),  # seconds since the entry before
        st.booleans(),  # by another process
    ),
    max_size=20,
)


@settings(max_examples=25, deadline=None)
@example(
    added=[("verified", "no-match", "door-1", ANNA, 30 * 3600, False)] * 3,
    back=72 * 3600,  # further than the index goes
    whom="door-1",
)
@given(added=ENTRIES, back=st.integers(0, 72 * 3600), whom=st.sampled_from(["door-1", "gate-2"]))
def test_the_index_finds_what_a_scan_of_the_file_finds(
    added: list[tuple[str, str, str, str | None, int, bool]], back: int, whom: str
) -> None:
    """Whatever the order, the clock's jumps, the process and the restart."""
    with TemporaryDirectory() as folder:
        clock = Clock()
        log, other = start(Path(folder), clock), reopened(Path(folder), clock)
        for kind, outcome, actor, subject, seconds, elsewhere in added:
            clock.forward(seconds=seconds)
            entry = Event(actor=actor, role="operator", outcome=outcome, subject=subject)  # type: ignore[arg-type]
            (other if elsewhere else log).append(kind, entry)  # type: ignore[arg-type]
        since = clock() - timedelta(seconds=back)
        found = []
        for place in (log, other, reopened(Path(folder), clock)):
            told = (
                place.failures(subject=ANNA, since=since),
                place.failures(actor=whom, since=since),
                place.requests(actor=whom, since=since),
            )
            found.append([[moment.isoformat() for moment in times] for times in told])
            scanned = _scan(place, since.isoformat(), whom)
            place.close()
        assert found == [scanned] * 3


def _scan(log: AccessLog, since: str, whom: str) -> list[list[str]]:
    of_anna, by_whom, asked = [], [], []
    for entry in log.entries():
        body = json.loads(entry.body)
        if entry.kind not in ("verified", "identified", "user-failed") or entry.time <= since:
            continue
        failed = body["outcome"] in ("no-match", "unknown", "failed")
        if failed and body["subject"] == ANNA:
            of_anna.append(entry.time)
        if failed and body["actor"] == whom:
            by_whom.append(entry.time)
        if entry.kind != "user-failed" and body["actor"] == whom:
            asked.append(entry.time)
    return [sorted(of_anna), sorted(by_whom), sorted(asked)]


@given(st.integers(1), st.text(), st.text(), st.text(), st.binary(min_size=32, max_size=32))
def test_the_fast_hash_is_that_of_the_canonical_json(
    sequence: int, time: str, kind: str, body: str, previous: bytes
) -> None:
    """An entry's text is put together by hand for speed; it must be what JSON makes of it."""
    content = {"body": body, "kind": kind, "sequence": sequence, "time": time}
    text = canonical({**content, "previous": previous.hex()})
    expected = sha256(b"x\0" + text.encode()).digest()
    assert entry_hash(sequence, time, kind, body, previous, b"x\0") == expected
