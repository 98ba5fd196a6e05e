"""What holds for every request: how large and slow a body may be, and what headers say.

The rules, in the order in which they run:

1. A body whose header promises more than it may hold is refused before any of it is read:
   `MAX_BODY` for a form with photographs, `MAX_TEXT` for everything else.
2. A body that turns out larger, or is not there after `BODY_SECONDS`, is refused while it comes.
3. Whatever was raised is answered by `problems`; nothing of it reaches the client or a traceback.
4. Every answer carries the headers below; what the API says is kept by nobody.

There are no cookies: a token travels in a header that no other site can make a browser send, so
that forged requests (CSRF) have nothing to ride on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from veilface_client.images import MAX_BYTES
from veilface_client.service.problems import internal, problem

MAX_BODY = MAX_BYTES + 2**16  # one photograph of the largest kind, or many smaller, and their form
MAX_TEXT = 2**16
BODY_SECONDS = 60.0

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' blob:",  # photographs that were just taken
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",  # forms are sent by script; without it, to nobody
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # nothing that came in becomes markup
        "trusted-types 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
}
_HSTS = "max-age=31536000"


class Guard:
    """Stands around the application."""

    def __init__(self, app: ASGIApp, *, hsts: bool) -> None:
        self._app = app
        self._headers = dict(HEADERS) | ({"Strict-Transport-Security": _HSTS} if hsts else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        kept = "no-cache" if _is_page(scope["path"]) else "no-store"

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                headers["Cache-Control"] = kept
            await send(message)

        headers = Headers(scope=scope)
        most = MAX_BODY if is_form(headers) else MAX_TEXT
        if _promised(headers) > most:
            await problem(413, _too_large(most))(scope, receive, sending)
            return
        try:
            await self._app(scope, _limited(receive, most), sending)
        except Exception as error:  # noqa: BLE001 -- the last line: no traceback leaves, see above
            answer = internal(error)
            if not started:
                await answer(scope, receive, sending)


def _is_page(path: str) -> bool:
    return not path.startswith("/api/")


def is_form(headers: Headers) -> bool:
    """Return whether a request is a form that may hold photographs."""
    kind = headers.get("content-type", "").partition(";")[0]
    return kind.strip().lower() == "multipart/form-data"


def _promised(headers: Headers) -> int:
    text = headers.get("content-length", "")
    return int(text[:20]) if text.isdecimal() else 0


def _limited(receive: Receive, most: int) -> Receive:
    """Return a `receive` that gives up on a body that is too large or too slow."""
    size, is_whole = 0, False
    end = asyncio.get_running_loop().time() + BODY_SECONDS

    async def receiving() -> Message:
        nonlocal size, is_whole
        if is_whole:
            return await receive()  # waits for the client to go away
        try:
            async with asyncio.timeout_at(end):
                message = await receive()
        except TimeoutError:
            raise HTTPException(
                408, f"expected the whole body within {BODY_SECONDS:g} seconds"
            ) from None
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if size > most:
                raise HTTPException(413, _too_large(most))
        return message

    return receiving


def _too_large(most: int) -> str:
    return f"expected a body of at most {most} bytes, got more"
