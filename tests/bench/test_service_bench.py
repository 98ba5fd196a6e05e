"""The service under load: four clients for a minute, 10,000 people, and the limits.

Its figures, and what dominates them, are in docs/service.md.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from tests.client.recognition.desks import model_folder, provider
from tests.client.service.parts import WIDE, as_jpeg, bearer, drawn_photo
from tests.integration.serving import Serving, serving

from veilface_client.home import Settings, create_home
from veilface_client.limits import Limits
from veilface_client.recognition.desk import Desk
from veilface_client.recognition.enrolment import Consent, enrol
from veilface_client.recognition.upkeep import add_user
from veilface_client.roles import TERMINAL
from veilface_client.vault import Record, Sample
from veilface_client.vault.people import Newcomer
from veilface_common.thresholds import Impostors

pytestmark = pytest.mark.bench
PEOPLE = 10_000
CLIENTS = 4
SECONDS = float(os.environ.get("VEILFACE_BENCH_SECONDS", "60"))
SETTLED = 10.0  # seconds until caches are warm and memory counts
KNOWN = "Known 0"


@dataclass
class Load:
    """What the clients saw."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"verify": [], "identify": []})
    statuses: Counter[int] = field(default_factory=Counter)
    megabytes: list[tuple[float, float]] = field(default_factory=list)


def photographs(detector: str, faces: Path | None) -> list[bytes]:
    """Return pictures of eight people: photographs of LFW for haar, else drawn faces."""
    if detector == "centre":
        return [as_jpeg(drawn_photo(person)) for person in range(8)]
    if faces is None:
        pytest.skip("no real faces: the cascades find none in drawn ones")
    return [
        next(folder.iterdir()).read_bytes() for folder in sorted((faces / "lfw").iterdir())[:40:5]
    ]


def populated(folder: Path, detector: str, photos: list[bytes], limits: Limits) -> dict[str, str]:
    """Make an organisation of 10,000 people, four of whom the photographs show; return a header."""
    known = Impostors(people=900, pairs=404_550, rates=(0.1, 1e-4), cosines=(0.97, 0.97))
    model = model_folder(folder.with_name(f"{folder.name}-model"), impostors=known)
    settings = Settings(name="bench", model="", detector=detector, limits=limits, margin=0.0)
    create_home(folder, settings, model, provider())
    with Desk(folder, provider()) as desk:
        for number, photo in enumerate(photos[:4]):
            enrol(desk, TERMINAL, f"Known {number}", [photo], Consent(version="v1"), twin=True)
        desk.vault.enrol_all(_strangers(desk))
        desk.settle(TERMINAL)
        return bearer(add_user(desk, TERMINAL, "door", "operator", days=1))


def _strangers(desk: Desk) -> Iterator[Newcomer]:
    random = np.random.default_rng(0)
    for number in range(PEOPLE - 4):
        vector = random.normal(size=desk.embedder.dimension).astype(np.float32)
        vector /= np.linalg.norm(vector)
        record = Record(
            name=f"Stranger {number}", purpose="bench", legal_basis="none", consent_version="v1",
            consent_time="2026-01-01T00:00:00+00:00", retention_date="2030-01-01",
            created="2026-01-01T00:00:00+00:00",
        )  # fmt: skip
        sample = Sample(model=desk.model, alignment="bench", vector=vector)
        yield Newcomer(record=record, samples=[sample])


def client_of(running: Serving) -> httpx.Client:
    return httpx.Client(base_url=running.address, verify=running.trusting(), timeout=60)


def ask(client: httpx.Client, header: dict[str, str], what: str, photo: bytes) -> httpx.Response:
    data = {"person": KNOWN} if what == "verify" else {}
    return client.post(f"/api/{what}", headers=header, data=data, files={"photo": ("a", photo)})


