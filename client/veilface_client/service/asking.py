"""One request: who asks comes first, then the body, which stays in memory.

FastAPI reads a body before anything else, and Starlette writes a file of more than 1 MB to the disk
in clear. Neither is right for photographs of faces: here nobody without a token makes us read
anything, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from veilface_client.recognition.desk import Desk
from veilface_client.recognition.enrolment import MAX_PHOTOGRAPHS
from veilface_client.roles import Actor
from veilface_client.service.gate import Gate
from veilface_client.service.guard import is_form
from veilface_client.service.work import Work

_MAX_FIELD = 2**14  # bytes of one that is no photograph
_MAX_FIELDS = 20
_BEARER = HTTPBearer(auto_error=False, description="a token of `POST /api/users`")


@dataclass(frozen=True, kw_only=True)
class Room:
    """What every request finds."""

    desk: Desk
    work: Work
    gate: Gate


@dataclass(frozen=True, kw_only=True)
class Asking:
    """A request whose sender is known."""

    actor: Actor
    desk: Desk
    work: Work
    gate: Gate


class KnownRoute(APIRoute):
    """A route for holders of a token alone."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def known(request: Request) -> Response:
            room: Room = request.app.state.room
            request.state.actor = await room.gate.admit(request)
            if not is_form(request.headers):
                return await answer(request)
            async with room.work.uploads:
                return await answer(_InMemory(request.scope, request.receive))

        return known


def _asking(
    request: Request,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],  # for the OpenAPI document
) -> Asking:
    room: Room = request.app.state.room
    return Asking(actor=request.state.actor, desk=room.desk, work=room.work, gate=room.gate)


def _desk(request: Request) -> Desk:
    room: Room = request.app.state.room
    return room.desk


Asked = Annotated[Asking, Depends(_asking)]
desk_of_request = Annotated[Desk, Depends(_desk)]


class _Parser(MultiPartParser):
    spool_max_size = 0  # never to the disk; `guard` limits the whole


class _InMemory(Request):
    """A request whose form stays in memory."""

    async def form(self, **_: object) -> FormData:  # type: ignore[override]  # FastAPI only awaits it
        """Return the form.

        Raises:
            HTTPException: it is no form, or has more or longer fields than any of ours.
        """
        parser = _Parser(
            self.headers,
            self.stream(),
            max_files=MAX_PHOTOGRAPHS + 1,  # one too many is refused by `recognition`, with a hint
            max_fields=_MAX_FIELDS,
            max_part_size=_MAX_FIELD,
        )
        try:
            return await parser.parse()
        except MultiPartException as error:
            raise HTTPException(400, error.message) from None
