"""The command that opens a door: when it runs, what it is told, and what it cannot do."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from veilface_client.video.on_match import MOST_AT_ONCE, OnMatch
from veilface_common.errors import ConfigError

WRITE = """
import json, os, sys
with open(sys.argv[1], "a") as file:
    told = [os.environ["VEILFACE_NAME"], os.environ["VEILFACE_SECONDS"], sys.argv[2:]]
    file.write(json.dumps(told) + chr(10))
"""


class Door:
    """A command that writes down what it was told."""

    def __init__(self, folder: Path, code: str = WRITE, **settings: float) -> None:
        self._file, self.notes = folder / "told", list[str]()
        self.now = 0.0
        self.on_match = OnMatch(
            command=[sys.executable, "-c", code, str(self._file), "$VEILFACE_NAME; exit 3"],
            tell=self.notes.append,
            clock=lambda: self.now,
            **settings,
        )

    def told(self) -> list[list[object]]:
        self.on_match.close()
        text = self._file.read_text() if self._file.exists() else ""
        return [json.loads(line) for line in text.splitlines()]


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    assert is_so()


def test_the_name_is_told_in_the_environment_alone(tmp_path: Path) -> None:
    """Arguments come as they were written, whatever a name is: no shell reads them."""
    door = Door(tmp_path)
    door.on_match.came("$(touch owned); ada", 12.34)
    assert door.told() == [["$(touch owned); ada", "12.3", ["$VEILFACE_NAME; exit 3"]]]
    assert door.notes == []


def test_who_is_still_there_does_not_come_again(tmp_path: Path) -> None:
    """Debounced by when they were seen last, each person for themselves."""
    door = Door(tmp_path, debounce_seconds=10.0)
    for name, seconds in (("ada", 0.0), ("bob", 1.0), ("ada", 8.0)):
        door.on_match.came(name, seconds)
        door.on_match.close()
    door.on_match.are_there({"ada"}, 15.0)
    door.on_match.came("ada", 24.0)  # 9 seconds after she was seen
    door.on_match.close()
    door.on_match.came("bob", 30.0)
    door.on_match.close()
    door.on_match.came("ada", 34.5)
    assert [told[:2] for told in door.told()] == [
        *(["ada", "0.0"], ["bob", "1.0"]),
        *(["bob", "30.0"], ["ada", "34.5"]),
    ]


def test_a_command_that_fails_is_told_of_without_a_name(tmp_path: Path) -> None:
    """And the next one runs."""
    door = Door(tmp_path, "raise SystemExit(7)")
    door.on_match.came("ada", 0.0)
    door.on_match.close()
    assert door.notes == ["the command of --on-match failed with exit code 7"]
    missing = OnMatch(command=[str(tmp_path / "no-such")], tell=door.notes.append)
    missing.came("ada", 0.0)
    assert door.notes[1:] == ["the command of --on-match did not start: No such file or directory"]
    missing.came("a\0b", 0.0)
    assert "cannot be handed over" in door.notes[2]


def test_a_command_that_hangs_holds_nothing_up_and_is_ended(tmp_path: Path) -> None:
    """With all that it started; meanwhile it does not run twice for one person."""
    code = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
    door = Door(tmp_path, code, debounce_seconds=0.0, most_seconds=30.0)
    started = time.monotonic()
    door.on_match.came("ada", 0.0)
    door.on_match.came("ada", 1.0)
    assert time.monotonic() - started < 10
    assert door.notes == ["the command of --on-match still runs for this person; not started again"]
    door.now = 29.0
    door.on_match.look_after()
    assert len(door.notes) == 1
    door.now = 31.0
    door.on_match.close()
    assert door.notes[1:] == ["the command of --on-match took over 30 s; ended"]


def test_a_crowd_of_friends_does_not_start_hundreds_of_commands(tmp_path: Path) -> None:
    """The number that run at once is bounded."""
    door = Door(tmp_path, "import time; time.sleep(600)")
    for number in range(MOST_AT_ONCE + 3):
        door.on_match.came(f"friend {number}", 0.0)
    assert door.notes == [f"{MOST_AT_ONCE} commands of --on-match run; no other was started"] * 3
    door.now = 100.0
    door.on_match.close()


def test_settings_that_cannot_be_meant_are_refused() -> None:
    """An empty command, and a time that is none."""
    with pytest.raises(ConfigError, match="expected a command"):
        OnMatch(command=[], tell=print)
    for seconds in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="expected a debounce"):
            OnMatch(command=["true"], tell=print, debounce_seconds=seconds)
