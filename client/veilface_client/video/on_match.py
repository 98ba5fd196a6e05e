"""A command that is run when somebody is named, such as one that opens a door.

It is started without a shell and told the name in its environment, never in its arguments: a name
is free text, and must not become one. It never holds the video up. Whether the face is alive is
not checked: whoever holds a photograph before the camera is whom it shows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from veilface_common.errors import ConfigError

DEBOUNCE_SECONDS = 10.0
MOST_SECONDS = 30.0  # that a command may take
MOST_AT_ONCE = 16  # commands, of all people together
_PAUSE_SECONDS = 0.05


@dataclass(kw_only=True)
class OnMatch:
    """Runs one command for each person who comes, at most once at a time."""

    command: Sequence[str]  # a program and its arguments
    tell: Callable[[str], None]  # what went wrong, without a name
    debounce_seconds: float = DEBOUNCE_SECONDS  # that somebody must be away to come again
    most_seconds: float = MOST_SECONDS
    clock: Callable[[], float] = time.monotonic  # for how long a command takes
    _seen: dict[str, float] = field(default_factory=dict, init=False)  # of the video, by name
    _running: dict[str, tuple[subprocess.Popen[bytes], float]] = field(
        default_factory=dict, init=False
    )

    def __post_init__(self) -> None:
        if not self.command:
            raise ConfigError("expected a command for --on-match, got none")
        if not self.debounce_seconds >= 0:
            raise ConfigError(f"expected a debounce of 0 or more, got {self.debounce_seconds:g}")

    def came(self, name: str, seconds: float) -> None:
        """Run the command for somebody who was just named, unless they were there just now.

        Args:
            name: of the person.
            seconds: of the video.
        """
        last = self._seen.get(name)
        self._seen[name] = seconds
        if last is not None and seconds - last < self.debounce_seconds:
            return
        self.look_after()
        if name in self._running:
            self.tell("the command of --on-match still runs for this person; not started again")
        elif len(self._running) >= MOST_AT_ONCE:
            self.tell(f"{MOST_AT_ONCE} commands of --on-match run; no other was started")
        else:
            self._start(name, seconds)

    def are_there(self, names: Iterable[str], seconds: float) -> None:
        """Take note of who is still in the picture."""
        self._seen |= dict.fromkeys(names, seconds)

    def look_after(self) -> None:
        """Tell of commands that failed, and end those that take too long."""
        for name, (process, started) in list(self._running.items()):
            code = process.poll()
            if code is None and self.clock() - started > self.most_seconds:
                _end(process)
                self.tell(f"the command of --on-match took over {self.most_seconds:g} s; ended")
            elif code is None:
                continue
            elif code:
                self.tell(f"the command of --on-match failed with exit code {code}")
            del self._running[name]

    def close(self) -> None:
        """Wait for the commands that run, as long as they may take."""
        while self._running:
            self.look_after()
            if self._running:
                time.sleep(_PAUSE_SECONDS)

    def _start(self, name: str, seconds: float) -> None:
        told = {"VEILFACE_NAME": name, "VEILFACE_SECONDS": f"{seconds:.1f}"}
        try:
            process = subprocess.Popen(  # noqa: S603 -- the operator's own command, and no shell
                self.command,
                env={**os.environ, **told},
                stdin=subprocess.DEVNULL,
                stdout=2,  # ours is for answers
                start_new_session=True,  # Ctrl-C is for us; and all of it can be ended
            )
        except (OSError, ValueError) as error:  # ValueError: a name that no environment holds
            reason = getattr(error, "strerror", None) or "a name that cannot be handed over"
            self.tell(f"the command of --on-match did not start: {reason}")
            return
        self._running[name] = (process, self.clock())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command with all that it started."""
    with suppress(ProcessLookupError):  # it ended just now
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
