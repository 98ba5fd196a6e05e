"""The public port: an exact list of paths, whole bodies, and nothing else of Flower."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.server.coordinator_parts import NOW, asks_to_join, made_home, new_node_key

from veilface_server.home import Home
from veilface_server.proxy import MAX_BODY_BYTES, MAX_UNSIGNED_BYTES, _Gate
from veilface_server.register import change, invited, joined, load_members

Headers = dict[str, str]
FLEET = "/v1/fleet/push-object"


class Port:
    """The proxy in process, in front of a SuperLink that says back what it got."""

    def __init__(self, home: Home) -> None:
        self.gate = _Gate(home, "127.0.0.1:1", lambda: NOW)
        self.reached: list[httpx.Request] = []
        self.away = False

        def answer(request: httpx.Request) -> httpx.Response:
            if self.away:
                raise httpx.ConnectError("refused", request=request)
            self.reached.append(request)
            return httpx.Response(
                207, headers={"x-flower": "1"}, stream=httpx.ByteStream(request.content[::-1])
            )

        async def answer_later(request: httpx.Request) -> httpx.Response:
            await request.aread()
            return answer(request)

        self.gate._client = httpx.AsyncClient(transport=httpx.MockTransport(answer_later))

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Headers | None = None
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        """Send one request as uvicorn hands it on, and return status, headers and body."""
        raw, _, query = path.encode().partition(b"?")
        given = {"content-length": str(len(body))} | (headers or {})
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": raw,
            "query_string": query,
            "headers": [(k.encode(), v.encode()) for k, v in given.items()],
        }  # fmt: skip
        pieces = [body[i : i + 1000] for i in range(0, len(body), 1000)] or [b""]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not pieces:
                await asyncio.sleep(60)
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.gate(scope, receive, send))
        content = b"".join(m.get("body", b"") for m in sent)
        return sent[0]["status"], dict(sent[0]["headers"]), content


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return a coordinator's folder."""
    return made_home(tmp_path / "federation")


@pytest.fixture
def port(home: Home) -> Port:
    """Return its public port."""
    return Port(home)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/responses",
        "/docs",
        "/openapi.json",
        "/health",
        "//v1/control/start-run",
        "/v1//fleet/get-run",
        "//v1/fleet/get-run",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "/v1/fleet/..%2fcontrol/start-run",
        "/v1/fleet/get-run/../../control/start-run",
        "/v1/%66leet/get-run",
        "/v1/fleet/get-run/",
        "/v1/fleet/get-run%00",
        "/v1/fleet/get-run;a=b",
        "/v1/fleet/get-run?x=1",
        "/V1/fleet/get-run",
        "/v1\\fleet\\get-run",
        "http://127.0.0.1/v1/control/start-run",
        "https://fed.example.org/v1/fleet/get-run",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/",
        "*",
        "",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_no_other_path_reaches_flower(port: Port, path: str, method: str) -> None:
    """Control and runtime by any spelling, and nodes that would register themselves."""
    assert port.ask(method, path)[0] == 404
    assert not port.reached


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE"])
def test_no_other_method_reaches_flower(port: Port, method: str) -> None:
    """Nodes POST."""
    assert port.ask(method, FLEET)[0] == 404
    assert not port.reached


def test_what_a_node_sends_goes_through_as_it_is(port: Port) -> None:
    """Body, headers and answer, byte for byte; the host and the connection are the proxy's own."""
    body = bytes(range(256)) * 20
    headers = {"flwr-public-key": "abc", "content-type": "application/protobuf", "te": "trailers"}
    status, answered, content = port.ask("POST", FLEET, body, headers)
    assert (status, content, answered[b"x-flower"]) == (207, body[::-1], b"1")
    (request,) = port.reached
    assert request.content == body
    assert str(request.url) == "https://127.0.0.1:1" + FLEET
    assert request.headers["flwr-public-key"] == "abc"
    assert request.headers["content-length"] == str(len(body))
    assert "te" not in request.headers
    assert "transfer-encoding" not in request.headers


def test_a_superlink_that_is_away_is_tried_again(port: Port) -> None:
    """503 is what Flower's nodes wait for; any other error would end them."""
    port.away = True
    assert port.ask("POST", FLEET)[0] == 503


