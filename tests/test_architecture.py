"""What may import what, beside the rules of import-linter."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    p for room in ("common", "client", "server", "simulations") for p in (ROOT / room).rglob("*.py")
]


COURIER = """
import json, sys, time
import flwr.app, flwr.clientapp
flower, before = time.process_time(), set(sys.modules)
import veilface_client.app
print(json.dumps([time.process_time() - flower, flower, sorted(set(sys.modules) - before)]))
"""


def test_the_courier_is_light_and_holds_nothing() -> None:
    """Flower starts a process for each message: beyond Flower, a few small modules.

    No torch, no cryptography, no keeper: what it does not import it cannot be made to use. Measured
    three times: 0.002 s of processor time of ours, after 0.34 to 0.36 s of Flower's own.
    """
    done = subprocess.run([sys.executable, "-c", COURIER], check=True, capture_output=True)
    ours, flower, added = json.loads(done.stdout)
    assert set(added) == {
        "veilface_client",
        "veilface_client.app",
        "veilface_client.courier",
        "veilface_common",
        "veilface_common.errors",
        "veilface_common.wire",
    }
    assert ours < 0.1, f"{ours:.3f} s of ours, {flower:.3f} s of Flower's"


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
