"""The process of the guard: it has what it needs of Flower, and not much else."""

from __future__ import annotations

import subprocess
import sys

_LOOK = """
import sys
from veilface_client.node import guard_process
guard_process.leave_out()
from pathlib import Path
from veilface_client.node import guard
from veilface_client.app import app
guard.stand_guard(Path())
assert guard.run_clientapp.install_from_fab.__module__ == guard.__name__
assert guard.run_clientapp.get_load_client_app_fn("", None, True)("", "", "") is app
print(*sys.modules)
"""


def test_the_guard_and_the_courier_do_without_flower_s_servers_and_torch() -> None:
    """All that they import is there, both of Flower's steps are ours, and the heavy parts are not.

    Whatever of Flower's moves with a release shows here, not at the first message.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", _LOOK], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "flwr.supernode.runtime.run_clientapp" in loaded
    heavy = {
        "torch",
        "scipy",
        "pydantic",
        "fastapi.routing",
        "flwr.cli.utils",
        "flwr.server.server",
    }
    assert not heavy & loaded


def test_what_is_left_out_cannot_be_used_by_mistake() -> None:
    """Whoever asks a stand-in for more than its names gets an ImportError at once."""
    code = (
        "from veilface_client.node.guard_process import leave_out\n"
        "leave_out()\n"
        "from flwr.cli.install import validate_and_install\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False
    )
    assert "ImportError" in done.stderr
