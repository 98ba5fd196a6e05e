"""The service as a process: its socket, TLS, and an end that loses nothing."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from veilface_client.recognition.desk import Desk
from veilface_client.service.app import build_app
from veilface_client.service.certificate import Certificate, made_certificate, own_certificate
from veilface_common.errors import ConfigError

CONNECTIONS = 128  # held at once; more are told 503
_GRACE_SECONDS = 30  # in which requests are finished
_KEEP_ALIVE_SECONDS = 30


def run_service(
    desk: Desk,
    *,
    host: str,
    port: int,
    certificate: Path | None,
    key: Path | None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests that are being answered.

    Args:
        desk: open, and still so when this returns; whoever opened it closes it.
        host: the address to listen on.
        port: 0 for any that is free.
        certificate: the organisation's own, a PEM file with its chain; None: one is made.
        key: of the certificate, without a passphrase.
        on_ready: is told each line that whoever starts the service must see.

    Raises:
        ConfigError: the certificate cannot be used, or the address is taken or not ours.
    """
    if certificate is not None and key is not None:
        shown, is_own = own_certificate(certificate, key), True
    else:
        shown, is_own = made_certificate(desk.folder, host, desk.clock()), False
    listening = _listening(host, port)
    server = uvicorn.Server(_settings(desk, shown, is_own=is_own))
    with listening, _stopped_by_signals(server):
        address = f"[{host}]" if ":" in host else host
        on_ready(f"{desk.settings.name}: https://{address}:{listening.getsockname()[1]}/")
        on_ready(f"certificate, SHA-256: {shown.fingerprint}")
        server.run(sockets=[listening])


def _settings(desk: Desk, certificate: Certificate, *, is_own: bool) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(desk, hsts=is_own),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # addresses of requests hold names of people
        proxy_headers=False,  # anybody can write them
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=certificate.path,
        ssl_keyfile=certificate.key,
    )


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that clients can connect to from now on."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"expected an address to listen on, got {host} ({error})") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(CONNECTIONS)
    except (OSError, OverflowError) as error:
        found.close()
        raise ConfigError(
            f"expected to listen on {host}, port {port}, got: {error}", hint="another --port"
        ) from None
    return found


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the service in good order, from before it runs until after.

    uvicorn raises a signal again once it has stopped; that must not kill the process before the
    desk is closed.
    """

    def stop(*_: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
