"""What tests of recognition share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.recognition.desks import Clock, WordDesk, open_desk


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(tmp_path: Path, clock: Clock) -> Iterator[WordDesk]:
    with open_desk(tmp_path / "shop", clock) as found:
        yield found
