"""Every route against every role: the permission table holds at this door too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.client.service.parts import STAFF, AnyDesk, Header, ask, bearer, enrol, service

from veilface_client.recognition.upkeep import add_user
from veilface_client.roles import PERMISSIONS, TERMINAL

House = tuple[TestClient, dict[str, Header], AnyDesk]
Send = Callable[[TestClient, Header], int]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with service(tmp_path_factory.mktemp("service") / "shop") as found:
        client, tokens, _ = found
        assert enrol(client, tokens["enroller"], "Anna Berg", b"anna/1").status_code == 201
        yield found


def _get(path: str) -> Send:
    return lambda client, header: client.get(path, headers=header).status_code


def _asked(what: str, **fields: str) -> Send:
    return lambda client, header: ask(client, header, what, b"anna/2", **fields).status_code


def _json(method: str, path: str, **body: object) -> Send:
    return lambda client, header: (
        client.request(method, path, headers=header, json=body).status_code
    )


def _photos(client: TestClient, header: Header) -> int:
    files = [("photos", ("a.jpg", b"anna/3", "image/jpeg"))]
    return client.post("/api/people/Anna%20Berg/photos", headers=header, files=files).status_code


# name: (what is sent, the acts of which one is enough, the status where it may be done)
ROUTES: dict[str, tuple[Send, tuple[str, ...], int]] = {
    "verify": (_asked("verify", person="Anna Berg"), ("verify",), 200),
    "identify": (_asked("identify"), ("identify",), 200),
    "explain": (_asked("explain", person="Anna Berg"), ("explain",), 200),
    "enrol": (lambda c, h: enrol(c, h, "Anna Berg", b"anna/4").status_code, ("enrol",), 422),
    "add photos": (_photos, ("enrol",), 200),
    "people": (_get("/api/people"), ("people",), 200),
    "consent": (_json("PUT", "/api/people/Anna Berg/consent", consent="v2"), ("consent",), 200),
    "export": (_get("/api/people/Anna Berg/export"), ("export-person",), 200),
    "forget": (_json("DELETE", "/api/people/Nobody"), ("forget",), 404),
    "expire": (_json("POST", "/api/expire"), ("expire",), 200),
    "users": (_get("/api/users"), ("users",), 200),
    "add user": (
        _json("POST", "/api/users", name="operator", role="operator"), ("users",), 422,
    ),
    "remove user": (_json("DELETE", "/api/users/nobody"), ("users",), 404),
    "log": (_get("/api/log"), ("log",), 200),
    "log lines": (_get("/api/log?format=jsonl"), ("log",), 200),
    "counts": (_get("/api/log/counts"), ("log",), 200),
    "receipts": (_get("/api/receipts"), ("forget", "log"), 200),
    "budget": (_get("/api/budget"), ("budget",), 200),
    "check": (_get("/api/check"), ("check",), 200),
    "metrics": (_get("/api/metrics"), ("metrics",), 200),
    "calibrate": (
        _json("POST", "/api/calibrate", question="verify", rate=0.001), ("calibrate",), 422,
    ),
    "me": (_get("/api/me"), (), 200),
    "consent text": (_get("/api/consent"), (), 200),
}  # fmt: skip


@pytest.mark.parametrize("role", STAFF)
@pytest.mark.parametrize("route", ROUTES)
def test_the_table_holds(house: House, route: str, role: str) -> None:
    """Whoever has one of a route's acts gets past the door, everybody else 403."""
    client, tokens, _ = house
    send, acts, allowed = ROUTES[route]
    may = not acts or any(act in PERMISSIONS[role] for act in acts)  # type: ignore[index]
    assert send(client, tokens[role]) == (allowed if may else 403)


@pytest.mark.parametrize("route", ROUTES)
def test_nobody_comes_in_without_a_token(house: House, route: str) -> None:
    """No route answers somebody unknown, and each says how to become known."""
    assert ROUTES[route][0](house[0], {}) == 401


def test_every_route_of_the_document_is_in_the_table(house: House) -> None:
    """A route that is added without a test here is found."""
    paths = house[0].get("/openapi.json").json()["paths"]
    count = sum(len(methods) for path, methods in paths.items() if path.startswith("/api/"))
    assert count == len(ROUTES) - 1  # the log is asked for in two forms


def test_scopes_narrow_a_role(house: House) -> None:
    """An operator whose token is for verify alone may not identify."""
    client, _, desk = house
    header = bearer(add_user(desk, TERMINAL, "gate", "operator", days=1, scopes=("verify",)))
    assert client.get("/api/me", headers=header).json()["acts"] == ["verify"]
    assert ROUTES["verify"][0](client, header) == 200
    assert ROUTES["identify"][0](client, header) == 403


def test_a_refusal_is_written_down(house: House) -> None:
    """The log says who tried what."""
    client, tokens, desk = house
    before = desk.log.head.sequence
    assert client.get("/api/users", headers=tokens["operator"]).status_code == 403
    [entry] = desk.log.entries(before)
    assert (entry.kind, entry.content["actor"], entry.content["details"]) == (
        "refused", "operator", {"act": "users"},
    )  # fmt: skip


def test_an_ended_token_is_nobodys(tmp_path: Path) -> None:
    """A token that ran out, or whose account ended, opens nothing."""
    with service(tmp_path / "shop") as (client, tokens, desk):
        path = "/api/users/auditor"
        assert client.delete(path, headers=tokens["administrator"]).status_code == 204
        assert client.get("/api/me", headers=tokens["auditor"]).status_code == 401
        desk.clock.pass_days(91)  # type: ignore[attr-defined]
        assert client.get("/api/me", headers=tokens["operator"]).status_code == 401
