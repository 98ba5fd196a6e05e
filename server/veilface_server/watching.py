"""A page and figures for whoever watches the federation, on a loopback port of its own.

    GET /           the newest run's page        GET /RUN    that of another
    GET /metrics    for Prometheus

Organisations' names and epsilons stand there, and nothing that signs, opens or changes anything.
Nobody is asked who they are, so it listens on the loopback alone; whoever has an account on the
machine can read it. A page of the web could ask, too, through a browser on this machine and a name
of its own for 127.0.0.1: a request to another name than the loopback's own gets no answer.

python -m veilface_server.watching SERVER PORT
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from veilface_common.command import run_command
from veilface_common.crypto.signing import load_verify_key
from veilface_common.errors import ConfigError, VeilfaceError
from veilface_server.dashboard import Shown, dashboard
from veilface_server.home import Home, open_home
from veilface_server.metrics import metrics_text, planned_delta
from veilface_server.proven import read_proven
from veilface_server.proxy_process import listening
from veilface_server.runs import folder_of, load_run, load_runs

HOST = "127.0.0.1"
_TEXT = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus' own
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def page_of(home: Home, federation: str, run: str | None, now: datetime) -> str:
    """Return the page of a run, or of the newest.

    Raises:
        ConfigError: there is no such run, or none at all.
        ArtifactError, KeyFileError: the folder is damaged.
    """
    known = load_runs(home) if run is None else (load_run(home, run),)
    if not known:
        raise ConfigError("expected a run to show, got none yet", hint="veilface-server train")
    found = known[-1]
    key = load_verify_key(home.server_key.with_suffix(".pub"))
    settings = found.config.digest
    shown = Shown(
        federation=federation,
        run=found.id,
        rounds=found.config.federation.rounds,
        settings=settings,
        epsilon=found.epsilon,
        delta=planned_delta(found),
        key=key.fingerprint,
        proven=read_proven(folder_of(home, found.id), key, settings),
    )
    return dashboard(shown, made=f"{now:%Y-%m-%d %H:%M} UTC")


def build_watch_app(home: Home, federation: str) -> Starlette:
    """Return the application; it reads the coordinator's folder at every request."""

    async def page(request: Request) -> Response:
        run = request.path_params.get("run")
        text = await run_in_threadpool(page_of, home, federation, run, datetime.now(UTC))
        return HTMLResponse(text, headers=_HEADERS)

    async def figures(_: Request) -> Response:
        content = await run_in_threadpool(metrics_text, home)
        return Response(content, media_type=_TEXT, headers=_HEADERS)

    return Starlette(
        routes=[Route("/", page), Route("/metrics", figures), Route("/{run}", page)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
        exception_handlers={ConfigError: _missing, VeilfaceError: _damaged},
    )


async def _missing(_: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", 404)


async def _damaged(_: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", 500)


def main() -> int:
    """Serve until SIGTERM."""
    home, settings = open_home(Path(sys.argv[1]))
    config = uvicorn.Config(
        build_watch_app(home, settings.name),
        loop="asyncio",
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=16,
        timeout_graceful_shutdown=2,
    )
    with listening(f"{HOST}:{sys.argv[2]}") as found:
        uvicorn.Server(config).run(sockets=[found])
    return 0


if __name__ == "__main__":
    sys.exit(run_command("veilface-server", main))
