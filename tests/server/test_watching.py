"""Figures for Prometheus, the loopback page and the log of events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from tests.server.coordinator_parts import NOW
from tests.server.test_rounds import BROKEN, Village, config, honest
from tests.server.watching_parts import CONFIG, NAMES, RUN, made_run, record, write

from veilface_common.budget.accountant import epsilon
from veilface_common.budget.events import Mechanism
from veilface_common.errors import FederationError
from veilface_common.files import write_atomically
from veilface_server.home import Home
from veilface_server.journal import LOG, Journal, NotedMembers
from veilface_server.metrics import metrics_text
from veilface_server.rounds import run_rounds
from veilface_server.runs import change_run, folder_of
from veilface_server.watching import build_watch_app


def figures(home: Home) -> dict[tuple[str, ...], float]:
    """Return {(name, label values...): value}."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics_text(home).decode())
        for sample in family.samples
    }


def events(home: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (home / LOG).read_text().splitlines()]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return made_run(tmp_path / "s", CONFIG, rounds=2)


@pytest.fixture
def client(home: Home) -> Iterator[TestClient]:
    app = build_watch_app(home, "clinics")
    with TestClient(app, base_url="http://127.0.0.1:9464", raise_server_exceptions=False) as found:
        yield found


def test_figures_are_those_of_the_signed_records(home: Home) -> None:
    """Seconds, rounds, who took part and what it cost; a forged record counts as not believed."""
    out = {"bob & co": "no reply"}
    write(home, record(home, 3, config=CONFIG, names=("ada",), left_out=out, seconds=7.0))
    write(home, replace(record(home, 4, config=CONFIG), seconds=1e6))
    found = figures(home)
    assert found["veilface_rounds_finished",] == 3
    assert found["veilface_last_round_seconds",] == 7.0
    assert found["veilface_round_seconds_sum",] == 2.5 + 2.5 + 7.0
    assert found["veilface_round_seconds_count",] == 3
    assert found["veilface_records_not_believed",] == 1
    assert found["veilface_organisation_in_last_round", "ada"] == 1
    assert found["veilface_organisation_in_last_round", "bob & co"] == 0
    assert found["veilface_organisation_rounds", "bob & co", "accepted"] == 2
    assert found["veilface_organisation_rounds", "bob & co", "left_out"] == 1
    step = Mechanism(sample_rate=0.1, noise_multiplier=1.5)
    spent = epsilon({step: 60}, 1e-5).charged
    assert found["veilface_organisation_epsilon", "ada"] == spent
    assert found["veilface_run_epsilon_planned",] == 8
    assert found["veilface_release_sequence",] == 0


def test_who_is_waited_for_and_the_last_error_are_told(home: Home) -> None:
    """Of the run at work, and of the log."""
    change_run(home, RUN, lambda run: replace(run, state="running"))
    outcome = {"state": "waiting", "waiting_for": ["ada"], "error": ""}
    write_atomically(folder_of(home, RUN) / "outcome.json", json.dumps(outcome).encode())
    assert figures(home)["veilface_last_error_timestamp_seconds",] == 0
    Journal(home.folder, RUN).ended(FederationError("too few"))
    found = figures(home)
    assert found["veilface_organisation_waited_for", "ada"] == 1
    assert found["veilface_last_error_timestamp_seconds",] > NOW.timestamp()


def test_a_folder_without_a_run_has_figures(tmp_path: Path) -> None:
    """Before the first run there are members and a release's number."""
    home = made_run(tmp_path / "s")
    (folder_of(home, RUN) / "run.json").unlink()
    assert figures(home)["veilface_members", "member"] == 0


def test_the_port_gives_page_and_figures(client: TestClient, home: Home) -> None:
    """The page of the newest run, that of a named one, and Prometheus' format."""
    assert "2 of 5 rounds, signed" in client.get("/").text
    assert client.get(f"/{RUN}").status_code == 200
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.content == metrics_text(home)


@pytest.mark.parametrize("path", ["/0000000000000000", "/..%2Fserver.key", "/favicon.ico"])
def test_nothing_else_is_there(client: TestClient, path: str) -> None:
    """No file of the folder is reached by a path."""
    assert client.get(path).status_code == 404


def test_a_name_that_was_bound_to_the_loopback_gets_nothing(client: TestClient) -> None:
    """DNS rebinding: a site's script asks 127.0.0.1 under the site's own name."""
    answer = client.get("/", headers={"host": "evil.example:9464"})
    assert answer.status_code == 400
    assert "clinics" not in answer.text


def test_nothing_can_be_changed_through_the_port(client: TestClient) -> None:
    """It only answers."""
    assert [client.request(method, "/").status_code for method in ("POST", "PUT", "DELETE")] == [
        405, 405, 405,
    ]  # fmt: skip


def test_rounds_are_written_down_with_who_was_left_out_and_why(tmp_path: Path) -> None:
    """Start and end of each round, seconds, and the reasons of the signed record."""
    village = Village(ada=honest, bob=BROKEN["hangs"][0])
    folder = tmp_path / "runs" / RUN
    journal = Journal(tmp_path, RUN)
    run_rounds(NotedMembers(village, journal, folder), config(rounds=2), folder)
    journal.ended()
    found = [
        (event["event"], event.get("round"), event.get("organisations"))
        for event in events(tmp_path)
    ]
    both = {"ada": "", "bob": ""}
    late = {"bob": "no reply within 5 s"}
    assert found == [
        *(("round-started", 1, both), ("left-out", 1, late), ("round-finished", 1, {"ada": ""})),
        *(("round-started", 2, both), ("left-out", 2, late), ("round-finished", 2, {"ada": ""})),
        ("run", None, None),
    ]
    assert {event["run"] for event in events(tmp_path)} == {RUN}


def test_waiting_is_written_down_once(tmp_path: Path) -> None:
    """However often it is said; again when it is somebody else, and when it is over."""
    journal = Journal(tmp_path, RUN)
    said: list[Sequence[str]] = [(), ("ada", "bob"), ("ada", "bob"), ["bob"], (), ()]
    for names in said:
        journal.waiting(names)
    found = [(event["event"], list(event.get("organisations", {}))) for event in events(tmp_path)]  # type: ignore[call-overload]
    assert found == [("waiting", ["ada", "bob"]), ("waiting", ["bob"]), ("waited", [])]


def test_names_that_are_odd_stay_in_their_line(home: Home) -> None:
    """An organisation's name with quotes and line breaks forges no second figure or event."""
    Journal(home.folder, RUN).asked("round-started", 3, ["x\ny", NAMES[2]])
    assert len(events(home.folder)) == 1
    odd = 'x" 1\nveilface_forged 1'
    write(home, record(home, 3, config=CONFIG, names=(odd,)))
    found = figures(home)
    assert ("veilface_forged",) not in found
    assert found["veilface_organisation_in_last_round", odd] == 1
