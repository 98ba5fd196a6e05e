"""Programs as a service manager keeps them: the drill kills them, and starts them again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from veilface_common.processes import marked

PATIENCE_SECONDS = 240.0  # two cores, shared with others
OFTEN_SECONDS = 0.01  # between two looks, for what lasts a moment
_LOOK_SECONDS = 0.2


def wait_until(
    true: Callable[[], bool],
    what: str,
    seconds: float = PATIENCE_SECONDS,
    *,
    look_seconds: float = _LOOK_SECONDS,
) -> None:
    """Wait until something is so, or fail."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, f"waited {seconds:g} s for: {what}"
        time.sleep(look_seconds)


def send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to processes that the drill started; one that ended meanwhile needs none."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def kill(processes: Sequence[psutil.Process]) -> None:
    """`kill -9`, and wait until they are gone."""
    assert processes, "expected processes to kill, got none"
    send(processes, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)


@dataclass(kw_only=True)
class Service:
    """One program in the foreground; `mark` is what all that it starts carries, too."""

    name: str
    command: Sequence[str]
    place: Path
    mark: tuple[str, str] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def is_running(self) -> bool:
        """Whether it runs, or is stopped."""
        return self._process is not None and self._process.poll() is None

    @property
    def itself(self) -> list[psutil.Process]:
        """The process that was started, without those that it started."""
        if not self.is_running or self._process is None:
            return []
        return [psutil.Process(self._process.pid)]

    @property
    def everything(self) -> list[psutil.Process]:
        """Itself and all that it started."""
        started = marked(*self.mark) if self.mark else []
        return [*self.itself, *started]

    def of(self, word: str) -> list[psutil.Process]:
        """Those of its processes in whose command line a word stands."""
        found = []
        for process in self.everything:
            with suppress(psutil.Error):
                if any(word in part for part in process.cmdline()):
                    found.append(process)
        return found

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.is_running:
            return
        variables = {**os.environ, **self.environment, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        with (self.place / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.place,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, *, alone: bool = False) -> None:
        """`kill -9` of all of it, or of itself alone."""
        kill(self.itself if alone else self.everything)
        if self._process is not None and self.itself == []:
            self._process.wait()

    def end(self) -> None:
        """End it as an operator would."""
        if self._process is None:
            return
        send(self.itself, signal.SIGCONT)
        send(self.itself, signal.SIGTERM)
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
