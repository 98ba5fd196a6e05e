"""The page of a run: what the coordinator's key signed is drawn, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.coordinator_parts import NOW
from tests.server.watching_parts import (
    CONFIG,
    NAMES,
    OTHER,
    PRIVATE,
    RUN,
    made_run,
    record,
    write,
)

from veilface_common.budget.accountant import epsilon
from veilface_common.budget.events import Mechanism
from veilface_common.config import FederationConfig
from veilface_common.crypto.signing import load_verify_key
from veilface_server.checkpoint import RECORDS, RoundRecord
from veilface_server.cli import main
from veilface_server.costs import epsilon_by_round
from veilface_server.curves import Line, lines_svg
from veilface_server.home import Home
from veilface_server.proven import read_proven
from veilface_server.release import contributions
from veilface_server.runs import folder_of
from veilface_server.watching import page_of

ODD = 987654.25  # seconds that no honest round took


def page(home: Home) -> str:
    return page_of(home, "clinics", None, NOW)


def test_what_was_signed_is_drawn(tmp_path: Path) -> None:
    """Rounds, seconds, organisations and reasons of the records stand in the page."""
    home = made_run(tmp_path / "s", rounds=2)
    write(home, record(home, 3, names=("ada",), left_out={"bob & co": "no reply within 5 s"}))
    text = page(home)
    assert "3 of 5 rounds, signed" in text
    assert "2.5 s" in text
    assert "no reply within 5 s" in text
    assert "Not believed" not in text
    assert text.count('class="in"') == 2 * len(NAMES) + 1
    assert text.count('class="out"') == 1


FORGED: dict[str, tuple[Callable[[Home], RoundRecord], str]] = {
    "altered seconds": (
        lambda home: replace(record(home, 3), seconds=ODD), "did not sign it as it stands",
    ),
    "another key": (
        lambda home: record(home, 3, seconds=ODD, key=OTHER), "did not sign it as it stands",
    ),
    "no signature": (
        lambda home: replace(record(home, 3, seconds=ODD), signature=""), "did not sign it",
    ),
    "fields of other types": (
        lambda home: replace(record(home, 3), seconds=ODD, left_out=[float("nan")]),  # type: ignore[arg-type]
        "did not sign it",
    ),
    "another run's": (
        lambda home: record(
            home, 3, seconds=ODD, config=replace(CONFIG, federation=FederationConfig(rounds=9))
        ),
        "belongs to another run",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_record_is_named_and_not_drawn(tmp_path: Path, kind: str) -> None:
    """Whoever can write the file can change no number of the page."""
    home = made_run(tmp_path / "s", rounds=2)
    honest = page(home)
    forge, reason = FORGED[kind]
    write(home, forge(home))
    text = page(home)
    assert reason in text
    assert "Record 3, which says it is of round 3" in text
    assert "987" not in text
    assert drawings(text) == drawings(honest)


def test_a_forged_early_record_does_not_hide_later_rounds(tmp_path: Path) -> None:
    """A record of round 1 put at the end takes the place of no round that was signed."""
    home = made_run(tmp_path / "s", rounds=3)
    honest = drawings(page(home))
    write(home, record(home, 1, key=OTHER))
    assert drawings(page(home)) == honest


def test_a_missing_round_is_said(tmp_path: Path) -> None:
    """A record that was taken out leaves a gap that has a name."""
    home = made_run(tmp_path / "s")
    write(home, record(home, 1), record(home, 3))
    assert "Of round 2 there is none." in page(home)


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    """Lines that are no JSON give a page that says so."""
    home = made_run(tmp_path / "s", rounds=1)
    (folder_of(home, RUN) / RECORDS).write_text("{")
    assert "none of it can be read" in page(home)


def test_names_and_reasons_are_text(tmp_path: Path) -> None:
    """An organisation's name or words become no markup, in drawings and tables alike."""
    home = made_run(tmp_path / "s", rounds=1)
    write(home, record(home, 2, names=("ada",), left_out={NAMES[2]: '"><img src=x onerror=y>'}))
    text = page(home)
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "bob &amp; co" in text


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    """No address of anything stands in it, and its policy would forbid to ask."""
    text = page(made_run(tmp_path / "s", CONFIG, rounds=2))
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|\bsrc=|\bhref=|@import|url\(", text)


def test_epsilon_by_round_is_that_of_the_signed_plans(tmp_path: Path) -> None:
    """It rises by what was paid for: a round that a crash made be paid twice counts twice."""
    home = made_run(tmp_path / "s", CONFIG, rounds=2)
    write(
        home,
        record(home, 3, config=CONFIG, names=("ada",)),
        record(home, 3, config=CONFIG, names=("ada",), entry=99),
    )
    key = load_verify_key(home.server_key.with_suffix(".pub"))
    proven = read_proven(folder_of(home, RUN), key, CONFIG.digest)
    found = epsilon_by_round(proven, 1e-5)
    step = Mechanism(sample_rate=0.1, noise_multiplier=1.5)

    def spent(rounds: int) -> float:
        return epsilon({step: rounds * PRIVATE.steps}, 1e-5).charged

    assert found["ada"] == {1: spent(1), 2: spent(2), 3: spent(4)}
    assert found[NAMES[1]] == {1: spent(1), 2: spent(2), 3: spent(2)}
    assert epsilon_by_round(proven, 1e-5, points=1)["ada"] == {3: spent(4)}
    assert f"{spent(4):.3g} of 8" in page(home)
    released = contributions(proven.written, None, PRIVATE, 1e-5)  # what a release would name
    assert {one.name: one.epsilon for one in released} == {
        name: by_round[3] for name, by_round in found.items()
    }


def test_lines_end_where_their_values_are() -> None:
    """The drawing's heights are proportional to the values, and a gap breaks a line."""
    svg = lines_svg([Line(name="", tone="a", points={1: 1.0, 2: 2.0, 4: 4.0})], words="w")
    [path] = re.findall(r'class="line" d="([^"]+)"', svg)
    assert re.sub(r"[^ML]", "", path) == "MLM"
    bottom = max(float(y) for y in re.findall(r'class="rule" d="M46 ([\d.]+)', svg))
    heights = [bottom - float(y) for y in re.findall(r'class="dot" cx="[\d.]+" cy="([\d.]+)"', svg)]
    assert heights[1] / heights[0] == pytest.approx(2, abs=0.01)
    assert heights[2] / heights[0] == pytest.approx(4, abs=0.01)


def test_the_command_writes_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`page` writes the newest run's page; a run that is none is said in one line."""
    home = made_run(tmp_path / "s", rounds=2)
    out = tmp_path / "run.html"
    arguments = ["--home", str(home.folder), "page"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert "2 of 5 rounds, signed" in out.read_text()
    assert main([*arguments, "f" * 16, "--out", str(tmp_path / "no.html")]) == 2
    assert "expected a run" in capsys.readouterr().err


def drawings(text: str) -> list[str]:
    """Return all that is drawn."""
    return re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
