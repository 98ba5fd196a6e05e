"""What holds for every request: sizes, time, headers, and forms that lie."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.client.service.parts import AnyDesk, Header, ask, enrol, service

from veilface_client.service import build_app, guard

House = tuple[TestClient, dict[str, Header], AnyDesk]
FORM = {"Content-Type": "multipart/form-data; boundary=line"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with service(tmp_path_factory.mktemp("guard") / "shop") as found:
        yield found


@pytest.mark.parametrize("path", ["/", "/app/main.js", "/api/me", "/api/nothing", "/openapi.json"])
def test_headers_of_every_answer(house: House, path: str) -> None:
    """Page, API and errors: nothing is framed, sniffed, run inline, or kept."""
    headers = house[0].get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=(self)" in headers["permissions-policy"]
    assert headers["cache-control"] == ("no-store" if path.startswith("/api") else "no-cache")
    assert "access-control-allow-origin" not in headers
    assert "set-cookie" not in headers
    assert "server" not in headers


def test_strict_transport_only_with_a_certificate_that_browsers_trust(house: House) -> None:
    """With one that was made here, it would lock people out when it is made anew."""
    name = "strict-transport-security"
    assert name not in house[0].get("/").headers
    with TestClient(build_app(house[2], hsts=True)) as client:
        assert client.get("/").headers[name].startswith("max-age=")


def test_every_file_of_the_page_is_there_and_names_no_other_host(house: House) -> None:
    """No script, style or font comes from elsewhere, and no file but these is given out."""
    root = Path(guard.__file__).parents[1] / "web"
    for path in root.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
            assert "https://" not in text
            assert house[0].get(f"/{path.relative_to(root)}").status_code == 200
    for path in ("/../service/app.py", "/%2e%2e/service/app.py", "/app", "/docs", "/.env"):
        assert house[0].get(path).status_code == 404


def test_a_promise_of_too_much_is_refused_before_it_is_read(house: House) -> None:
    """The header is enough."""
    client, tokens, _ = house
    for kind, most in ((FORM, guard.MAX_BODY), ({}, guard.MAX_TEXT)):
        headers = tokens["operator"] | kind | {"Content-Length": str(most + 1)}
        assert client.post("/api/identify", headers=headers, content=b"").status_code == 413


def test_a_body_without_end_is_cut_off(house: House) -> None:
    """A body of unknown length is refused once it is too large: the rest is never asked for."""
    head = b'--line\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n'
    sent = 0

    async def endless() -> dict[str, Any]:
        nonlocal sent
        body = bytes(2**20) if sent else head
        sent += len(body)
        return {"type": "http.request", "body": body, "more_body": True}

    assert posted(house, endless) == 413
    assert sent <= guard.MAX_BODY + 2**20


def test_nobody_unknown_makes_us_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token, a form is not parsed."""

    def parsed(*_: Any) -> None:
        raise AssertionError("a form of somebody unknown was read")

    monkeypatch.setattr("veilface_client.service.asking._Parser", parsed)
    assert ask(house[0], {}, "identify", b"anna").status_code == 401


def test_photographs_never_touch_the_disk(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A form of megabytes stays in memory."""

    def written(*_: Any, **__: Any) -> None:
        raise AssertionError("a photograph was written to a temporary file")

    monkeypatch.setattr(tempfile, "TemporaryFile", written)
    client, tokens, _ = house
    answer = ask(client, tokens["operator"], "identify", bytes(8 * 2**20))
    assert answer.status_code == 422


def test_a_slow_body_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends nothing for too long holds no place."""

    async def stuck() -> dict[str, Any]:
        await asyncio.sleep(60)
        raise AssertionError("waited for a body that does not come")

    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)
    assert posted(house, stuck) == 408


def posted(house: House, receive: Callable[[], Awaitable[dict[str, Any]]]) -> int:
    """Return the status of a form whose body comes from `receive`; a test client reads it ahead."""
    client, tokens, _ = house
    headers = {**tokens["operator"], **FORM}
    statuses = []

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "path": "/api/identify", "raw_path": b"/api/identify", "query_string": b"",
        "root_path": "", "scheme": "https", "server": ("localhost", 443), "client": None,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]
    return int(statuses[0])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"--line",
        b"--line\r\n\r\n",
        b"--line\r\nContent-Disposition: form-data\r\n\r\nx\r\n--line--\r\n",
        b'--line\r\nContent-Disposition: form-data; name="photo"\r\n\r\nno file\r\n--line--\r\n',
        b'--line\r\nContent-Disposition: form-data; name="person"\r\n\r\n' + b"x" * 2**15,
        b'--line\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n\r\n' * 40,
        b'--line\r\nContent-Disposition: form-data; name="\xff\xfe"\r\n\r\n\xff\r\n--line--\r\n',
    ],
)
def test_hostile_forms_are_refused(house: House, content: bytes) -> None:
    """Whatever a form is not, the answer is the sender's fault, in our words."""
    client, tokens, _ = house
    for path, role in (("identify", "operator"), ("people", "enroller")):
        answer = client.post(f"/api/{path}", headers=tokens[role] | FORM, content=content)
        assert answer.status_code in (400, 422)
        assert set(answer.json()) == {"error", "hint"}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    photo=st.binary(max_size=400),
    kind=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b""]),
)
def test_hostile_photographs_are_refused(house: House, photo: bytes, kind: bytes) -> None:
    """Bytes that are no photograph are told from a trouble of the service."""
    client, tokens, _ = house
    assert ask(client, tokens["operator"], "identify", kind + photo + b"\0").status_code == 422


def test_too_many_photographs(house: House) -> None:
    """Twenty-one are refused with a hint, more than any form of ours has are not read."""
    client, tokens, _ = house
    many = [f"many/{number}".encode() for number in range(30)]
    answer = enrol(client, tokens["enroller"], "Many", *many[:21])
    assert (answer.status_code, "20" in answer.json()["error"]) == (422, True)
    assert enrol(client, tokens["enroller"], "Many", *many).status_code == 400
