"""What our commands have in common."""

from __future__ import annotations

import subprocess
import sys

import pytest

from veilface_common.command import run_command
from veilface_common.errors import ConfigError


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`veilface log | head -1` says nothing of a broken pipe."""
    program = (
        "import sys\n"
        "from veilface_common.command import run_command\n"
        "def work():\n"
        "    for number in range(100_000):\n"
        "        print(number)\n"
        "    return 0\n"
        "sys.exit(run_command('veilface', work))\n"
    )
    line = f'{sys.executable} -c "$0" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", line, program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "141"]
    assert done.stderr == ""


def test_a_strangers_words_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """An error may name what came from outside; it stays one line of plain text."""

    def work() -> int:
        raise ConfigError("got \x1b[2J\x1b]0;owned\a", hint="a\nb\x9b1m")

    assert run_command("veilface", work) == 2
    assert capsys.readouterr().err == "veilface: got  [2J ]0;owned  (hint: a b 1m)\n"