def loaded(running: Serving, header: dict[str, str], photos: list[bytes]) -> Load:
    """Let four clients verify and identify in turn for a minute."""
    load, end, lock = Load(), time.monotonic() + SECONDS, threading.Lock()

    def one(number: int) -> None:
        with client_of(running) as client:
            turn = number
            while time.monotonic() < end:
                what = ("verify", "identify")[turn % 2]
                photo = photos[0] if what == "verify" and turn % 4 < 2 else photos[turn % 8]
                began = time.perf_counter()
                answer = ask(client, header, what, photo)
                with lock:
                    load.seconds[what].append(time.perf_counter() - began)
                    load.statuses[answer.status_code] += 1
                turn += 1

    threads = [threading.Thread(target=one, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    began, process = time.monotonic(), psutil.Process(running.process.pid)
    while any(thread.is_alive() for thread in threads):
        load.megabytes.append((time.monotonic() - began, process.memory_info().rss / 2**20))
        time.sleep(1)
    return load


@pytest.mark.parametrize("detector", ["haar", "centre"])
def test_a_minute_of_four_clients(
    tmp_path: Path, detector: str, request: pytest.FixtureRequest
) -> None:
    """No error, and memory stays where it was."""
    faces = request.getfixturevalue("real_faces") if detector == "haar" else None
    photos = photographs(detector, faces)
    header = populated(tmp_path / "home", detector, photos, WIDE)
    with serving(tmp_path / "home") as running:
        with client_of(running) as client:
            assert ask(client, header, "verify", photos[0]).json()["match"] is True
            assert ask(client, header, "identify", photos[0]).json()["answer"] == KNOWN
        load = loaded(running, header, photos)
    total = sum(load.statuses.values())
    print(
        f"\n{detector}, {PEOPLE} people, {CLIENTS} clients, load average {os.getloadavg()[0]:.1f}"
    )
    print(f"  {total / SECONDS:.1f} requests/s, statuses {dict(load.statuses)}")
    for what, seconds in load.seconds.items():
        marks = np.percentile(np.array(seconds) * 1000, [50, 95, 99])
        print(f"  {what}: p50 {marks[0]:.0f} ms, p95 {marks[1]:.0f} ms, p99 {marks[2]:.0f} ms")
    settled = [size for moment, size in load.megabytes if moment >= min(SETTLED, SECONDS / 2)]
    print(f"  memory {settled[0]:.0f} MB, at the end {settled[-1]:.0f} MB")
    assert set(load.statuses) == {200}
    assert settled[-1] < settled[0] + 20


def test_the_default_limits_hold_over_http(tmp_path: Path) -> None:
    """Of a burst, sixty requests in a minute are answered; the others are told when to return."""
    photos = photographs("centre", None)
    header = populated(tmp_path / "home", "centre", photos, Limits())
    with serving(tmp_path / "home") as running, client_of(running) as client:
        began = time.monotonic()
        answers = [ask(client, header, "identify", photos[0]) for _ in range(90)]
        took = time.monotonic() - began
    statuses = Counter(answer.status_code for answer in answers)
    print(f"\n90 requests in {took:.1f} s: {dict(statuses)}")
    assert took < 60
    assert statuses == {200: 60, 429: 30}
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60


def test_what_a_request_costs(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Where the time goes: each part by itself, in this process."""
    photos = photographs("haar", request.getfixturevalue("real_faces"))
    populated(tmp_path / "home", "haar", photos, WIDE)
    with Desk(tmp_path / "home", provider()) as desk:
        token = add_user(desk, TERMINAL, "second", "operator", days=1)
        face = desk.look(photos[0])
        template = desk.template(face)
        person = desk.person(KNOWN)
        parts: dict[str, Callable[[], object]] = {
            "token": lambda: desk.actor(token),
            "decode, find, align": lambda: desk.look(photos[0]),
            "network": lambda: desk.template(face),
            "gallery of 10,000": lambda: _searched(desk, template),
            "templates of one person": lambda: desk.vault.templates(person),
            "log entry on disk": lambda: desk.write("note", TERMINAL, "done"),
        }
        print()
        for name, part in parts.items():
            times = []
            for _ in range(50):
                began = time.perf_counter()
                part()
                times.append(time.perf_counter() - began)
            print(f"  {name}: {1000 * float(np.median(times)):.1f} ms")


def _searched(desk: Desk, template: np.ndarray) -> object:  # type: ignore[type-arg]
    with desk.gallery() as gallery:
        return gallery.search(template, 2)
