"""Errors as answers: our tree of exceptions -> a status and {"error", "hint"}, one line each.

What damaged files or our own mistakes raise is told to whoever runs the service, not to whoever
asked: an answer never holds a path, a traceback or a value that somebody sent.
"""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from veilface_client.limits import LimitReached
from veilface_client.recognition.answers import UnknownPerson
from veilface_common.command import one_line
from veilface_common.errors import (
    AccessDenied,
    ConfigError,
    DataError,
    VeilfaceError,
    WrongKey,
)

LOGGER = logging.getLogger("veilface.service")
_INTERNAL = "the service could not do this"
_INTERNAL_HINT = "whoever runs it sees why; veilface vault check says whether anything is damaged"
_STATUS: tuple[tuple[type[VeilfaceError], int], ...] = (  # the first that fits
    (LimitReached, 429),
    (AccessDenied, 403),
    (UnknownPerson, 404),
    (WrongKey, 422),  # the vault is open, so it is a person's card that does not fit
    (ConfigError, 422),
    (DataError, 422),
)
_SAID = {404: "expected something that is here, got another address", 405: "not by this method"}


class Problem(BaseModel):
    """Why something was not done."""

    error: str
    hint: str | None = None


ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "the body is not what its header says"},
    401: {"model": Problem, "description": "no token, or one that is not in force"},
    403: {"model": Problem, "description": "the role may not, or a second person is missing"},
    404: {"model": Problem, "description": "nobody, or nothing, of that name"},
    408: {"model": Problem, "description": "the body came too slowly"},
    413: {"model": Problem, "description": "the body is larger than the limit"},
    422: {"model": Problem, "description": "a value or a photograph cannot be used"},
    429: {"model": Problem, "description": "too often; Retry-After says when again"},
    500: {"model": Problem, "description": "the service itself has a trouble"},
}


def problem(
    status: int, error: str, hint: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return an error as an answer."""
    content = {"error": one_line(error), "hint": one_line(hint) if hint else None}
    return JSONResponse(content, status, headers)


def internal(error: Exception) -> JSONResponse:
    """Return what is said of a trouble inside; whoever runs the service reads more.

    Of errors that are not ours only the place is written down: their texts may quote a photograph's
    or a person's bytes.
    """
    if isinstance(error, VeilfaceError):
        LOGGER.error("%s: %s", type(error).__name__, one_line(str(error)))
    else:
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
        LOGGER.error("%s at %s", type(error).__name__, place)
    return problem(500, _INTERNAL, _INTERNAL_HINT)


def add_handlers(app: FastAPI) -> None:
    """Let the application answer errors as this file says."""
    app.add_exception_handler(VeilfaceError, _ours)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, VeilfaceError)
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return problem(status, str(error), error.hint, _retry(error))
    return internal(error)


def _retry(error: VeilfaceError) -> dict[str, str] | None:
    if not isinstance(error, LimitReached):
        return None
    return {"Retry-After": str(max(1, math.ceil(error.wait.total_seconds())))}


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    said = _SAID.get(error.status_code, str(error.detail))
    return problem(error.status_code, said, headers=error.headers)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    # Pydantic's sentence names what was expected; what was sent is in another field.
    return problem(422, f"expected another value of {where[:80]}: {first['msg']}")
