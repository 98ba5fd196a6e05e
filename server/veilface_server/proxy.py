"""The one port that the world reaches: what nodes need of Flower, joining, and releases. No more.

    POST /v1/fleet/NAME                         to Flower's SuperLink on the loopback, as it is
    POST /veilface/join                         an organisation answers its invitation
    GET  /veilface/releases/latest              the newest manifest
    GET  /veilface/releases/NNNN/FILE           manifest.json, model.safetensors
    GET  /veilface/health                       "ok"

Flower's SuperLink answers whoever reaches its port: registering nodes and starting runs (which run
code at every organisation) needs no login. So it listens on the loopback alone, and this proxy
lets through by an exact list of raw paths: no prefix, nothing decoded, nothing normalised, so that
there is no second spelling of a path. What remains: every user of the coordinator's own machine
reaches the loopback. Give the coordinator a machine, a container or a network namespace of its own.

Flower reads a whole body before it looks at the signature; so what is larger than any greeting must
carry the signature of a member's node, which is checked here first.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.types import Receive, Scope, Send

from veilface_common.errors import AccessDenied, ArtifactError, VeilfaceError
from veilface_common.invitation import MAX_BYTES, parse_join, parse_node_key
from veilface_server.home import Home
from veilface_server.register import MEMBERS, Member, change, joined, load_members

MAX_BODY_BYTES = 1181116006  # 1.1 GiB: the largest message, and what Flower wraps it in
MAX_UNSIGNED_BYTES = 1 << 16  # what a node sends before anybody knows it
_PIECE_SECONDS = 60.0  # without a byte, after which a sender is given up
_TIMESTAMP_SECONDS = 310.0  # Flower's own
_FLEET = re.compile(
    rb"/v1/fleet/(?:activate-node|deactivate-node|send-node-heartbeat|pull-messages|push-messages|"
    rb"get-run|get-fab|push-object|pull-object|confirm-message-received)"
)
_RELEASE = re.compile(rb"/veilface/releases/([0-9]{4,8})/(manifest\.json|model\.safetensors)")
_HOP_BY_HOP = {
    b"connection", b"host", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect",
}  # fmt: skip
Clock = Callable[[], datetime]


def build_proxy(home: Home, link: str, clock: Clock = lambda: datetime.now(UTC)) -> Starlette:
    """Return the application.

    Args:
        home: the coordinator's folder.
        link: HOST:PORT of the SuperLink.
        clock: the time now, in UTC.
    """
    gate = _Gate(home, link, clock)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with gate.opened():
            yield

    app = Starlette(lifespan=lifespan)
    app.router.default = gate
    return app


class _TooLarge(Exception):  # noqa: N818 -- named for what happened
    """A body that is longer than it may be."""


class _Gate:
    """Decides on the raw path what a request is."""

    def __init__(self, home: Home, link: str, clock: Clock) -> None:
        self._home = home
        self._link = f"https://{link}"
        self._clock = clock
        self._client: httpx.AsyncClient | None = None
        self._register = _KnownNodes(home)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold connections to the SuperLink, whose certificate must be the federation's own."""
        trust = ssl.create_default_context(cafile=self._home.authority)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        timeout = httpx.Timeout(_PIECE_SECONDS, connect=5.0)
        async with httpx.AsyncClient(
            verify=trust, limits=limits, timeout=timeout, trust_env=False
        ) as client:
            self._client = client
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        response = await self._answer(request, bytes(scope["raw_path"]), scope["query_string"])
        await response(scope, receive, send)

    async def _answer(self, request: Request, path: bytes, query: bytes) -> Response:
        if query:
            return _refusal(404, "nothing is here")
        if request.method == "POST" and _FLEET.fullmatch(path):
            return await self._forwarded(request, path)
        if request.method == "POST" and path == b"/veilface/join":
            return await self._joined(request)
        if request.method == "GET":
            return self._file(path)
        return _refusal(404, "nothing is here")

    def _file(self, path: bytes) -> Response:
        if path == b"/veilface/health":
            return PlainTextResponse("ok")
        found: Path | None = None
        if path == b"/veilface/releases/latest":
            found = latest_release(self._home)
        elif (named := _RELEASE.fullmatch(path)) is not None:
            found = self._home.releases / named[1].decode() / named[2].decode()
            complete = (found.parent / "manifest.json").is_file()
            found = found if complete else None  # a manifest is written last
        if found is None or found.is_symlink() or not found.is_file():
            return _refusal(404, "nothing is here")
        media = "application/json" if found.suffix == ".json" else "application/octet-stream"
        return FileResponse(found, media_type=media)

    async def _joined(self, request: Request) -> Response:
        try:
            content = b"".join([piece async for piece in _pieces(request, MAX_BYTES)])
            asked = parse_join(content)
            now = self._clock()
            member = await asyncio.to_thread(
                change, self._home, asked.organisation, lambda known: joined(known, asked, now)
            )
        except _TooLarge:
            return _refusal(413, f"expected at most {MAX_BYTES} bytes")
        except AccessDenied as error:
            return _refusal(403, str(error), error.hint)
        except VeilfaceError as error:
            return _refusal(400, str(error), error.hint)
        except (ClientDisconnect, TimeoutError):
            return _refusal(408, "expected the whole request")
        return JSONResponse({"status": member.status})

    async def _forwarded(self, request: Request, path: bytes) -> Response:
        assert self._client is not None
        length = request.headers.get("content-length", "")
        # With both, the body that comes is not of the length that is looked at here.
        is_chunked = "transfer-encoding" in request.headers
        if is_chunked or not length.isascii() or not length.isdigit():
            return _refusal(411, "expected the length of the body")
        if int(length) > MAX_BODY_BYTES:
            return _refusal(413, f"expected at most {MAX_BODY_BYTES} bytes")
        if int(length) > MAX_UNSIGNED_BYTES and not self._is_signed(request):
            return _refusal(413, "expected the signature of a member's node on so large a message")
        headers = [(k, v) for k, v in request.headers.raw if k not in _HOP_BY_HOP]
        asked = self._client.build_request(
            "POST",
            self._link + path.decode("ascii"),
            headers=headers,
            content=_pieces(request, MAX_BODY_BYTES),
        )
        try:
            answer = await self._client.send(asked, stream=True)
        except (httpx.TransportError, ClientDisconnect, TimeoutError, _TooLarge):
            # A node tries again on 503, as it does when nobody listens.
            return _refusal(503, "Flower's SuperLink does not answer yet")
        kept = [(k, v) for k, v in answer.headers.raw if k.lower() not in _HOP_BY_HOP]
        response = StreamingResponse(_returned(answer), status_code=answer.status_code)
        response.raw_headers = [(k.lower(), v) for k, v in kept]
        return response

    def _is_signed(self, request: Request) -> bool:
        """Whether a member's node signed the time of this request, as Flower's nodes do."""
        names = ("flwr-public-key", "flwr-signature", "flwr-timestamp")
        key, signature, timestamp = (request.headers.get(name, "") for name in names)
        try:
            known = self._register.key(base64.b64decode(key, validate=True))
            age = (self._clock() - datetime.fromisoformat(timestamp)).total_seconds()
            if known is None or abs(age) > _TIMESTAMP_SECONDS:
                return False
            mark = base64.b64decode(signature, validate=True)
            known.verify(mark, timestamp.encode("ascii"), ec.ECDSA(SHA256()))
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


