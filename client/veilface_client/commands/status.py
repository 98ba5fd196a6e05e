"""`veilface status`: how everything stands, at a glance; needs no passphrase."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from veilface_client.commands.opening import add_json, home_of, say
from veilface_client.home_layout import SOCKET
from veilface_common import typed_json
from veilface_common.command import plain

if TYPE_CHECKING:
    from veilface_client.overview import AccountOverview, NodeOverview, Overview

_EVERY_SECONDS = 2.0
_CLEAR = "\x1b[H\x1b[2J"


def add_status(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface status`."""
    parser.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C")
    parser.add_argument(
        "--socket", type=Path, metavar="PATH", help="of the keeper; default: DIR/keeper.sock"
    )
    add_json(parser)
    parser.set_defaults(run=_status)


def _status(arguments: argparse.Namespace) -> int:
    from veilface_client.overview import overview  # noqa: PLC0415 -- other commands need none of it

    home = home_of(arguments)
    while True:
        found = overview(home, arguments.socket or home / SOCKET)
        if arguments.watch and sys.stdout.isatty():
            print(_CLEAR, end="")
        say(arguments, typed_json.to_json(found), "\n".join(map(plain, _lines(found))))
        if not arguments.watch:
            return 0
        sys.stdout.flush()
        try:
            time.sleep(_EVERY_SECONDS)
        except KeyboardInterrupt:
            return 0


def _lines(found: Overview) -> list[str]:
    lines = [found.organisation]
    if found.federation is None:
        lines.append("federation  none (hint: veilface join INVITATION)")
    else:
        lines.append(f"federation  {found.federation.name} at {found.federation.address}")
        lines.append(f"            coordinator's key {found.federation.coordinator}")
    listening = "listens" if found.is_keeper_listening else "does not listen (hint: veilface serve)"
    lines += [f"keeper      {listening}", *_node_lines(found.node)]
    lines += _account_lines(found.account)
    if found.model is None:
        lines.append("model       none yet (hint: veilface model accept)")
    elif found.model.sequence is None:
        lines.append(f"model       {found.model.sha256[:16]}, which nobody signed")
    else:
        lines.append(
            f"model       release {found.model.sequence} of {found.model.federation}, "
            f"{found.model.made}, weights {found.model.sha256[:16]}"
        )
    lines.append(f"failures    {found.failures}")
    lines += [f"            {failure}" for failure in found.newest_failures]
    lines += [f"problem     {problem}" for problem in found.problems]
    return lines


def _node_lines(node: NodeOverview | None) -> list[str]:
    if node is None:
        return ["node        never started (hint: veilface node start)"]
    lines = [f"node        {node.state} since {node.since}, {node.messages} messages"]
    if node.last_error:
        lines.append(f"            last error: {node.last_error}")
    return lines


def _account_lines(account: AccountOverview | None) -> list[str]:
    if account is None:
        return ["account     none (hint: veilface account open)"]
    spent = "no finite" if account.epsilon_spent is None else f"{account.epsilon_spent:.4g}"
    allowed = f"{account.epsilon_allowed:g} at delta {account.delta:g} ({account.unit})"
    lines = [
        f"account     epsilon {spent} spent of {allowed}, {account.epsilon_left:.4g} left",
        f"            {account.rounds} rounds sent, in {account.runs} runs",
        f"            figures released {account.figures} times",
        f"            {account.open_reservations} reservations open",
        f"            newest entry {account.newest}, {account.refusals} refusals",
    ]
    return [*lines, *(f"            refused {refusal}" for refusal in account.newest_refusals)]
