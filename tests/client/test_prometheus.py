"""What an operator sees of the keeper: every request, and nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.client.door_parts import STRANGER, ask, organisation, sealed, to_train
from tests.client.service.parts import service

from veilface_client.door import Door
from veilface_client.failures import FILE as FAILURES
from veilface_client.prometheus import size_told
from veilface_client.recognition.papers import metrics
from veilface_client.roles import TERMINAL
from veilface_client.watched_door import LOG, TEXTFILE, WatchedDoor
from veilface_common.errors import DataError, ProtocolError, RequestRefused
from veilface_common.protocol import TrainRequest

NAME, PATH = "Anna Berg", "/srv/photos/Anna Berg/door-17.jpg"
TEMPLATE = "0.1234567, -0.7654321"


def figures(home: Path) -> dict[tuple[str, ...], float]:
    """Return {(name, label values...): value} of the text file."""
    return parsed((home / TEXTFILE).read_text())


def parsed(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def events(home: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (home / LOG).read_text().splitlines()]


class Clumsy(Door):
    """A door behind which an error says all that it must not."""

    def _granted(self, request: TrainRequest) -> None:  # type: ignore[override]
        raise DataError(f"{NAME}: no eyes in {PATH}, got {TEMPLATE} in {request.round}")


def test_no_name_path_or_template_reaches_log_or_figures(tmp_path: Path) -> None:
    """Planted in an error, they stay in the organisation's own file of failures."""
    folder = tmp_path / "training"
    organisation(folder)
    door = WatchedDoor(Clumsy(folder), tmp_path)
    with pytest.raises(ProtocolError):
        door.answer(sealed(to_train(1)))
    assert NAME in (folder / FAILURES).read_text()
    written = (tmp_path / LOG).read_text() + (tmp_path / TEXTFILE).read_text()
    for planted in (NAME, "Anna", "Berg", "photos", "door-17", "0.1234567", str(folder)):
        assert planted not in written, planted
    [event] = events(tmp_path)
    assert (event["level"], event["kind"], event["round"]) == ("error", "train", 1)
    assert (event["outcome"], event["error"]) == ("failed", "DataError")


def test_every_request_is_counted_by_what_came_of_it(tmp_path: Path) -> None:
    """Answered, refused by the order of rounds, and asked by a stranger."""
    door = WatchedDoor(organisation(tmp_path / "training"), tmp_path)
    before = figures(tmp_path)
    assert before["veilface_epsilon_spent",] == 0
    door.answer(sealed(to_train(2)))
    door.answer(sealed(to_train(1)))
    with pytest.raises(RequestRefused):
        door.answer(sealed(to_train(3), STRANGER))
    found = figures(tmp_path)
    assert found["veilface_requests_total", "train", "answered"] == 1
    assert found["veilface_requests_total", "train", "refused"] == 1
    assert found["veilface_requests_total", "unknown", "refused"] == 1
    assert found["veilface_ledger_refusals_total",] == 2
    assert found["veilface_rounds_sent_total",] == 1
    assert 0 < found["veilface_epsilon_spent",] < found["veilface_epsilon_allowed",] == 30
    seen = [(event["kind"], event["outcome"], event.get("round")) for event in events(tmp_path)]
    assert seen == [("train", "answered", 2), ("train", "refused", 1), ("unknown", "refused", None)]


def test_a_watched_door_gives_the_reply_of_the_door(tmp_path: Path) -> None:
    """Watching changes no byte, and a full disk stops no round."""
    plain = organisation(tmp_path / "training")
    first = ask(plain, to_train(1))
    watched = WatchedDoor(plain, tmp_path / "nowhere")
    assert watched.answer(sealed(to_train(1))) == plain.answer(sealed(to_train(1)))
    assert first.refusal == ""
    assert watched.max_model_bytes == plain.max_model_bytes


def test_the_service_tells_how_often_and_not_of_whom(tmp_path: Path) -> None:
    """Counts of comparisons by outcome, a size that hides how many there are, and nothing else."""
    with service(tmp_path / "shop") as (client, tokens, desk):
        header = tokens["enroller"]
        files = [("photos", ("a.jpg", b"anna/1", "image/jpeg"))]
        data = {"person": NAME, "consent": "en-0123456789ab"}
        assert client.post("/api/people", headers=header, data=data, files=files).is_success
        photo = {"photo": ("a.jpg", b"anna/2", "image/jpeg")}
        client.post("/api/identify", headers=tokens["operator"], files=photo)
        answer = client.get("/api/metrics", headers=tokens["auditor"])
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert answer.content == metrics(desk, TERMINAL)
    found = parsed(answer.text)
    assert sum(found[key] for key in found if key[0] == "veilface_recognitions_total") == 1
    assert "Anna" not in answer.text
    assert {key[0] for key in found} == {
        "veilface_recognitions_total", "veilface_denials_total", "veilface_vault_bytes_at_most",
    }  # fmt: skip


def test_the_size_of_a_vault_counts_nobody() -> None:
    """One more person, or a few hundred, change nothing of what is told."""
    assert size_told(1) == size_told(900_000) == 1 << 20
    assert size_told((1 << 20) + 1) == size_told(2_000_000) == 2 << 20
