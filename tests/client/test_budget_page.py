"""`veilface report`: a page that stands alone, or figures, of a ledger that verifies."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.common.budget.conftest import KEY, REGISTRATION, clock, event

from veilface_client.budget_page import render
from veilface_client.budget_plot import curve_svg
from veilface_client.cli import main
from veilface_common.budget.events import Unit
from veilface_common.budget.ledger import Ledger, create_ledger
from veilface_common.budget.policy import Policy
from veilface_common.budget.report import Point, read_report
from veilface_common.crypto.signing import SigningKey
from veilface_common.errors import BudgetExceeded

HOSTILE = "<script>alert('x')</script>\"'&$title ${body} </title></style><!--"
CONTEXT = {
    "run": "c0ffee" * 5, "round": 1, "rounds": 40, "max_gradient_norm": 0.25,
    "images_per_unit": 8, "units_declared": 90, "head": "leave-one-out", "trained": "scales",
    "random": "operating-system",
}  # fmt: skip
Make = Callable[..., Ledger]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that makes a ledger of two rounds, and its public key beside it."""

    def made(*, name: str = "org-1", unit: Unit = "identity", **context: object) -> Ledger:
        path, policy = tmp_path / "ledger.db", Policy(unit=unit)
        ledger = create_ledger(path, KEY, replace(REGISTRATION, organisation=name), policy, clock)
        (tmp_path / "ledger.pub").write_bytes(KEY.public.pem)
        asked = event(noise=2.0, unit=unit)
        ledger.settle(ledger.reserve(asked, CONTEXT | context), {"outcome": "sent"})
        ledger.reserve(asked, CONTEXT | context)
        return ledger

    return made


def page_of(tmp_path: Path) -> str:
    return render(read_report(tmp_path / "ledger.db", KEY.public, clock()))


class Page(HTMLParser):
    """The elements of a page, its attributes and its words; unbalanced tags are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_stands_alone(make: Make, tmp_path: Path) -> None:
    """Nothing is loaded and nothing runs, whatever a browser would allow."""
    make()
    text = page_of(tmp_path)
    page = Page(text)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "img", "base", "form"}
    assert not page.attributes & {"src", "href", "xlink:href", "srcset", "onload", "onclick"}
    assert not re.search(r"https?://|url\(|@import", text)
    assert "default-src 'none'" in text


def test_what_a_ledger_holds_is_never_markup(make: Make, tmp_path: Path) -> None:
    """Names, runs, reasons and notes that look like HTML are shown as they are."""
    ledger = make(name=HOSTILE, run=HOSTILE, head=HOSTILE, trained=HOSTILE, random=HOSTILE)
    ledger.note(HOSTILE)
    with pytest.raises(BudgetExceeded):
        ledger.refuse(HOSTILE, {"run": HOSTILE})
    text = page_of(tmp_path)
    assert "script" not in Page(text).tags
    assert "<script" not in text
    assert Page(text).words.count(HOSTILE) >= 5


def test_the_page_says_what_was_done_and_what_remains(make: Make, tmp_path: Path) -> None:
    """Unit, neighbours, delta, mechanism, sigma, C, steps, both accountants, rounds, the gaps."""
    ledger = make()
    with pytest.raises(BudgetExceeded):
        ledger.reserve(event(noise=0.4), CONTEXT)
    ledger.set_policy(Policy(epsilon=9.0), allow_looser=True)
    report = read_report(tmp_path / "ledger.db", KEY.public, clock())
    words = Page(render(report)).words
    spent = report.spent
    for said in (
        f"Epsilon {spent.charged:.4g} of 9 is spent for each person",
        f"Rényi {spent.rdp:.4g}", f"loss distributions {spent.pld:.4g}",
        f"{report.remaining.rounds:,}more rounds fit", "add or remove one person",
        "1 in 100,000", "Poisson sampling", "0.25", "2 of 40", "20 steps at q 0.1, sigma 2",
        "Refused requests: 1", "noise_multiplier at least 0.5", "Unsettled reservations: 1",
        "LOOSENED", "Sampling", "Floating point", "Random numbers",
        "The same person at two organisations", "the epsilons add up", "The gallery", "Timing",
        "aligning faces", "Who can see what", "The coordinator", "veilface-audit",
        report.head.hash, KEY.public.fingerprint, "Whose privacy",
    ):  # fmt: skip
        assert said in words, said
    assert report.plain_words in words


def test_the_unit_is_in_the_headline(make: Make, tmp_path: Path) -> None:
    """Whoever reads one line reads of whom epsilon speaks; an image's is told for persons."""
    make(unit="image")
    words = Page(page_of(tmp_path)).words
    assert "is spent for each photograph" in words
    assert "not of a person" in words
    assert "A person with 20 photographs" in words
    assert "add or remove one photograph" in words


def test_seeded_noise_cannot_be_overlooked(make: Make, tmp_path: Path) -> None:
    """It is in the headline, in the first warning and in the table."""
    make(random="seeded")
    words = Page(page_of(tmp_path)).words
    assert "For simulations alone: epsilon" in words
    assert "THE NOISE CAN BE REMOVED" in words
    assert "A SEED" in words


