"""What several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Flower asks the web for news and reports its use; no test may.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

FACES = Path(__file__).parents[2] / "shared" / "faces"


@pytest.fixture(scope="session")
def real_faces() -> Path:
    """Return the folder of real faces; tests that need it skip where it is absent."""
    if not FACES.is_dir():
        pytest.skip(f"no real faces at {FACES.name}: they may not be redistributed")
    return FACES


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for decoded faces that the whole session shares."""
    return tmp_path_factory.mktemp("cache")
