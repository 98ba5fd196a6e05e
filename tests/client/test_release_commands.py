"""`veilface model`: fetched over TLS from a coordinator, shown, told of as a card."""

from __future__ import annotations

import html
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.client.command_parts import Veilface, runner
from tests.client.recognition.desks import model_folder
from tests.client.release_parts import KEY, edit, write_release

from veilface_client.home_layout import training_folder
from veilface_client.identity import trust_coordinator
from veilface_client.service.certificate import made_certificate


class Coordinator:
    """Releases behind TLS, as the contract has them; `asked` are the paths that were wanted."""

    def __init__(self, folder: Path) -> None:
        self.releases = folder / "releases"
        self.releases.mkdir(parents=True)
        self.certificate = made_certificate(folder, "127.0.0.1", datetime.now(UTC))
        self.asked: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate.path, self.certificate.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.removeprefix("/veilface/releases/")
                outer.asked.append(name)
                newest = max((path.name for path in outer.releases.iterdir()), default="none")
                name = f"{newest}/manifest.json" if name == "latest" else name
                path = outer.releases / name
                self.send_response(200 if path.is_file() else 404)
                self.end_headers()
                self.wfile.write(path.read_bytes() if path.is_file() else b"none")

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    found = Coordinator(tmp_path / "coordinator")
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def veilface(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    coordinator: Coordinator,
) -> Veilface:
    """Return a function that runs a command of an organisation that has joined, without a model."""
    home, run = tmp_path / "shop", runner(tmp_path, monkeypatch, capsys)
    code, told, _ = run("init", "--name", "shop", "--detector", "centre")
    assert (code, "no model yet" in told) == (0, True)
    trust_coordinator(training_folder(home), "valley", KEY.public)
    federation = {"name": "valley", "organisation": "shop", "address": coordinator.address}
    body = json.dumps(federation | {"coordinator": KEY.public.pem.decode()})
    (home / "federation.json").write_text(body)
    (home / "node").mkdir()
    (home / "node" / "ca.crt").write_bytes(coordinator.certificate.path.read_bytes())
    return run


def test_a_session(veilface: Veilface, coordinator: Coordinator) -> None:
    """Nothing yet, verify, accept, show; the second time there is nothing newer."""
    code, _, told = veilface("model", "show")
    assert (code, "no model is accepted yet (hint: veilface model accept)" in told) == (2, True)
    code, _, told = veilface("model", "accept")
    assert (code, "got none (hint: the coordinator makes one" in told) == (6, True)
    write_release(coordinator.releases / "0001", 1)
    code, told, _ = veilface("model", "verify")
    assert (code, told.startswith("release 1 could be accepted")) == (0, True)
    code, told, _ = veilface("model", "accept", "--json")
    assert (code, told["release"], told["come_again"]) == (0, 1, [])
    code, told, _ = veilface("model", "show", "--json")
    assert (told["signed_by"], told["manifest"]["sequence"]) == (KEY.public.fingerprint, 1)
    code, _, told = veilface("model", "accept")
    assert (code, "(hint: it is the newest)" in told) == (4, True)
    write_release(coordinator.releases / "0002", 2)
    assert "release 2 is in use" in veilface("model", "accept")[1]
    older = str(coordinator.releases / "0001")
    assert veilface("model", "accept", older)[0] == veilface("model", "verify", older)[0] == 4


def test_the_card(veilface: Veilface, coordinator: Coordinator, tmp_path: Path) -> None:
    """Who, what for, what not for, how well, at which epsilon; the page says the same, escaped."""
    write_release(coordinator.releases / "0001", 1)
    veilface("model", "accept")
    page = tmp_path / "card.html"
    code, text, _ = veilface("model", "card", "--out", str(page))
    assert code == 0
    shown = page.read_text()
    for told in (
        *("valley, release 1", f"Signed by coordinator {KEY.public.fingerprint}", "Not intended"),
        *("Equal error rate: 12.3% (10.0% to 15.0%)", "1.26", "7, abababababababab", "no bound"),
        *("members only", "weights drawn at random", "for each person", "delta 1e-05"),
        "north <clinic>",
    ):
        assert told in text, told
        assert html.escape(told.split(": ")[-1]) in shown, told
    assert "<clinic>" not in shown