def test_figures_that_left_are_on_the_page(make: Make, tmp_path: Path) -> None:
    """What it was, of whom, its noise and its price; who could see it; and none where none left."""
    ledger = make(name=HOSTILE)
    assert "no figure measured on" in Page(page_of(tmp_path)).words
    context = CONTEXT | {"what": HOSTILE, "held_out_share": 0.2}
    ledger.release(event(steps=1, noise=3.0, rate=1.0), context)
    text = page_of(tmp_path)
    words = Page(text).words
    assert "<script" not in text
    assert words.count(HOSTILE) >= 3
    for said in ("Figures that left: 1", "20%", "Of all that is spent", "sees their sum"):
        assert said in words
    (release,) = read_report(tmp_path / "ledger.db", KEY.public, clock()).releases
    for epsilon in (release.alone.charged, release.more):
        assert f"{epsilon:.4g}" in words
    ledger.release(event(steps=1, noise=4.0, rate=1.0), context | {"random": "seeded"})
    assert "For simulations alone: epsilon" in Page(page_of(tmp_path)).words


def test_a_ledger_that_was_never_used_has_a_page(tmp_path: Path) -> None:
    """Epsilon 0 is a report too."""
    create_ledger(tmp_path / "ledger.db", KEY, REGISTRATION, Policy(), clock)
    assert "Epsilon 0 of 8" in Page(page_of(tmp_path)).words


@pytest.mark.parametrize(
    "times",
    [
        ("2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00", "2026-03-01T00:00:00+00:00"),
        ("2026-03-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00", "2026-03-02T00:00:00+00:00"),
        ("2026-01-01T00:00:00+00:00",) * 3,
        ("2026-01-01T00:00:00+00:00", "2026-01-01", "no time <at> all"),
        ("2026-03-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"),
    ],
)
def test_the_curve_only_rises_whatever_the_clock_did(times: tuple[str, str, str]) -> None:
    """The line goes right and up; times that say nothing are drawn in even steps."""
    points = [
        Point(sequence=index, time=time, epsilon=float(index), limit=8.0)
        for index, time in enumerate(times[1:], start=1)
    ]
    drawing = curve_svg(points, times[0])
    path = re.search(r'class="spent" d="M([\d.]+) ([\d.]+)([^"]*)"', drawing)
    assert path is not None
    across = [float(path[1]), *map(float, re.findall(r"H([\d.]+)", path[3]))]
    down = [float(path[2]), *map(float, re.findall(r"V([\d.]+)", path[3]))]
    assert across == sorted(across)
    assert across[0] < across[-1]
    assert down == sorted(down, reverse=True)
    Page(drawing)


def test_the_command_writes_a_page_or_figures(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The suffix says which; the key beside the ledger is the default."""
    make()
    page, figures = tmp_path / "report.html", tmp_path / "report.json"
    for out in (page, figures):
        assert main(["report", str(tmp_path / "ledger.db"), "--out", str(out)]) == 0
        assert str(out) in capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")
    body = json.loads(figures.read_text())
    assert (body["schema"], body["unit"], body["organisation"]) == (1, "identity", "org-1")


def refused(
    arguments: list[object], code: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> str:
    """Return the one line that a refusal is; nothing may have been written."""
    before = sorted(tmp_path.iterdir())
    assert main(["report", *map(str, arguments)]) == code
    assert sorted(tmp_path.iterdir()) == before
    said = capsys.readouterr()
    assert not said.out
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("veilface: ")
    assert "(hint: " in said.err
    return said.err


def test_a_tampered_ledger_is_refused_and_the_old_report_stays(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 10, one line, no file; a report from before is left as it was."""
    make()
    path, out = tmp_path / "ledger.db", tmp_path / "report.html"
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER entries_are_not_changed")
        connection.execute("UPDATE entries SET time = '2020-01-01T00:00:00' WHERE sequence = 3")
    assert "entry 3" in refused([path, "--out", out], 10, capsys, tmp_path)
    assert not out.exists()
    out.write_text("before")
    refused([path, "--out", out], 10, capsys, tmp_path)
    assert out.read_text() == "before"


def test_a_wrong_call_is_refused(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other suffixes, no ledger, no key, another key: each its class's exit code."""
    make()
    path, out = tmp_path / "ledger.db", tmp_path / "report.html"
    other = tmp_path / "other.pub"
    other.write_bytes(SigningKey.from_seed(bytes(32)).public.pem)
    for name in ("report.pdf", "report", "report.HTML.exe"):
        assert ".html or .json" in refused([path, "--out", tmp_path / name], 2, capsys, tmp_path)
    refused([path], 2, capsys, tmp_path)
    refused([path, "--out", out, "--key", tmp_path / "none.pub"], 4, capsys, tmp_path)
    refused([path, "--out", out, "--key", other], 10, capsys, tmp_path)
    refused([tmp_path / "none.db", "--out", out, "--key", other], 10, capsys, tmp_path)


def test_the_command_starts_without_torch() -> None:
    """Its help and its complaints do not wait for PyTorch."""
    program = "import sys, veilface_client.cli; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
