"""The commands of an organisation that takes part: join, and the node."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from veilface_client.commands.opening import add_json, home_of, say
from veilface_client.home_layout import SOCKET
from veilface_common import typed_json
from veilface_common.errors import ConfigError
from veilface_common.invitation import PREFIX, spoken


def add_join(parser: argparse.ArgumentParser) -> None:
    """Set up `veilface join`."""
    parser.add_argument("invitation", help="the text, or a file that holds it; - for the terminal")
    parser.set_defaults(run=_join)


def add_node(parser: argparse.ArgumentParser) -> None:
    """Set up `veilface node`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    start = verbs.add_parser("start", help="run until Ctrl-C or SIGTERM")
    start.add_argument(
        "--socket", type=Path, metavar="PATH", help=f"of the keeper; else HOME/{SOCKET}"
    )
    start.set_defaults(run=_start)
    status = verbs.add_parser("status", help="is it running, and what was refused")
    add_json(status)
    status.set_defaults(run=_status)
    approve = verbs.add_parser("approve", help="let one more bundle in, by its SHA-256")
    approve.add_argument("hash", metavar="HASH")
    approve.set_defaults(run=_approve)


def _join(arguments: argparse.Namespace) -> int:
    from veilface_client.federation import join  # noqa: PLC0415 -- brings Flower

    joined = join(home_of(arguments), _invitation(arguments.invitation), datetime.now(UTC))
    federation = joined.federation
    print(f"asked {federation.name} at {federation.address}: {joined.status}")
    print("compare by telephone, before the coordinator approves:")
    print(f"  the coordinator's key      {spoken(joined.coordinator)}")
    print(f"  {federation.organisation}'s key".ljust(29) + spoken(joined.organisation))
    print("then: veilface node start")
    return 0


def _invitation(named: str) -> str:
    if named.strip().startswith(PREFIX):
        return named
    try:
        return sys.stdin.read() if named == "-" else Path(named).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(
            f"expected an invitation, got neither its text nor a file {named[:80]!r}",
            hint=f"it begins with {PREFIX}",
        ) from None


def _start(arguments: argparse.Namespace) -> int:
    from veilface_client.federation import load_federation  # noqa: PLC0415 -- brings Flower
    from veilface_client.node.starting import run_node  # noqa: PLC0415 -- the same

    home = home_of(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_node(
        home,
        load_federation(home),
        arguments.socket or home / SOCKET,
        lambda line: print(f"{datetime.now(UTC):%H:%M:%S} {line}", flush=True),
        stop,
    )
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from veilface_client.node.report import node_report, report_text  # noqa: PLC0415 -- the same

    report = node_report(home_of(arguments))
    say(arguments, typed_json.to_json(report), report_text(report))
    return 0


def _approve(arguments: argparse.Namespace) -> int:
    from veilface_client.federation import node_folder  # noqa: PLC0415 -- brings Flower
    from veilface_client.node.bundles import approve  # noqa: PLC0415 -- the same

    folder = node_folder(home_of(arguments))
    if not folder.is_dir():
        raise ConfigError(f"expected a node in {folder}, got none", hint="veilface join INVITATION")
    approve(folder, arguments.hash, datetime.now(UTC))
    print(f"bundle {arguments.hash} may start the courier here")
    return 0
