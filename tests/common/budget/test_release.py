"""Releases of figures: charged before they leave, counted for ever, seen by auditor and report."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.common.budget.conftest import CONTEXT, KEY, Start, clock, event
from tests.common.budget.test_audit import Row, audit, rewrite, rows_of, signed_anew, with_body

from veilface_audit.__main__ import FAIL, PASS
from veilface_common.budget.accountant import calibrate_noise, epsilon
from veilface_common.budget.entries import next_entry
from veilface_common.budget.events import Event, Mechanism, to_body
from veilface_common.budget.ledger import Ledger
from veilface_common.budget.policy import Policy
from veilface_common.budget.report import read_report
from veilface_common.budget.store import connected, insert, read_entries
from veilface_common.errors import BudgetError, BudgetExceeded, LedgerError

FIGURES = CONTEXT | {"what": "histograms of scores", "held_out_share": 0.2}


def figures(noise: float = 2.0) -> Event:
    return event(steps=1, noise=noise, rate=1.0)


@pytest.fixture
def ledger(start: Start, tmp_path: Path) -> Ledger:
    """Return a ledger of a round and of two releases after it."""
    book = start()
    (tmp_path / "ledger.pub").write_bytes(KEY.public.pem)
    book.settle(book.reserve(event(), CONTEXT), {"outcome": "sent"})
    book.release(figures(), FIGURES)
    book.release(figures(3.0), FIGURES)
    return book


def test_a_release_costs_what_a_reservation_of_its_event_costs(
    ledger: Ledger, tmp_path: Path
) -> None:
    """It composes with training, and is on disk when the call returns."""
    steps = {event().mechanism: 10, figures().mechanism: 1, figures(3.0).mechanism: 1}
    assert ledger.spent() == epsilon(steps, 1e-5)
    assert Ledger(tmp_path / "ledger.db", KEY).spent() == ledger.spent()
    assert ledger.unsettled == frozenset()


def test_a_release_needs_no_settlement_and_takes_none(start: Start) -> None:
    """There is nothing open that could be settled."""
    book = start()
    paid = book.release(figures(), FIGURES)
    with pytest.raises(LedgerError, match="open reservation"):
        book.settle(paid, {})


def test_what_limits_steps_of_training_does_not_limit_figures(start: Start) -> None:
    """A release takes everybody; the least noise and epsilon bind it as they bind training."""
    book = start(Policy(max_sample_rate=0.1, epsilon=3.0, min_noise_multiplier=1.5))
    book.release(figures(), FIGURES)
    for asked, word in (
        (figures(1.0), "noise_multiplier"),
        (replace(figures(), unit="image"), "unit"),
        (figures(1.5), "epsilon at most 3"),
    ):
        with pytest.raises(BudgetExceeded, match=word):
            book.release(asked, FIGURES)
    with pytest.raises(BudgetExceeded, match="sample_rate"):
        book.reserve(figures(), CONTEXT)


def test_refused_figures_stay_in_the_ledger(start: Start, tmp_path: Path) -> None:
    """The entry says what was asked for, and nothing is charged."""
    with pytest.raises(BudgetExceeded):
        start().release(figures(0.1), FIGURES)
    last = read_entries(tmp_path / "ledger.db")[-1]
    assert (last.kind, last.content["event"]) == ("refuse", to_body(figures(0.1)))
    assert Ledger(tmp_path / "ledger.db", KEY).spent().charged == 0


@pytest.mark.parametrize("other", [event(steps=1), event(steps=2, rate=1.0)])
def test_figures_take_everybody_once(start: Start, tmp_path: Path, other: Event) -> None:
    """Another event is refused before it is written, and not believed where it is."""
    book = start()
    with pytest.raises(BudgetError, match="everybody once"):
        book.release(other, FIGURES)
    body = {"event": to_body(other), "context": FIGURES}
    forged = next_entry(book.head, "release", body, clock(), KEY)
    with connected(tmp_path / "ledger.db") as connection:
        insert(connection, forged)
    with pytest.raises(LedgerError, match="everybody once"):
        Ledger(tmp_path / "ledger.db", KEY)


CRASH = """
    import os, signal, sys
    from pathlib import Path
    from tests.common.budget.conftest import KEY
    from tests.common.budget.test_release import FIGURES, figures
    from veilface_common.budget import ledger as module

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    ledger = module.Ledger(Path(sys.argv[1]), KEY)
    if sys.argv[2] == "before the commit":
        insert = module.insert
        module.insert = lambda *a: (insert(*a), die())
    ledger.release(figures(), FIGURES)
    print("charged", flush=True)
    die()
"""


@pytest.mark.parametrize(("point", "said"), [("before the commit", ""), ("after it", "charged\n")])
def test_a_kill_never_lets_figures_out_unpaid(
    start: Start, tmp_path: Path, point: str, said: str
) -> None:
    """Where the call returned, the charge is there; where it is not there, nothing was given."""
    start()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASH), str(tmp_path / "ledger.db"), point],
        capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False,
    )  # fmt: skip
    assert done.stdout == said, done.stderr
    assert (Ledger(tmp_path / "ledger.db", KEY).spent().charged > 0) == bool(said)


def test_the_audit_counts_figures(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both epsilons agree with ours; releases are told apart from steps of training."""
    code, verdict = audit(tmp_path, capsys)
    ours = ledger.spent()
    assert (code, verdict["released"], verdict["steps"]) == (PASS, 2, 10)
    assert verdict["epsilon_pld"] == pytest.approx(ours.pld, rel=0.02)
    assert verdict["epsilon"] == pytest.approx(ours.charged, rel=0.02)


