"""`veilface serve`: the keeper's socket for the Flower node, and HTTP with a page for people."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veilface_client.commands.opening import add_unlocking, home_of, opened
from veilface_client.home_layout import SOCKET, training_folder
from veilface_client.process import keep_memory_private
from veilface_common.errors import ConfigError


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface serve`."""
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=8443, metavar="P", help="default: 8443")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="default: one is made")
    parser.add_argument("--certificate-key", type=Path, metavar="PEM")
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--no-web", action="store_true", help="the keeper alone: needs no network and no passphrase"
    )
    only.add_argument("--no-keeper", action="store_true", help="HTTP and the page alone")
    parser.add_argument(
        "--socket", type=Path, metavar="PATH", help="of the keeper; default: DIR/keeper.sock"
    )
    parser.add_argument(
        "--node-user", metavar="USER", help="whom the Flower node runs as, if it is somebody else"
    )
    add_unlocking(parser)
    parser.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    if bool(arguments.certificate) != bool(arguments.certificate_key):
        raise ConfigError("expected a certificate and its key, got one of the two")
    if arguments.no_web:
        keep_memory_private()
        with _keeping(arguments):
            _wait_for_the_end()
        return 0
    with _keeping(arguments):
        _serve_web(arguments)
    return 0


def _serve_web(arguments: argparse.Namespace) -> None:
    from veilface_client.recognition import upkeep  # noqa: PLC0415 -- brings PyTorch
    from veilface_client.service import run_service  # noqa: PLC0415 -- brings FastAPI

    with opened(arguments) as asking:
        desk, actor = asking.desk, asking.actor
        if not upkeep.list_users(desk, actor):
            token = upkeep.add_user(desk, actor, "admin", "administrator", days=90)
            _say(f"the first administrator's token, shown this once: {token}")
        run_service(
            desk,
            host=arguments.host,
            port=arguments.port,
            certificate=arguments.certificate,
            key=arguments.certificate_key,
            on_ready=_say,
        )


@contextmanager
def _keeping(arguments: argparse.Namespace) -> Iterator[None]:
    """Keep the door open, where there is one: without an account there is nothing to train on."""
    from veilface_client.door import Door  # noqa: PLC0415 -- brings PyTorch
    from veilface_client.keeper_socket import listening  # noqa: PLC0415 -- the same
    from veilface_client.organisation import SETTINGS  # noqa: PLC0415 -- the same
    from veilface_client.watched_door import WatchedDoor  # noqa: PLC0415 -- the same

    home = home_of(arguments)
    folder = training_folder(home)
    if arguments.no_keeper:
        yield
        return
    if not (folder / SETTINGS).exists():
        if arguments.no_web:
            raise ConfigError(
                f"expected an account of {home} to keep, got none", hint="veilface account open"
            )
        yield
        return
    path = arguments.socket or home / SOCKET
    with listening(path, WatchedDoor(Door(folder), home), arguments.node_user):
        _say(f"keeper: {path}")
        yield


def _wait_for_the_end() -> None:
    ended = {signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ended)
    try:
        signal.sigwait(ended)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _say(line: str) -> None:
    print(line, flush=True)