def test_a_card_with_robustness(
    veilface: Veilface, coordinator: Coordinator, tmp_path: Path
) -> None:
    """A row of each perturbation, shaded by what is kept, and where the threshold fails."""
    write_release(coordinator.releases / "0001", 1, robustness=True)
    veilface("model", "accept")
    shown = veilface("model", "show")[1]
    assert "\nrobustness: right people accepted: 80.0% clean, 57.5% perturbed" in shown
    assert veilface("model", "show", "--json")[1]["manifest"]["robustness"]["people"] == 120
    page = tmp_path / "card.html"
    text = veilface("model", "card", "--out", str(page))[1]
    rows = [line.split() for line in text.splitlines() if line.startswith(("darkness", "mask"))]
    assert rows == [
        ["darkness", "80%", "70%", "60%", "50%", "40%", "30%", "5.0%"],
        ["mask", "<cloth>", "80%", "75%", "70%", "65%", "60%", "55%", "5.0%"],
    ]
    assert "under darkness, level 5, 5.0% of strangers are accepted" in text.replace("\n  ", " ")
    html_text = page.read_text()
    assert '<td class="shade" style="--part: 44%">70%</td>' in html_text
    assert "mask &lt;cloth&gt;" in html_text
    assert "<cloth>" not in html_text


def test_without_a_measurement_the_card_says_so(veilface: Veilface, tmp_path: Path) -> None:
    """What the manifest does not say is not guessed."""
    folder = str(write_release(tmp_path / "1", 1))
    assert "not measured, or not told" in veilface("model", "card", folder)[1]
    assert "\nrobustness: not measured" in veilface("model", "show", folder)[1]


def test_a_card_of_nobody_s_word(veilface: Veilface, tmp_path: Path) -> None:
    """A model that nobody signs, and a release that was edited, are told of as such."""
    own = model_folder(tmp_path / "own")
    assert "nobody signs" in veilface("model", "card", str(own))[1]
    edited = write_release(tmp_path / "9", 9)
    edit(edited, delta=1e-9)
    assert "believe none of this" in veilface("model", "card", str(edited))[1]
    assert veilface("model", "show", str(edited), "--json")[1]["signed_by"] is None


def test_an_altered_manifest_costs_no_download(
    veilface: Veilface, coordinator: Coordinator
) -> None:
    """The weights of a release that cannot be believed are not asked for; it is written down."""
    edit(write_release(coordinator.releases / "0001", 1), size=1 << 40)
    assert veilface("model", "accept")[0] == 4
    assert coordinator.asked == ["latest"]
    entries = [json.loads(line) for line in veilface("log")[1].splitlines()]
    assert (entries[-1]["kind"], entries[-1]["reason"]) == ("refused", "model")


def test_weights_that_do_not_end_are_cut_off(veilface: Veilface, coordinator: Coordinator) -> None:
    """No more is read than the manifest names."""
    folder = write_release(coordinator.releases / "0001", 1)
    with (folder / "model.safetensors").open("ab") as handle:
        handle.write(bytes(1 << 20))
    code, _, told = veilface("model", "accept")
    assert (code, "at most" in told) == (4, True)


def test_another_authority_is_not_asked(
    veilface: Veilface, coordinator: Coordinator, tmp_path: Path
) -> None:
    """Whoever stands in between is not heard."""
    (tmp_path / "other").mkdir()
    other = made_certificate(tmp_path / "other", "127.0.0.1", datetime.now(UTC))
    (tmp_path / "shop" / "node" / "ca.crt").write_bytes(other.path.read_bytes())
    write_release(coordinator.releases / "0001", 1)
    code, _, told = veilface("model", "accept")
    assert (code, "vouch" in told) == (6, True)
    assert coordinator.asked == []
