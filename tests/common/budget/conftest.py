from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from veilface_common.budget.events import Event, Mechanism, Unit
from veilface_common.budget.ledger import Ledger, Registration, create_ledger
from veilface_common.budget.policy import Policy
from veilface_common.crypto.signing import SigningKey

KEY = SigningKey.from_seed(bytes(range(32)))
REGISTRATION = Registration(
    organisation="org-1", commitment="ab" * 32, people_declared=100, images_declared=400
)
CONTEXT = {"run": "test", "round": 1, "random": "operating-system"}


def event(steps: int = 10, noise: float = 1.0, rate: float = 0.1, unit: Unit = "identity") -> Event:
    mechanism = Mechanism(sample_rate=rate, noise_multiplier=noise)
    return Event(unit=unit, mechanism=mechanism, steps=steps)


def clock() -> str:
    return "2026-01-02T03:04:05+00:00"


Start = Callable[..., Ledger]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def make(policy: Policy | None = None) -> Ledger:
        path = tmp_path / "ledger.db"
        return create_ledger(path, KEY, REGISTRATION, policy or Policy(), clock)

    return make
