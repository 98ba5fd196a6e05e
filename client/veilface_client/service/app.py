"""The application: routes, page, and what stands around them."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from veilface_client.recognition.desk import Desk
from veilface_client.recognition.papers import keep_consent_texts
from veilface_client.service import keeping_routes, matching_routes, people_routes, user_routes
from veilface_client.service.asking import Room, desk_of_request
from veilface_client.service.gate import Gate
from veilface_client.service.guard import Guard
from veilface_client.service.problems import ANSWERS, add_handlers
from veilface_client.service.work import Work

WEB = Path(__file__).parents[1] / "web"
_DESCRIPTION = """An organisation's own face recognition, on its own premises.

Every call but `/healthz` carries a token: `Authorization: Bearer veilface_...`. What a token may do
follows from its role; `GET /api/me` says it. Answers are decisions and bands, never scores or
templates. Every error is `{"error": one line, "hint": what to do, or null}`.
"""


def build_app(desk: Desk, *, hsts: bool = False) -> FastAPI:
    """Return the service of an open desk; whoever opened it closes it.

    Args:
        desk: the organisation's.
        hsts: tell browsers to come by TLS alone from now on. Only with a certificate that they
            trust: behind one that changes, it would lock people out.
    """
    work = Work()
    app = FastAPI(
        title="Veilface",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,  # the pages that FastAPI offers load scripts from elsewhere
        redoc_url=None,
    )
    app.state.room = Room(desk=desk, work=work, gate=Gate(desk, work))
    app.add_middleware(Guard, hsts=hsts)
    add_handlers(app)
    for routes in (matching_routes, people_routes, keeping_routes, user_routes):
        app.include_router(routes.router, prefix="/api", responses=ANSWERS)

    @app.get("/healthz", tags=["service"], summary="Is the service up?")
    async def healthz(desk: desk_of_request) -> dict[str, str]:
        await work.other(lambda: desk.vault.state)
        return {"status": "ok"}

    keep_consent_texts(desk)
    app.mount("/", StaticFiles(directory=WEB, html=True), name="page")
    return app
