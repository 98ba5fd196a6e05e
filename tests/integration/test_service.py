"""The service as a real process: TLS, a stop that loses nothing, and nothing said too much."""

from __future__ import annotations

import hashlib
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
from tests.client.recognition.desks import provider
from tests.client.service.parts import as_jpeg, bearer, drawn_photo, picture_home
from tests.integration.serving import Serving, serving

from veilface_client.recognition.desk import Desk
from veilface_client.recognition.upkeep import add_user
from veilface_client.roles import TERMINAL
from veilface_client.service import run_service
from veilface_common.errors import ConfigError

NAME = "Anna Berg/a%2Fb"
House = tuple[Serving, dict[str, dict[str, str]], Path]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    folder = tmp_path / "home"
    picture_home(folder)
    with Desk(folder, provider()) as desk:
        roles = ("operator", "enroller", "privacy-officer")
        tokens = {role: bearer(add_user(desk, TERMINAL, role, role, days=1)) for role in roles}
    with serving(folder) as found:
        yield found, tokens, folder


def client_of(running: Serving) -> httpx.Client:
    return httpx.Client(base_url=running.address, verify=running.trusting(), timeout=60)


def enrol(client: httpx.Client, header: dict[str, str]) -> httpx.Response:
    files = [("photos", ("a.jpg", as_jpeg(drawn_photo(0)), "image/jpeg"))]
    data = {"person": NAME, "consent": "v1"}
    return client.post("/api/people", headers=header, data=data, files=files)


def test_a_session_over_tls_of_which_nothing_is_said(house: House) -> None:
    """The certificate is the one whose fingerprint is shown; a name is any name; and whatever comes
    in, neither a name nor a token nor a traceback comes out."""
    running, tokens, folder = house
    address = urlsplit(running.address)
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((address.hostname, address.port)))
    assert hashlib.sha256(der).hexdigest() == running.fingerprint.replace(":", "").lower()
    with client_of(running) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert "<title>Veilface</title>" in client.get("/").text
        assert enrol(client, tokens["enroller"]).status_code == 201
        files = {"photo": ("a.jpg", as_jpeg(drawn_photo(0)), "image/jpeg")}
        answer = client.post(
            "/api/verify", headers=tokens["operator"], data={"person": NAME}, files=files
        )
        assert answer.json()["match"] is True
        path = f"/api/people/{quote(NAME, safe='')}"
        receipt = client.delete(path, headers=tokens["privacy-officer"])
        assert receipt.json()["reason"] == "forgotten"
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.address)  # a client that does not know the certificate
    with pytest.raises(httpx.HTTPError):
        httpx.get(running.address.replace("https", "http"))
    with client_of(running) as client:
        client.get("/api/me", headers=bearer("veilface_00000000_Anna"))
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01Anna", b"\0" * 100):
        with socket.create_connection((address.hostname, address.port)) as raw:
            raw.sendall(sent)
    with socket.create_connection((address.hostname, address.port)) as raw:
        context = running.trusting()
        with context.wrap_socket(raw, server_hostname="localhost") as tls:
            tls.sendall(b"Anna Berg\r\n\r\n")
            tls.recv(100)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0
    time.sleep(0.2)
    said = "".join(running.said)
    assert "Anna" not in said
    assert "Traceback" not in said
    assert (folder / "service.key").stat().st_mode & 0o777 == 0o600


def test_sigterm_finishes_what_was_begun(house: House) -> None:
    """A request whose body is half here gets its answer; then the desk is closed in good order."""
    running, tokens, folder = house
    photo = as_jpeg(drawn_photo(0))

    def body() -> Iterator[bytes]:
        yield b'--line\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n'
        yield photo[:1000]
        time.sleep(1)  # the service has read this much
        running.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        yield photo[1000:] + b"\r\n--line--\r\n"

    with client_of(running) as client:
        assert enrol(client, tokens["enroller"]).status_code == 201
        headers = tokens["operator"] | {"Content-Type": "multipart/form-data; boundary=line"}
        answer = client.post("/api/identify", headers=headers, content=body())
    assert answer.json()["answer"] == NAME
    assert running.process.wait(60) == 0
    time.sleep(0.2)
    assert running.said[-1] == "closed\n"
    with Desk(folder, provider()) as desk:
        assert list(desk.names()) == [NAME]
        assert desk.vault.check(*(desk.log.newest_root() or ())) == []


def test_an_address_that_is_taken_is_told(tmp_path: Path) -> None:
    """Whoever starts a second service on a port reads why it does not start."""
    picture_home(tmp_path / "home")
    with Desk(tmp_path / "home", provider()) as desk, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (taken.getsockname()[1], 70_000):
            with pytest.raises(ConfigError, match=r"expected to listen|expected an address"):
                run_service(
                    desk, host="127.0.0.1", port=port, certificate=None, key=None, on_ready=print
                )
