"""What the API answers: decisions and bands, never scores, paths or traces."""

from __future__ import annotations

import io
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.client.service.parts import AnyDesk, Header, ask, bearer, enrol, service

from veilface_client.limits import Limits
from veilface_client.recognition import leaving
from veilface_client.recognition.leaving import verify_receipt
from veilface_client.recognition.upkeep import add_user
from veilface_client.roles import TERMINAL
from veilface_client.service.gate import WRONG_PER_MINUTE

House = tuple[TestClient, dict[str, Header], AnyDesk]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with service(tmp_path / "shop") as found:
        yield found


def test_one_person_from_the_first_day_to_the_last(house: House) -> None:
    """Enrolled, verified, identified, exported, forgotten; the receipt is signed."""
    client, tokens, desk = house
    made = enrol(client, tokens["enroller"], "Anna Berg", b"anna/1", b"anna/2").json()
    assert (made["person"], made["photographs"], made["card"]) == ("Anna Berg", 2, None)
    answer = ask(client, tokens["operator"], "verify", b"anna/3", person="Anna Berg").json()
    assert set(answer) == {"match", "band", "reason", "detail", "warning"}
    assert (answer["match"], answer["band"]) == (True, "strong")
    other = ask(client, tokens["operator"], "verify", b"bert", person="Anna Berg").json()
    assert (other["match"], other["reason"]) == (False, "below the threshold")
    known = ask(client, tokens["operator"], "identify", b"anna/4").json()
    assert known["answer"] == "Anna Berg"
    assert ask(client, tokens["operator"], "identify", b"bert").json()["answer"] is None
    officer = tokens["privacy-officer"]
    kept = client.get("/api/people/Anna Berg/export", headers=officer).json()
    assert kept["record"]["consent_version"] == "en-0123456789ab"
    receipt = client.delete("/api/people/Anna Berg", headers=officer).json()
    assert verify_receipt(receipt, desk.signing_key.public).pseudonym == made["pseudonym"]
    assert client.get("/api/receipts", headers=officer).json() == {"receipts": [receipt]}
    assert ask(client, tokens["operator"], "identify", b"anna/4").json()["answer"] is None


def test_a_holder_is_verified_by_the_card_alone(house: House) -> None:
    """The card is told once; without it, or with another's, nothing opens, and that is no 500."""
    client, tokens, _ = house
    card = enrol(client, tokens["enroller"], "Ali", b"ali/1", mode="holder").json()["card"]
    operator = tokens["operator"]
    assert ask(client, operator, "verify", b"ali/2", person="Ali", card=card).json()["match"]
    for fields in ({}, {"card": card[::-1]}, {"card": "x"}):
        refused = ask(client, operator, "verify", b"ali/2", person="Ali", **fields)
        assert refused.status_code == 422
    assert ask(client, operator, "identify", b"ali/2").json()["answer"] is None


def test_a_picture_of_what_mattered(house: House) -> None:
    """`explain` gives a PNG."""
    client, tokens, _ = house
    enrol(client, tokens["enroller"], "Anna", b"anna/1")
    answer = ask(client, tokens["operator"], "explain", b"anna/2", person="Anna")
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (672, 336)


def test_names_with_slashes_and_other_scripts(house: House) -> None:
    """A name is a name, whatever an address would make of it."""
    client, tokens, _ = house
    for number, name in enumerate(("张伟", "O'Neill / Smith", "photos", "x?y#z")):
        assert enrol(client, tokens["enroller"], name, f"p{number}/1".encode()).status_code == 201
        quoted = "".join(f"%{byte:02X}" for byte in name.encode())
        officer = tokens["privacy-officer"]
        found = client.get(f"/api/people/{quoted}/export", headers=officer)
        assert found.json()["record"]["name"] == name
        assert client.delete(f"/api/people/{quoted}", headers=officer).status_code == 200


def test_two_enrolments_of_one_name_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them wins, the other is told, and everything is as it was written."""
    client, tokens, desk = house
    monkeypatch.setattr(desk.vault, "enrol", _late(desk.vault.enrol))

    def one(number: int) -> int:
        photo = f"somebody-{number}/1".encode()
        return int(enrol(client, tokens["enroller"], "Same Name", photo).status_code)

    with ThreadPoolExecutor(2) as pool:
        statuses = sorted(pool.map(one, range(2)))
    assert statuses == [201, 422]
    assert [person.record.name for person in desk.vault.people()] == ["Same Name"]
    assert desk.vault.check(*(desk.log.newest_root() or ())) == []


def test_many_enrolments_at_once(house: House) -> None:
    """Nobody is lost or doubled, in the vault or in memory."""
    client, tokens, desk = house
    with ThreadPoolExecutor(6) as pool:
        sent = [
            pool.submit(enrol, client, tokens["enroller"], f"P {n}", f"p{n}/1".encode())
            for n in range(12)
        ]
    assert {one.result().status_code for one in sent} == {201}
    assert sorted(desk.names()) == sorted(f"P {n}" for n in range(12))
    answers = [ask(client, tokens["operator"], "identify", f"p{n}/2".encode()) for n in range(12)]
    assert [answer.json()["answer"] for answer in answers] == [f"P {n}" for n in range(12)]


def test_the_log_does_not_confuse_who_did_what_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two enrollers at the same moment: each entry names the one who enrolled that person."""
    client, _, desk = house
    own = [bearer(add_user(desk, TERMINAL, f"e-{n}", "enroller", days=1)) for n in range(2)]
    monkeypatch.setattr(desk, "settle", _late(desk.settle))
    with ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(enrol, client, own[n], f"P {n}", f"p{n}/1".encode()) for n in range(2)]
    subjects = [one.result().json()["pseudonym"] for one in sent]
    by = {
        entry.content["subject"]: entry.content["actor"]
        for entry in desk.log.entries()
        if entry.kind == "enrolled"
    }
    assert [by[subject] for subject in subjects] == ["e-0", "e-1"]


