"""What may import what, beside the rules of import-linter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    p for room in ("common", "client", "server", "simulations") for p in (ROOT / room).rglob("*.py")
]


def test_the_courier_needs_no_torch() -> None:
    """Flower starts a process for each message: the courier must be light."""
    program = "import sys, veilface_client.app; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_pickle_and_no_long_files(path: Path) -> None:
    """Reading a file never runs code, and a file is one noun."""
    text = path.read_text()
    assert not re.search(r"\bpickle\b|torch\.(save|load)\(", text.replace("never pickle", ""))
    assert len(text.splitlines()) <= 400


def test_the_server_cannot_name_what_stays_at_the_organisation() -> None:
    """No word of heads, labels or faces in the coordinator's code."""
    for path in (ROOT / "server").rglob("*.py"):
        words = re.findall(r"\w+", path.read_text().lower())
        assert not {"head", "labels", "faces", "people"} & set(words), path.name
