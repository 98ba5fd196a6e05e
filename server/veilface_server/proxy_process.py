"""The proxy as a process of its own: its socket, TLS, and its end.

python -m veilface_server.proxy_process SERVER LINK_ADDRESS
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import uvicorn

from veilface_common.address import split_address
from veilface_common.command import run_command
from veilface_common.errors import ConfigError
from veilface_server.authority import LINK, LINK_KEY
from veilface_server.home import open_home
from veilface_server.proxy import build_proxy

CONNECTIONS = 1024  # held at once; more are told 503, and nodes try again
_BACKLOG = 256
_KEEP_ALIVE_SECONDS = 75  # longer than a node's pause between two heartbeats
_GRACE_SECONDS = 2


def listening(address: str) -> socket.socket:
    """Return a socket that the world can connect to from now on.

    Raises:
        ConfigError: the address is taken, or not this machine's.
    """
    host, port = split_address(address)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(
            f"expected an address to listen on, got {address} ({error})",
            hint='"listen" in server.json',
        ) from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        raise ConfigError(
            f"expected to listen on {address}, got: {error.strerror}",
            hint='another program has the port, or "listen" in server.json is not this machine\'s',
        ) from None
    return found


def main() -> int:
    """Serve until SIGTERM."""
    home, settings = open_home(Path(sys.argv[1]))
    config = uvicorn.Config(
        build_proxy(home, sys.argv[2]),
        loop="asyncio",
        http="h11",  # gives the path as it was sent
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # anybody can write them
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=home.tls / LINK,
        ssl_keyfile=home.tls / LINK_KEY,
    )
    with listening(settings.listen) as found:
        uvicorn.Server(config).run(sockets=[found])
    return 0


if __name__ == "__main__":
    sys.exit(run_command("veilface-server", main))
