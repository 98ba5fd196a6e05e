"""Who asks: bearer tokens, and how often a wrong one may be tried.

A token of 32 random bytes cannot be guessed. Wrong ones are slowed and counted so that nobody fills
the access log or keeps the service busy with them; one that is in force is let in whatever others
tried, or anybody could lock everybody out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request

from veilface_client.recognition.desk import Desk
from veilface_client.roles import Actor
from veilface_client.service.work import Work
from veilface_common.errors import AccessDenied

WRONG_PER_MINUTE = 10
DELAY_SECONDS = 0.5
MAX_TOKEN = 200
_MINUTE = 60.0


class Gate:
    """Lets holders of tokens in."""

    def __init__(self, desk: Desk, work: Work, clock: Callable[[], float] = time.monotonic) -> None:
        self._desk, self._work, self._clock = desk, work, clock
        self._wrong: deque[float] = deque()

    async def admit(self, request: Request) -> Actor:
        """Return who sends a request.

        Raises:
            HTTPException: 401 without a token in force, 429 after too many wrong ones.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unknown("expected a token, got none")
        return await self.holder(token.strip())

    async def holder(self, token: str) -> Actor:
        """Return who holds a token. Raises HTTPException as `admit` does."""
        now = self._clock()
        while self._wrong and self._wrong[0] <= now - _MINUTE:
            self._wrong.popleft()
        is_counted = len(self._wrong) < WRONG_PER_MINUTE
        known = self._desk.actor if is_counted else self._known_quietly
        try:
            return await self._work.other(known, token[:MAX_TOKEN])
        except AccessDenied as error:
            if not is_counted:
                wait = max(1, round(self._wrong[0] + _MINUTE - now))
                raise HTTPException(
                    429, "too many wrong tokens", {"Retry-After": str(wait)}
                ) from None
            self._wrong.append(now)
            await anyio.sleep(DELAY_SECONDS)
            raise _unknown(str(error)) from None

    def _known_quietly(self, token: str) -> Actor:
        """Return who holds a token; that nobody does is not written down: see the file's head."""
        return self._desk.users.actor(token, self._desk.clock())


def _unknown(text: str) -> HTTPException:
    return HTTPException(401, text, {"WWW-Authenticate": "Bearer"})
