"""What the processes of a federation cost: seconds of CPU and memory, by kind of process."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

# A word of the command line, and what it stands for; the first that is there.
_KINDS = {
    "veilface_client.node.guard": "courier",
    "flower-supernode": "supernode",
    "flower-superexec": "superexec",
    "flower-superlink": "superlink",
    "flwr-serverapp": "serverapp",
    "veilface_server.proxy_process": "proxy",
}
# Processes that come and go are counted at whoever started them, once they have ended.
_STARTS = {"superexec": "courier", "coordinator's superexec": "serverapp", "start": "flwr"}


@dataclass(kw_only=True)
class Memory:
    """Megabytes of all processes of a kind together."""

    pss: float = 0.0  # pages that others hold too count in part
    rss: float = 0.0  # now; shared pages count in every process
    peak_rss: float = 0.0  # sum of each one's highest
    processes: int = 0


@dataclass(kw_only=True)
class Counted:
    """One look at all processes below some roots."""

    cpu_seconds: Counter[str] = field(default_factory=Counter)
    memory: dict[str, Memory] = field(default_factory=lambda: defaultdict(Memory))


def count(roots: Mapping[str, int]) -> Counted:
    """Return what the processes below `roots`, {"node-...": pid, ...}, have used until now."""
    found = Counted()
    for kind, process in _processes(roots):
        with suppress(psutil.Error, OSError):
            times = process.cpu_times()
            found.cpu_seconds[kind] += times.user + times.system
            if kind in _STARTS:
                found.cpu_seconds[_STARTS[kind]] += times.children_user + times.children_system
            _add_memory(found.memory[kind], process.pid)
    return found


def couriers(roots: Mapping[str, int]) -> Memory:
    """Return what the couriers that are at work now take."""
    found = Memory()
    for kind, process in _processes(roots):
        if kind == "courier":
            with suppress(OSError):
                _add_memory(found, process.pid)
    return found


def available() -> float:
    """Return the megabytes that the machine could still give."""
    return psutil.virtual_memory().available / 2**20


def _processes(roots: Mapping[str, int]) -> Iterator[tuple[str, psutil.Process]]:
    for name, pid in roots.items():
        root = name.partition("-")[0]
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(pid)
            yield "start" if root == "coordinator" else root, first
            for process in first.children(recursive=True):
                with suppress(psutil.Error):
                    yield _kind(process, root), process


def _kind(process: psutil.Process, root: str) -> str:
    if process.status() == psutil.STATUS_ZOMBIE:  # its words are gone
        return {"node": "courier", "coordinator": "serverapp"}[root]
    words = " ".join(process.cmdline())
    named = next((kind for word, kind in _KINDS.items() if word in words), "other")
    return f"coordinator's {named}" if root == "coordinator" and named == "superexec" else named


def _add_memory(memory: Memory, pid: int) -> None:
    status = Path(f"/proc/{pid}/status").read_text()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    if "Pss:" not in rollup:
        return
    memory.processes += 1
    memory.pss += _kilobytes(rollup, "Pss") / 1024
    memory.rss += _kilobytes(rollup, "Rss") / 1024
    memory.peak_rss += _kilobytes(status, "VmHWM") / 1024


def _kilobytes(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else 0


def started_couriers(node: int) -> list[float]:
    """Return when the couriers below a node that are at work now were started."""
    found = _processes({"node": node})
    return [process.create_time() for kind, process in found if kind == "courier"]
