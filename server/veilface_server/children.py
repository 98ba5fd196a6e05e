"""Processes that are kept running: started anew when they die, each time a little later."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from veilface_common.processes import guarded

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0  # after which a process has earned a short pause again
_LOG_BYTES = 8 << 20  # at a start, a longer log becomes the old one


@dataclass(kw_only=True)
class Child:
    """One process; `look` starts it when it should run and does not."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    clock: Callable[[], float]
    deaths: int = 0  # since it last ran for a while
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _started: float = field(default=0.0, init=False)
    _due: float = field(default=0.0, init=False)

    @property
    def pid(self) -> int | None:
        """Its process, where it runs."""
        return None if self._process is None else self._process.pid

    def look(self) -> str | None:
        """Start it if it is time to, and return what happened if that is worth a line.

        From the main thread alone: the process ends with the thread that started it (`guarded`).
        """
        now = self.clock()
        if self._process is None:
            if now >= self._due:
                self._start(now)
            return None
        code = self._process.poll()
        if code is None:
            if self.deaths and now - self._started > _STEADY_SECONDS:
                self.deaths = 0
            return None
        self._process = None
        pause = min(_FIRST_PAUSE_SECONDS * 2.0**self.deaths, _LONGEST_PAUSE_SECONDS)
        self.deaths += 1
        self._due = now + pause
        return f"{self.name} ended ({_how(code)}); started again in {pause:g} s; see {self.log}"

    def _start(self, now: float) -> None:
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".old"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 -- our own command line
                guarded(self.command),
                env=dict(self.environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # Ctrl-C reaches us alone; we then end it
            )  # fmt: skip
        self._started = now


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