class _KnownNodes:
    """The keys of members' nodes, read again when the register changes."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._read = 0
        self._keys: dict[bytes, ec.EllipticCurvePublicKey] = {}

    def key(self, pem: bytes) -> ec.EllipticCurvePublicKey | None:
        """Return the member's key that is written so, if there is one."""
        try:
            changed = (self._home.folder / MEMBERS).stat().st_mtime_ns
            if changed != self._read:
                found = load_members(self._home.folder).values()
                self._keys = dict(_node_key(m) for m in found if m.status == "member")
                self._read = changed
        except (OSError, ArtifactError):
            return None
        return self._keys.get(pem)


def latest_release(home: Home) -> Path | None:
    """Return the manifest of the newest release, if there is one."""
    found = sorted(
        path
        for path in home.releases.glob("*/manifest.json")
        if re.fullmatch(r"[0-9]{4,8}", path.parent.name)
    )
    return max(found, key=lambda path: int(path.parent.name), default=None)


def _node_key(member: Member) -> tuple[bytes, ec.EllipticCurvePublicKey]:
    key = parse_node_key(member.node_key)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), key


async def _pieces(request: Request, most: int) -> AsyncIterator[bytes]:
    """Give the body piece by piece; a sender that falls silent is given up.

    Raises:
        _TooLarge: it is longer than it may be.
        TimeoutError: nothing came for a minute.
    """
    stream = request.stream()
    count = 0
    while True:
        try:
            piece = await asyncio.wait_for(anext(stream), _PIECE_SECONDS)
        except StopAsyncIteration:
            return
        count += len(piece)
        if count > most:
            raise _TooLarge
        yield piece


async def _returned(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()


def _refusal(status: int, error: str, hint: str | None = None) -> Response:
    body = {"error": error} | ({"hint": hint} if hint else {})
    return JSONResponse(body, status_code=status)