def signed(key: ec.EllipticCurvePrivateKey, time: datetime = NOW) -> Headers:
    """Return the headers by which a node of Flower's shows itself."""
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    stamp = time.isoformat()
    mark = key.sign(stamp.encode(), ec.ECDSA(SHA256()))
    return {
        "flwr-public-key": base64.b64encode(public).decode(),
        "flwr-signature": base64.b64encode(mark).decode(),
        "flwr-timestamp": stamp,
    }


def test_large_bodies_are_taken_from_members_alone(home: Home, port: Port) -> None:
    """A stranger, one who waits, a forger, a replay of last week: refused before the body."""
    node = new_node_key()
    large = b"x" * (MAX_UNSIGNED_BYTES + 1)
    request = asks_to_join("ada", "token", node)
    change(home, "ada", lambda known: invited(known, "ada", "token", NOW + timedelta(1), NOW))
    change(home, "ada", lambda known: joined(known, request, NOW))
    assert port.ask("POST", FLEET, large, signed(node))[0] == 413
    change(home, "ada", lambda known: replace(known["ada"], status="member"))
    forged = signed(new_node_key()) | {"flwr-public-key": signed(node)["flwr-public-key"]}
    old = signed(node, NOW - timedelta(days=7))
    for headers in ({}, signed(new_node_key()), forged, old, {"flwr-timestamp": "now"}):
        assert port.ask("POST", FLEET, large, headers)[0] == 413
    assert not port.reached
    assert port.ask("POST", FLEET, large, signed(node))[0] == 207
    change(home, "ada", lambda known: replace(known["ada"], status="removed"))
    assert port.ask("POST", FLEET, large, signed(node))[0] == 413


def test_no_body_may_be_larger_than_a_message(port: Port) -> None:
    """Nor of a length that is not said."""
    for length in (str(MAX_BODY_BYTES + 1), "", "-1", "1e3", "٣"):
        assert port.ask("POST", FLEET, b"", {"content-length": length})[0] in (411, 413)
    assert port.ask("POST", FLEET, b"abc", {"transfer-encoding": "chunked"})[0] == 411
    assert not port.reached


def test_joining_through_the_port(home: Home, port: Port) -> None:
    """The answer is one word, and the register has the keys."""
    now = datetime.now(UTC)
    change(home, "ada", lambda known: invited(known, "ada", "token", now + timedelta(1), now))
    status, _, content = port.ask("POST", "/veilface/join", asks_to_join("ada", "token").encode())
    assert (status, json.loads(content)) == (200, {"status": "waiting"})
    assert load_members(home.folder)["ada"].status == "waiting"


def test_who_may_not_join_is_told_why(port: Port) -> None:
    """One line and a hint; never a traceback."""
    asked = asks_to_join("ada", "guess")
    for body, expected in (
        (asked.encode(), 403),
        (b"hello", 400),
        (replace(asked, organisation="bob").encode(), 400),
        (b"x" * 40_000, 413),
    ):
        status, _, content = port.ask("POST", "/veilface/join", body)
        assert status == expected
        assert "error" in json.loads(content)


def test_releases_are_served_by_their_names_alone(home: Home, port: Port) -> None:
    """Whole ones; no other file, by no other spelling."""
    assert port.ask("GET", "/veilface/releases/latest")[0] == 404
    for number, text in (("0002", b"two"), ("0010", b"ten")):
        folder = home.releases / number
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights of " + text)
        (folder / "manifest.json").write_bytes(text)
    unfinished = home.releases / "0011"
    unfinished.mkdir()
    (unfinished / "model.safetensors").write_bytes(b"half")
    assert port.ask("GET", "/veilface/releases/latest")[2] == b"ten"
    assert port.ask("GET", "/veilface/releases/0002/manifest.json")[2] == b"two"
    assert port.ask("GET", "/veilface/releases/0002/model.safetensors")[2] == b"weights of two"
    (home.releases / "0002" / "secret").write_bytes(b"x")
    (home.releases / "0003").mkdir()
    (home.releases / "0003" / "manifest.json").symlink_to(home.server_key)
    for path in (
        "0011/model.safetensors",
        "0002/secret",
        "0003/manifest.json",
        "0002/../../server.key",
        "..%2f..%2fserver.key",
        "../server.key",
        "0002/",
        "",
        "latest/",
    ):
        assert port.ask("GET", f"/veilface/releases/{path}")[0] == 404, path