def sampled(rows: list[Row]) -> list[Row]:
    return changed(rows, to_body(replace(figures(), mechanism=mechanism(rate=0.01))))


def in_steps(rows: list[Row]) -> list[Row]:
    return changed(rows, to_body(replace(figures(), steps=2)))


def too_quiet(rows: list[Row]) -> list[Row]:
    return changed(rows, to_body(figures(0.4)))


def of_images(rows: list[Row]) -> list[Row]:
    return changed(rows, to_body(replace(figures(), unit="image")))


def settled(rows: list[Row]) -> list[Row]:
    last = rows[3] | {"body": rows[3]["body"].replace('"reservation":3', '"reservation":5')}
    return signed_anew([*rows, last])


def overspent(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, *(dict(changed(rows, to_body(figures(0.5)))[4]) for _ in range(3))])


def mechanism(rate: float) -> Mechanism:
    return Mechanism(sample_rate=rate, noise_multiplier=2.0)


def changed(rows: list[Row], body: dict[str, object]) -> list[Row]:
    return signed_anew([*rows[:4], with_body(rows[4], event=body), *rows[5:]])


TAMPERED: dict[Callable[[list[Row]], list[Row]], str] = {
    sampled: "entry 5: releases figures as another event",
    in_steps: "entry 5: releases figures as another event",
    too_quiet: "entry 5: releases figures with less noise",
    of_images: "entry 5: reserves for another unit",
    settled: "entry 7: settles what is not open",
    overspent: "was reserved in all",
}


@pytest.mark.parametrize("change", TAMPERED, ids=lambda change: change.__name__)
@pytest.mark.usefixtures("ledger")
def test_the_audit_finds_figures_that_were_not_paid_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[list[Row]], list[Row]]
) -> None:
    """Also where an insider signed the altered ledger anew."""
    path = tmp_path / "ledger.db"
    rewrite(path, change(rows_of(path)))
    code, verdict = audit(tmp_path, capsys)
    assert code == FAIL
    assert TAMPERED[change] in verdict["reason"]


def test_the_audit_finds_a_rollback_that_undoes_a_release(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The evaluation's record is one of those that hold heads."""
    rounds, evaluation = tmp_path / "rounds.jsonl", tmp_path / "evaluation.jsonl"
    heads = {"org-1": {"sequence": ledger.head.sequence, "hash": ledger.head.hash}}
    rounds.write_text(json.dumps({"round": 1, "ledger_heads": {}}) + "\n")
    evaluation.write_text(json.dumps({"round": 1, "scores": None, "ledger_heads": heads}) + "\n")
    held = ["--heads", str(rounds), "--heads", str(evaluation)]
    assert audit(tmp_path, capsys, *held)[0] == PASS
    rewrite(tmp_path / "ledger.db", signed_anew(rows_of(tmp_path / "ledger.db")[:-1]))
    code, verdict = audit(tmp_path, capsys, *held)
    assert code == FAIL
    assert "rolled back" in verdict["reason"]


def test_the_report_shows_what_left_and_what_it_cost(ledger: Ledger, tmp_path: Path) -> None:
    """Alone, and by how much less would be spent without it; the run's epsilon holds both."""
    report = read_report(tmp_path / "ledger.db", KEY.public, clock())
    first, second = report.releases
    without = {event().mechanism: 10, figures(3.0).mechanism: 1}
    assert first.alone == epsilon({figures().mechanism: 1}, 1e-5)
    assert first.more == report.spent.charged - epsilon(without, 1e-5).charged
    assert first.more > second.more > 0
    assert (first.released.what, first.released.held_out_share) == ("histograms of scores", 0.2)
    (run,) = report.runs
    assert (run.releases, run.reservations, run.steps) == (2, 1, 10)
    assert run.epsilon == run.cumulative == report.spent == ledger.spent()
    assert report.curve[-1].epsilon == report.spent.charged
    texts = {item.title: item.text for part in report.statements.values() for item in part}
    assert "histograms of scores" in texts["What is released"]
    assert "sum over all organisations" in texts["Figures"]
    assert "But for the releases" in texts["Counts, losses and accuracies"]


def test_seeded_noise_of_figures_is_said_first(ledger: Ledger, tmp_path: Path) -> None:
    """As of training: whoever knows the seed can subtract it."""
    ledger.release(figures(4.0), FIGURES | {"random": "seeded"})
    report = read_report(tmp_path / "ledger.db", KEY.public, clock())
    assert "THE NOISE CAN BE REMOVED" in report.warnings[0]
    assert "1 of 4 reservations and releases" in report.warnings[0]


def test_noise_is_calibrated_for_training_and_figures_together() -> None:
    """Both fit the budget, and a thousandth less noise does not."""
    beside = {figures().mechanism: 1}
    noise = calibrate_noise(0.1, 40, 1e-5, 8.0, beside)

    def spent(multiplier: float) -> float:
        steps = {Mechanism(sample_rate=0.1, noise_multiplier=multiplier): 40, **beside}
        return epsilon(steps, 1e-5).charged

    assert spent(noise) <= 8.0 < spent(noise - 0.001)
    assert noise > calibrate_noise(0.1, 40, 1e-5, 8.0)


def test_training_and_figures_of_one_mechanism_add_up() -> None:
    """Where a step of training has the figures' own q and sigma, there are two such steps."""
    alone = calibrate_noise(1.0, 2, 1e-5, 4.0)
    beside = {Mechanism(sample_rate=1.0, noise_multiplier=alone): 1}
    assert calibrate_noise(1.0, 1, 1e-5, 4.0, beside) == pytest.approx(alone, abs=0.0015)