def _late(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that begins late enough for others to come between."""

    def late(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.3)
        return function(*arguments, **named)

    return late


def test_limits_answer_429_and_say_when(tmp_path: Path) -> None:
    """Too many failures close the door for a while; Retry-After says for how long."""
    limits = Limits(failures_per_person_per_hour=3)
    with service(tmp_path / "shop", limits) as (client, tokens, _):
        enrol(client, tokens["enroller"], "Anna", b"anna/1")
        tries = [
            ask(client, tokens["operator"], "verify", b"bert", person="Anna") for _ in range(4)
        ]
        assert [one.status_code for one in tries] == [200, 200, 200, 429]
        assert tries[-1].headers["retry-after"] == "3600"
        assert "Anna" not in tries[-1].text


def test_wrong_tokens_are_written_down_slowed_and_then_only_counted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fill neither the log nor lock out those whose token is right."""
    client, tokens, desk = house
    monkeypatch.setattr("veilface_client.service.gate.DELAY_SECONDS", 0.0)
    before = desk.log.head.sequence
    wrong = bearer("veilface_00000000_nobody")
    statuses = [client.get("/api/me", headers=wrong).status_code for _ in range(15)]
    assert statuses == [401] * WRONG_PER_MINUTE + [429] * (15 - WRONG_PER_MINUTE)
    entries = list(desk.log.entries(before))
    assert [entry.kind for entry in entries] == ["user-failed"] * WRONG_PER_MINUTE
    assert {entry.content["actor"] for entry in entries} == {"nobody"}
    assert client.get("/api/me", headers=tokens["operator"]).status_code == 200


def test_loosening_a_threshold_takes_two_administrators(house: House) -> None:
    """One token is not enough, nor twice the same; a second administrator's is."""
    client, tokens, desk = house
    for number in range(20):
        enrol(client, tokens["enroller"], f"P {number}", f"p{number}/1".encode())
    asked = {"question": "verify", "rate": 0.2}
    admin = tokens["administrator"]
    own = admin["Authorization"].split()[1]
    auditor = tokens["auditor"]["Authorization"].split()[1]
    second = add_user(desk, TERMINAL, "second", "administrator", days=1)
    for extra, status in (({}, 403), ({"X-Second-Token": own}, 403),
                          ({"X-Second-Token": auditor}, 403), ({"X-Second-Token": "x"}, 401),
                          ({"X-Second-Token": second}, 200)):  # fmt: skip
        answer = client.post("/api/calibrate", headers=admin | extra, json=asked)
        assert answer.status_code == status
    assert "threshold" not in answer.json()  # the figure itself stays inside
    [entry] = [entry for entry in desk.log.entries() if entry.kind == "threshold-loosened"]
    assert entry.content["second"] == "second"


def test_the_log_in_pages_and_lines(house: House) -> None:
    """The newest page, the one after an entry, and all of it one a line: no name anywhere."""
    client, tokens, desk = house
    enrol(client, tokens["enroller"], "Anna Berg", b"anna/1")
    auditor = tokens["auditor"]
    newest = client.get("/api/log?limit=2", headers=auditor).json()
    assert newest["last"] == desk.log.head.sequence == newest["entries"][-1]["sequence"]
    first = client.get("/api/log?since=0&limit=3", headers=auditor).json()
    assert [entry["sequence"] for entry in first["entries"]] == [1, 2, 3]
    lines = client.get("/api/log?format=jsonl", headers=auditor)
    assert lines.headers["content-type"].startswith("application/jsonl")
    assert len(lines.text.splitlines()) == newest["last"]
    assert "Anna" not in lines.text


def test_consent_names_the_very_text(house: House) -> None:
    """Another text has another version, and the old one is kept."""
    client, tokens, desk = house
    shown = client.get("/api/consent", headers=tokens["enroller"]).json()
    assert set(shown) == {"en", "zh"}
    (desk.folder / "consent" / "en.txt").write_text("We at {organisation} ask you.")
    own = client.get("/api/consent", headers=tokens["enroller"]).json()["en"]
    assert own["text"] == "We at shop ask you."
    assert own["version"] != shown["en"]["version"]
    for text in (shown["en"], own):
        assert (desk.folder / "consent" / f"{text['version']}.txt").read_text() == text["text"]


def test_a_damaged_vault_is_a_500_that_tells_nothing(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asks learns that it is the service's trouble; whoever runs it, what."""
    client, tokens, desk = house
    with sqlite3.connect(desk.folder / "vault.db") as file:
        file.execute("UPDATE sealed_values SET sealed = zeroblob(60)")
    answer = client.get("/api/me", headers=tokens["operator"])
    assert answer.status_code == 500
    assert answer.json()["error"] == "the service could not do this"
    assert "VaultError" in caplog.text
    assert "Traceback" not in caplog.text


def test_an_error_of_our_own_leaves_no_trace(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A slip in the code is a 500; neither the answer nor the output quotes what was at hand."""
    client, tokens, _ = house

    def slip(*_: Any) -> None:
        raise RuntimeError("Anna Berg's template")

    monkeypatch.setattr(leaving, "export_person", slip)
    answer = client.get("/api/people/Anna Berg/export", headers=tokens["privacy-officer"])
    assert answer.status_code == 500
    assert "Anna" not in answer.text + caplog.text
    assert re.search(r"RuntimeError at .*test_answers.py:\d+", caplog.text)
