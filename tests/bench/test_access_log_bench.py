"""How long an entry of the access log takes, and a start with a million of them."""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tests.client.log_parts import ANNA, KEY, Clock, event, failure, reopened, start

from veilface_client.access_chain import CHECKPOINT_EVERY, next_entry
from veilface_client.access_events import body_of
from veilface_common.budget.entries import Head
from veilface_common.budget.store import insert

pytestmark = pytest.mark.bench


def milliseconds(work: Callable[[], object], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started))
    return sorted(taken)


def test_appending(tmp_path: Path) -> None:
    """An entry costs about one sync of the disk, signed or not."""
    descriptor = os.open(tmp_path / "plain", os.O_CREAT | os.O_WRONLY)

    def sync() -> None:
        os.write(descriptor, bytes(8192))
        os.fdatasync(descriptor)

    with start(tmp_path) as log:
        started = time.process_time()
        unsigned = milliseconds(lambda: log.append("verified", failure()), 300)
        cpu = (time.process_time() - started) / 300
        signed = milliseconds(lambda: log.append("enrolled", event(subject=ANNA)), 300)
    plain = milliseconds(sync, 300)
    os.close(descriptor)
    for name, taken in (("unsigned", unsigned), ("signed", signed), ("8 KB synced", plain)):
        print(f"{name}: median {statistics.median(taken):.2f} ms, p95 {taken[285]:.2f} ms")
    print(f"CPU of an unsigned entry: {1000 * cpu:.2f} ms")
    assert statistics.median(unsigned) < 5 * statistics.median(plain)


@pytest.mark.parametrize(
    ("kind", "count", "hours"),
    [("verified", 1_000_000, 10_000), ("verified", 100_000, 20), ("enrolled", 100_000, 20)],
)
def test_opening(tmp_path: Path, kind: str, count: int, hours: float) -> None:
    """A start reads a million unsigned entries in a few seconds, and signed ones no slower."""
    clock = Clock()
    with start(tmp_path, clock) as log:
        head = log.head
    with sqlite3.connect(tmp_path / "log.db") as connection:
        for number in range(count):
            clock.forward(hours=hours / count)
            for written in (kind, "checkpoint")[: 1 + ((number + 1) % CHECKPOINT_EVERY == 0)]:
                body = "{}" if written == "checkpoint" else body_of(event("match", subject=ANNA))
                time_text = clock().isoformat(timespec="seconds")
                entry = next_entry(head, written, body, time_text, KEY)
                insert(connection, entry)
                head = Head(sequence=entry.sequence, hash=entry.hash.hex())
    wall, cpu = time.perf_counter(), time.process_time()
    log = reopened(tmp_path, clock)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{count:,} {kind} in {hours:g} hours: opened in {wall:.2f} s, {cpu:.2f} s of it CPU")
    taken = milliseconds(
        lambda: log.failures(subject=ANNA, since=clock() - timedelta(hours=1)), 100
    )
    print(f"failures of a person in an hour: {statistics.median(taken):.3f} ms")
    started = time.process_time()
    log.verify_signatures()
    print(f"every signature: {time.process_time() - started:.2f} s of CPU")
    log.close()
    assert cpu < 5
