"""The node's two lasting processes, what they are started with, and how they end.

On Linux the kernel ends each process with its parent, whatever ended that one. What is left all the
same, of an earlier node of the same folder, is found by its mark and ended at the next start.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from veilface_client.app import KEEPER_VARIABLE
from veilface_client.node.flower import PROGRAMS
from veilface_common.processes import end_marked, guarded, marked

MARK = "VEILFACE_NODE_OF"
_GUARD = "veilface_client.node.guard_process"
_PATIENCE_SECONDS = 8.0  # a SuperNode signs off at the coordinator, and forces its end after 5 s
# For tasks, on the loopback; Flower's default is a second. A node that waits took 4% of a core at
# 0.1, which is what limits how many fit on one machine.
_POLL_SECONDS = "0.25"
_KEPT = (
    "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy",
)  # fmt: skip
_LOG_BYTES = 4 << 20
_LOCAL = "localhost,127.0.0.1,::1"


def environment(folder: Path, keeper: str) -> dict[str, str]:
    """Return what the node's processes see: nothing of ours but where the keeper is."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    bypass = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    return kept | {
        MARK: str(folder),
        # Only our own programs: whatever the coordinator names, it finds no other.
        "PATH": str(folder / "bin"),
        KEEPER_VARIABLE: keeper,
        "FLWR_HOME": str(folder / "flower"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": _POLL_SECONDS,
        "NO_PROXY": ",".join(filter(None, (bypass, _LOCAL))),
        "NO_COLOR": "1",
    }


def write_programs(folder: Path) -> None:
    """Put the guard into the node's `bin`, under every name that Flower may start."""
    programs = folder / "bin"
    programs.mkdir(mode=0o700, exist_ok=True)
    guard = shlex.join([sys.executable, "-I", "-m", _GUARD, str(folder)])
    for name in PROGRAMS:
        path = programs / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/sh\nexec {guard} "$@"\n')
        path.chmod(0o700)


def start_program(
    name: str, arguments: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start one of Flower's programs; what it says is added to its log.

    From the main thread alone: it ends when the thread does that started it. Its output is a file
    and no pipe, so that it can still sign off at the coordinator when we are gone.
    """
    program = str(Path(sys.executable).parent / name)
    with log_of(folder, name).open("ab") as log:
        return subprocess.Popen(  # noqa: S603 -- our own command line
            guarded([sys.executable, "-I", program, *arguments]),
            env=dict(variables), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,  # Ctrl-C reaches us alone; we then end it
        )  # fmt: skip


def log_of(folder: Path, name: str) -> Path:
    """Return the file that a program's words are added to."""
    return folder / "log" / f"{name}.log"


def end_programs(supernode: subprocess.Popen[bytes], superexec: subprocess.Popen[bytes]) -> None:
    """End both: the SuperExec at once, with the guards it started; it has nothing to keep.

    The SuperNode signs off at the coordinator, if it does so in time.
    """
    superexec.kill()
    supernode.terminate()
    try:
        supernode.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        supernode.kill()
        supernode.wait()
    superexec.wait()


def end_leftovers(folder: Path) -> None:
    """End what an earlier node of this folder left running.

    A SuperNode whose parent was killed is signing off at the coordinator, and a second signal would
    cut that short: then the coordinator would count it as online for another minute.
    """
    psutil.wait_procs(marked(MARK, str(folder)), timeout=_PATIENCE_SECONDS)
    end_marked(MARK, str(folder))


class Tail:
    """The lines that are added to a log from now on; a log that grew too long is begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def lines(self) -> Sequence[str]:
        """Return the whole lines since the last call."""
        if not self._path.exists():
            return ()
        with self._path.open("rb") as log:
            log.seek(self._position)
            added = log.read()
        self._position += len(added)
        *whole, self._rest = (self._rest + added).split(b"\n")
        if self._position > _LOG_BYTES:
            with suppress(OSError):  # on a full disk it is gone
                shutil.copyfile(self._path, self._path.with_suffix(".old"))
            os.truncate(self._path, 0)  # it is written at its end, wherever that is
            self._position = 0
        return [line.decode(errors="replace") for line in whole]
