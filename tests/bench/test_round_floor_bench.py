"""What a round takes in which nobody trains: three organisations whose keepers answer at once.

Its figures are in docs/scale.md. The parts are those of the organisation that answered last.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import mean

import psutil
import pytest
from tests.bench.counted import started_couriers
from tests.bench.federation import PATIENCE_SECONDS, Federation, set_up, start_nodes

from veilface_client.home_layout import SOCKET, training_folder
from veilface_client.identity import load_coordinators, load_identity
from veilface_client.keeper_socket import listening
from veilface_common import protocol, tensors
from veilface_common.budget.entries import Head
from veilface_common.protocol import DescribeRequest, TrainReply, TrainRequest
from veilface_common.updates import encode_update
from veilface_common.wire import Envelope
from veilface_server.checkpoint import RECORDS, load_records

pytestmark = pytest.mark.bench

ORGANISATIONS = ("bank", "school", "shop")
COUNT = int(os.environ.get("VEILFACE_BENCH_ROUNDS", "20"))
PARTS = ("until the courier starts", "until it asks the keeper", "keeper", "until it is recorded")


@dataclass
class EmptyDoor:
    """Signs an update of zeros."""

    federation: Federation
    name: str
    times: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    max_model_bytes: int = 1 << 28

    def answer(self, envelope: Envelope) -> Envelope:
        """Return the reply to a request; note when its courier started, asked, and was answered."""
        asked = time.time()
        folder = training_folder(self.federation.home(self.name))
        key = load_identity(folder)
        known = load_coordinators(folder)
        request = protocol.open_request(envelope, name=self.name, coordinators=known).request
        if isinstance(request, DescribeRequest):
            return protocol.encode_description(self.name, key)
        assert isinstance(request, TrainRequest)
        model = tensors.from_bytes(request.model)
        zeros = {name: 0 * value for name, value in model.items()}
        update = encode_update(zeros, request.config.federation.update_precision)
        paid = Head(sequence=request.round, hash=f"{request.round:064x}")  # nobody looks it up
        reply = TrainReply(
            organisation=self.name, round=request.round, update=update, ledger_head=paid
        )
        signed = protocol.encode_reply(reply, request=request, key=key)
        answered = time.time()
        node = self.federation.started[f"node-{self.name}"].pid
        self.times[request.round] = (max(started_couriers(node)), asked, answered)
        return signed


def test_the_floor_of_a_round(tmp_path: Path) -> None:
    """A round without training is over in a few seconds, nearly all of them Flower's."""
    federation = set_up(tmp_path, ORGANISATIONS, account=None)
    doors = [EmptyDoor(federation, name) for name in ORGANISATIONS]
    ends: list[float] = []
    try:
        with ExitStack() as stack:
            for door in doors:
                path = federation.home(door.name) / SOCKET
                stack.enter_context(listening(path, door))
            start_nodes(federation)
            processor = psutil.cpu_times()
            run = federation.train("--rounds", str(COUNT), "--preset", "smoke")
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(ends) < COUNT:
                assert time.monotonic() < deadline
                federation.verify_goes_on(run)
                with suppress(FileNotFoundError):
                    written = (run / RECORDS).stat().st_mtime
                    if not ends or written > ends[-1]:
                        ends.append(written)
                time.sleep(0.05)
            used = psutil.cpu_times()
    finally:
        federation.end()
    rounds = [b - a for a, b in pairwise(ends)]
    records = load_records(run)
    assert all(len(record.accepted) == len(ORGANISATIONS) for record in records)
    busy = used.user + used.system - processor.user - processor.system
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{COUNT} empty rounds, {len(ORGANISATIONS)} organisations; load at the end {load}")
    print(f"  seconds of a round: {mean(rounds):.2f} ({min(rounds):.2f} to {max(rounds):.2f})")
    print(f"  CPU seconds of the machine in a round: {busy / COUNT:.2f}")
    for part, seconds in zip(PARTS, zip(*_parts(ends, doors), strict=True), strict=True):
        print(f"  {part:26} {mean(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})")


def _parts(ends: list[float], doors: list[EmptyDoor]) -> list[tuple[float, ...]]:
    parts = []
    for number in range(2, len(ends) + 1):
        began, ended = ends[number - 2], ends[number - 1]
        courier, asked, answered = max(
            (door.times[number] for door in doors), key=lambda times: times[2]
        )
        marks = (began, courier, asked, answered, ended)
        parts.append(tuple(b - a for a, b in pairwise(marks)))
    return parts
