"""`status`: who is there, how far a run is, what went wrong last."""

from __future__ import annotations

import argparse
import sys
import time

from veilface_common.typed_json import to_json
from veilface_server.commands.opening import add_json, opened, print_json
from veilface_server.standing import Standing, standing_of

_WATCH_SECONDS = 5.0
_SHOWN_RUNS = 3
_CLEAR = "\x1b[H\x1b[2J"


def add_status(parser: argparse.ArgumentParser) -> None:
    """Add the options of `status`."""
    add_json(parser)
    parser.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C")
    parser.set_defaults(run=_status)


def _status(arguments: argparse.Namespace) -> int:
    home, settings = opened(arguments)
    while True:
        standing = standing_of(home, settings)
        if arguments.watch and sys.stdout.isatty():
            print(_CLEAR, end="")
        if arguments.json:
            print_json(to_json(standing))
        else:
            print("\n".join(_lines(standing)), flush=True)
        if not arguments.watch:
            return 0
        try:
            time.sleep(_WATCH_SECONDS)
        except KeyboardInterrupt:
            return 0


def _lines(standing: Standing) -> list[str]:
    process = f"runs (process {standing.process})" if standing.process else "does not run"
    lines = [f"{standing.name}: {process}, https://{standing.address}"]
    lines += [f"    {standing.trouble}"] if standing.trouble else []
    for member in standing.members:
        lines.append(
            f"{member.name}: {member.status}{', ' if member.presence else ''}{member.presence}"
        )
        lines += [f"    last left out: {member.left_out}"] if member.left_out else []
    for run in standing.runs[-_SHOWN_RUNS:]:
        lines.append(f"run {run.id}: {run.state}, {run.rounds_done} of {run.rounds} rounds")
        lines += [f"    waits for {', '.join(run.waiting_for)}"] if run.waiting_for else []
        lines += [f"    {run.error}"] if run.error else []
        for budget in run.budgets:
            lines.append(
                f"    {budget.organisation}: epsilon {budget.spent:.3g} of {run.epsilon:g} "
                f"at delta {run.delta:g}, {budget.rounds} rounds"
            )
    return lines
