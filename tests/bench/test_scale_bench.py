"""Five and twenty organisations on one machine, for five rounds of private training.

Its figures are in docs/scale.md. One machine stands for all of theirs, so that the seconds of a
round are those of two cores which train for everybody.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import pytest
from tests.bench import counted
from tests.bench.counted import Counted, Memory
from tests.bench.federation import (
    PATIENCE_SECONDS,
    Federation,
    draw_people,
    public_model,
    set_up,
    start_keepers,
    start_nodes,
)

from veilface_server.checkpoint import RoundRecord, load_records

pytestmark = pytest.mark.bench

SIZES = tuple(map(int, os.environ.get("VEILFACE_BENCH_ORGANISATIONS", "5,20").split(",")))
ROUNDS = 5
NOISE = 1.2  # what others do on the machine in the meantime
IDLE_SECONDS = 20.0
OF_AN_ORGANISATION = ("keeper", "node", "supernode", "superexec", "courier")


@dataclass(kw_only=True)
class Run:
    """What one federation took."""

    organisations: int
    setup_seconds: float = 0.0
    start_seconds: float = 0.0
    records: Sequence[RoundRecord] = ()
    walls: list[float] = field(default_factory=list)  # seconds from one record to the next
    bytes_down: list[float] = field(default_factory=list)  # of a round, of an organisation
    bytes_up: list[float] = field(default_factory=list)
    idle: Mapping[str, float] = field(default_factory=dict)  # CPU seconds per second, by kind
    started: Counted = field(default_factory=Counted)
    ready: Counted = field(default_factory=Counted)
    end: Counted = field(default_factory=Counted)
    least_available: float = float("inf")
    before_available: float = 0.0
    couriers: Memory = field(default_factory=Memory)  # when the most of them were at work


def test_growth_from_five_to_twenty(tmp_path: Path) -> None:
    """Every organisation is in every round; what a round takes grows at most in proportion."""
    model, people = public_model(tmp_path), draw_people(tmp_path)
    runs = []
    for size in SIZES:
        place = tmp_path / str(size)
        place.mkdir()
        run = measured(place, size, model, people)
        show(run)
        assert [len(record.accepted) for record in run.records] == [size] * ROUNDS
        runs.append(run)
    few, many = runs[0], runs[-1]
    growth = many.organisations / few.organisations
    print(f"\nfrom {few.organisations} to {many.organisations} organisations ({growth:g} times):")
    for what, one, other in (
        ("seconds of a round", mean(few.walls), mean(many.walls)),
        ("CPU seconds of a round", _cpu(few), _cpu(many)),
        ("the same without what waiting takes", _work(few), _work(many)),
        ("memory", _memory(few), _memory(many)),
        ("bytes of a round", _bytes(few), _bytes(many)),
    ):
        print(f"  {what}: {other / one:.2f} times")
        # Whoever waits asks again and again; a round that lasts longer holds more of that.
        assert what.startswith("CPU") or other <= NOISE * growth * one, what


def measured(place: Path, size: int, model: Path, people: Path) -> Run:
    """Set a federation up, let it train, and count."""
    names = [f"org-{number:02}" for number in range(size)]
    run = Run(organisations=size)
    begun = time.monotonic()
    federation = set_up(place, names, account=people)
    try:
        run.setup_seconds = time.monotonic() - begun
        run.before_available = counted.available()
        begun = time.monotonic()
        start_keepers(federation)
        start_nodes(federation)
        run.start_seconds = time.monotonic() - begun
        roots = {name: process.pid for name, process in federation.started.items()}
        run.started = counted.count(roots)
        time.sleep(IDLE_SECONDS)
        run.ready = counted.count(roots)
        used = run.ready.cpu_seconds - run.started.cpu_seconds
        run.idle = {kind: seconds / IDLE_SECONDS for kind, seconds in used.items()}
        options = ["--init", str(model), "--privacy", "identity", "--epsilon", "8"]
        folder = federation.train(*options, "--rounds", str(ROUNDS))
        follow(federation, run, folder, roots)
        run.end = counted.count(roots)
    finally:
        federation.end()
    return run


def follow(federation: Federation, run: Run, folder: Path, roots: Mapping[str, int]) -> None:
    """Wait for every round, and count what travels in each."""
    ended = threading.Event()
    watcher = threading.Thread(target=watch, args=(run, roots, ended))
    watcher.start()
    relay, ends = federation.relay, time.monotonic() + PATIENCE_SECONDS * ROUNDS
    try:
        before: tuple[float, int, int] | None = None
        while len(run.records) < ROUNDS:
            assert time.monotonic() < ends
            records = load_records(folder)
            if len(records) > len(run.records):
                now = (time.monotonic(), relay.down, relay.up)
                if before is not None:
                    count = len(records) - len(run.records)
                    rounds = [(b - a) / count for a, b in zip(before, now, strict=True)]
                    run.walls += [rounds[0]] * count
                    run.bytes_down += [rounds[1] / run.organisations] * count
                    run.bytes_up += [rounds[2] / run.organisations] * count
                before, run.records = now, records
            federation.verify_goes_on(folder)
            time.sleep(0.2)
    finally:
        ended.set()
        watcher.join()


def watch(run: Run, roots: Mapping[str, int], ended: threading.Event) -> None:
    """See how little memory is left, and what the couriers take while they are at work."""
    while not ended.wait(2.0):
        run.least_available = min(run.least_available, counted.available())
        now = counted.couriers(roots)
        if now.processes > run.couriers.processes:
            run.couriers = now


def _cpu(run: Run) -> float:
    return (run.end.cpu_seconds - run.ready.cpu_seconds).total() / ROUNDS


def _work(run: Run) -> float:
    return _cpu(run) - sum(run.idle.values()) * mean(run.walls)


def _memory(run: Run) -> float:
    return sum(memory.pss for memory in (*run.end.memory.values(), run.couriers))


def _bytes(run: Run) -> float:
    return run.organisations * (mean(run.bytes_down) + mean(run.bytes_up))


def show(run: Run) -> None:
    """Print what was counted."""
    size = run.organisations
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{size} organisations; load at the end {load}")
    print(f"  set up in {run.setup_seconds:.0f} s, started in {run.start_seconds:.0f} s")
    rounds = ", ".join(f"{record.seconds:.1f}" for record in run.records)
    between = ", ".join(f"{seconds:.1f}" for seconds in run.walls)
    print(f"  seconds of each round: {rounds}; from one record to the next: {between}")
    down, up = mean(run.bytes_down), mean(run.bytes_up)
    print(f"  bytes of a round, of an organisation: {down:,.0f} down, {up:,.0f} up")
    taken = run.before_available - run.least_available
    print(f"  memory of the machine: {taken:,.0f} MB at most, {run.least_available:,.0f} left")
    print(
        f"  of all processes: {_memory(run):,.0f} MB PSS, {_cpu(run):.1f} CPU s of a round, "
        f"{_work(run):.1f} without waiting"
    )
    used = run.end.cpu_seconds - run.ready.cpu_seconds
    print("  by kind: CPU s to start; CPU s of a round; cores while idle; MB PSS, RSS, peak RSS")
    memory = {**run.end.memory, "courier": run.couriers}
    for kind in sorted(set(memory) | set(used)):
        share = size if kind in OF_AN_ORGANISATION else 1
        of = memory.get(kind, Memory())
        part = max(of.processes, 1)
        whose = "of each" if share > 1 else "at the coordinator"
        print(
            f"    {kind:24} {run.started.cpu_seconds[kind] / share:6.2f} "
            f"{used[kind] / share / ROUNDS:6.2f} {run.idle.get(kind, 0.0) / share:7.4f} "
            f"{of.pss / part:6.0f} {of.rss / part:6.0f} {of.peak_rss / part:6.0f}  {whose}"
        )
