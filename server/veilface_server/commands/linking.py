"""`init` and `start`."""

from __future__ import annotations

import argparse

from veilface_common.address import split_address
from veilface_common.crypto.signing import load_signing_key
from veilface_common.invitation import spoken
from veilface_server.commands.opening import folder_of, now, opened
from veilface_server.home import Settings, create_home
from veilface_server.journal import note_link
from veilface_server.link import run_link


def add_init(parser: argparse.ArgumentParser) -> None:
    """Add the options of `init`."""
    parser.add_argument("--name", required=True, metavar="N", help="of the federation")
    parser.add_argument(
        "--address", required=True, metavar="HOST:PORT", help="by which organisations reach it"
    )
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="on this machine; default: every address, that port"
    )
    parser.set_defaults(run=_init)


def add_start(parser: argparse.ArgumentParser) -> None:
    """Add the options of `start`."""
    parser.add_argument(
        "--watch-port",
        type=int,
        metavar="P",
        help="of the loopback: a page at / and Prometheus' /metrics, such as 9464; default: none",
    )
    parser.set_defaults(run=_start)


def _init(arguments: argparse.Namespace) -> int:
    _, port = split_address(arguments.address)
    settings = Settings(
        name=arguments.name,
        address=arguments.address,
        listen=arguments.listen or f"0.0.0.0:{port}",
    )
    home = create_home(folder_of(arguments), settings, now())
    print(f"{settings.name}: {home.folder}")
    print(f"coordinator's key: {spoken(load_signing_key(home.server_key).public)}")
    print(f"next: veilface-server --home {home.folder} start")
    return 0


def _start(arguments: argparse.Namespace) -> int:
    home, settings = opened(arguments)

    def tell(line: str) -> None:
        print(line, flush=True)
        note_link(home.folder, line)

    run_link(home, settings, tell, arguments.watch_port)
    return 0
