"""What our commands have in common: one line for every error, and an exit code by its class."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from veilface_common.errors import ConfigError, VeilfaceError

UNEXPECTED = 70
BROKEN_PIPE = 141  # as a shell says it: 128 and the signal
Verb = tuple[str, str, Callable[[argparse.ArgumentParser], None]]  # name, what it does, its options


class Parser(argparse.ArgumentParser):
    """Complains in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with the exit code of a bad setting."""
        raise ConfigError(message, hint=f"{self.prog} --help")


def add_verbs(
    parser: argparse.ArgumentParser,
    verbs: Sequence[Verb],
    examples: Mapping[str, Sequence[str]],
    start: str,
) -> None:
    """Add a command for each verb, whose help ends with its examples; `start` begins each line."""
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    for name, what, add in verbs:
        add(
            commands.add_parser(
                name,
                help=what,
                description=what[0].upper() + what[1:] + ".",
                epilog=examples_text(start, examples[name]),
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )


def examples_text(start: str, examples: Sequence[str]) -> str:
    """Return the end of a help text."""
    return "examples:\n" + "\n".join(f"  {start} {example}" for example in examples)


def run_command(name: str, command: Callable[[], int]) -> int:
    """Return the command's exit code; errors are one line on standard error."""
    try:
        return command()
    except VeilfaceError as error:
        hint = f" (hint: {one_line(error.hint)})" if error.hint else ""
        sys.stderr.write(f"{name}: {one_line(str(error))}{hint}\n")
        return error.exit_code
    except BrokenPipeError:  # whoever read what is printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        sys.stderr.write(f"{name}: {one_line(str(error))}\n")
        return UNEXPECTED


def one_line(text: str) -> str:
    """Return the text without its line breaks, and plain."""
    return plain(" ".join(text.split()))


def plain(line: str) -> str:
    """Return a line without what would steer a terminal: others' words stand in some of them."""
    return "".join(letter if letter.isprintable() else " " for letter in line)
