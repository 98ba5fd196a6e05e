"""The report on a budget: its figures are the ledger's, and nothing is left out of it."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist

import pytest
from tests.common.budget.conftest import CONTEXT, KEY, REGISTRATION, Start, clock, event

from veilface_common.budget.accountant import Epsilon, epsilon
from veilface_common.budget.entries import Entry, Head, State, next_entry
from veilface_common.budget.events import Mechanism
from veilface_common.budget.history import history_of, read_history
from veilface_common.budget.ledger import Ledger
from veilface_common.budget.meaning import Bounds, bounds, translations
from veilface_common.budget.policy import Policy, policy_to_body
from veilface_common.budget.report import BudgetReport, read_report, report_of, to_json
from veilface_common.budget.statements import at_most
from veilface_common.crypto.signing import SigningKey
from veilface_common.errors import BudgetExceeded, LedgerError

ROOT = Path(__file__).parents[3]
OTHER = SigningKey.from_seed(bytes(32))
WRITTEN = "2026-02-03T04:05:06+00:00"
FULL = CONTEXT | {
    "rounds": 50, "max_gradient_norm": 0.5, "images_per_unit": 8, "units_declared": 90,
    "head": "leave-one-out", "trained": "scales",
}  # fmt: skip


def report_on(tmp_path: Path) -> BudgetReport:
    return read_report(tmp_path / "ledger.db", KEY.public, WRITTEN)


def take(ledger: Ledger, rounds: int, *, run: str = "a", noise: float = 2.0) -> None:
    for number in range(1, rounds + 1):
        reservation = ledger.reserve(event(noise=noise), FULL | {"run": run, "round": number})
        ledger.settle(reservation, {"outcome": "sent"})


def test_fifty_rounds_are_not_one(start: Start, tmp_path: Path) -> None:
    """Epsilon is that of all steps of all rounds, by both accountants; it rises with each."""
    take(start(), 50)
    report, mechanism = report_on(tmp_path), event(noise=2.0).mechanism
    assert report.spent == epsilon({mechanism: 500}, 1e-5)
    assert report.runs[0].epsilon == report.spent
    assert report.spent.charged > 3 * epsilon({mechanism: 10}, 1e-5).charged
    assert len(report.curve) == 51  # and the entry after the last reservation
    assert all(one.epsilon <= other.epsilon for one, other in pairwise(report.curve))
    assert report.curve[0].epsilon == epsilon({mechanism: 10}, 1e-5).charged
    assert report.curve[-1].epsilon == report.spent.charged


def test_a_run_costs_its_own_steps_and_stands_on_those_before(start: Start, tmp_path: Path) -> None:
    """Alone: its own steps. So far: all steps up to its end. Never a sum or a mean."""
    ledger = start()
    take(ledger, 3, run="a")
    take(ledger, 4, run="b", noise=1.5)
    report = report_on(tmp_path)
    first, second = report.runs
    one, other = event(noise=2.0).mechanism, event(noise=1.5).mechanism
    assert first.epsilon == first.cumulative == epsilon({one: 30}, 1e-5)
    assert second.epsilon == epsilon({other: 40}, 1e-5)
    assert second.cumulative == report.spent == epsilon({one: 30, other: 40}, 1e-5)
    assert second.cumulative.charged < first.epsilon.charged + second.epsilon.charged
    assert [item.steps for item in report.steps] == [40, 30]
    plan = first.plans[0]
    assert (plan.reservations, plan.steps, plan.max_gradient_norm) == (3, 30, 0.5)
    assert (plan.images_per_unit, plan.units_declared, plan.trained) == (8, 90, "scales")
    assert (first.sent, first.failed, first.unsettled, first.rounds) == (3, 0, 0, 50)


def test_unsettled_and_failed_reservations_count_and_are_named(
    start: Start, tmp_path: Path
) -> None:
    """Whatever came of it, a reservation costs the same; those never settled are listed."""
    ledger = start()
    take(ledger, 1)
    ledger.settle(ledger.reserve(event(noise=2.0), FULL), {"outcome": "failed"})
    lost = ledger.reserve(event(noise=2.0), FULL)
    report = report_on(tmp_path)
    assert report.spent == epsilon({event(noise=2.0).mechanism: 30}, 1e-5)
    assert [charge.sequence for charge in report.unsettled] == [lost.number]
    assert sum(run.failed for run in report.runs) == 1
    assert any("1 reservation was never settled" in text for text in report.warnings)


def test_refusals_policies_notes_and_keys_stay_in_sight(start: Start, tmp_path: Path) -> None:
    """What was refused and why, each policy and whether it was looser, notes, changes of key."""
    ledger = start(Policy(epsilon=2.0))
    with pytest.raises(BudgetExceeded):
        ledger.reserve(event(noise=0.4), FULL)
    ledger.set_policy(Policy(epsilon=3.0), allow_looser=True)
    ledger.set_policy(Policy(epsilon=1.0))
    ledger.note("the coordinator moved")
    ledger.rotate_key(OTHER)
    report = report_on(tmp_path)
    assert [item.reason for item in report.refused if item.asked == event(noise=0.4)] == [
        "the policy allows noise_multiplier at least 0.5, asked for 0.4"
    ]
    assert [change.loosened for change in report.policies] == [False, True, False]
    assert [change.policy.epsilon for change in report.policies] == [2.0, 3.0, 1.0]
    assert any("loosened once" in text for text in report.warnings)
    assert "coordinator moved" in report.notes[0].text
    assert (report.first_key, report.key) == (KEY.public.fingerprint, OTHER.public.fingerprint)
    assert report.key in report.notes[1].text


def test_the_rounds_that_remain_fit_and_one_more_does_not(start: Start, tmp_path: Path) -> None:
    """The promise is kept by the ledger itself."""
    ledger = start(Policy(epsilon=3.0))
    take(ledger, 2, noise=1.5)
    remaining = report_on(tmp_path).remaining
    assert remaining.rounds is not None
    assert remaining.rounds > 0
    assert remaining.steps == ledger.steps_left(event(noise=1.5).mechanism)
    take(ledger, remaining.rounds, noise=1.5)
    assert report_on(tmp_path).remaining.rounds == 0
    with pytest.raises(BudgetExceeded):
        ledger.reserve(event(noise=1.5), FULL)


def test_a_stricter_policy_leaves_nothing_and_says_so(start: Start, tmp_path: Path) -> None:
    """Where more is spent than is now allowed, or the plan is not allowed, no round is promised."""
    ledger = start()
    take(ledger, 2, noise=1.0)
    ledger.set_policy(Policy(epsilon=1.0))
    report = report_on(tmp_path)
    assert (report.remaining.epsilon, report.remaining.rounds) == (0.0, 0)
    assert any("More was spent" in text for text in report.warnings)
    assert (report.curve[0].limit, report.curve[-1].limit) == (8.0, 1.0)
    ledger.set_policy(Policy(epsilon=1.0, min_noise_multiplier=2.0))
    assert "noise_multiplier" in str(report_on(tmp_path).remaining.reason)


def test_an_empty_ledger_has_a_report(start: Start, tmp_path: Path) -> None:
    """Nothing spent: epsilon 0, a coin toss, and all of it remains."""
    start()
    report = report_on(tmp_path)
    assert report.spent.charged == 0
    assert report.bounds == bounds({}, 0.0)
    assert report.bounds.right == report.bounds.belief == 0.5
    assert (report.remaining.epsilon, report.remaining.rounds) == (8.0, None)
    assert report.runs == report.curve == report.warnings == ()
    assert {item.epsilon for item in report.translations} == {0.0}


@pytest.mark.parametrize("context", [{}, {"run": 7, "round": "x", "random": None, "rounds": True}])
def test_what_is_not_recorded_is_none(
    start: Start, tmp_path: Path, context: dict[str, object]
) -> None:
    """A context without a key, or with an odd one, is no failure and no guess."""
    ledger = start()
    ledger.settle(ledger.reserve(event(), context), {})
    report = report_on(tmp_path)
    run = report.runs[0]
    assert (run.name, run.rounds, run.sent, run.unsettled) == (None, None, 0, 0)
    assert run.plans[0].max_gradient_norm is run.plans[0].random is None
    assert any("not recorded" in text for text in report.warnings)


def test_seeded_noise_is_said_first(start: Start, tmp_path: Path) -> None:
    """A bound that does not hold is not shown as if it did."""
    ledger = start()
    take(ledger, 1)
    assert not any("NOISE" in text for text in report_on(tmp_path).warnings)
    ledger.reserve(event(), FULL | {"random": "seeded"})
    report = report_on(tmp_path)
    assert "THE NOISE CAN BE REMOVED" in report.warnings[0]
    assert "1 of 2 reservations" in report.warnings[0]
    assert "simulations alone" in report.warnings[0]
    assert "not so here" in report.plain_words


def test_a_delta_as_large_as_one_person_is_warned_of(start: Start, tmp_path: Path) -> None:
    """Delta 1/100 among 100 people declared would be kept by publishing one of them."""
    start(Policy(delta=0.01))
    assert any("exposed entirely" in text for text in report_on(tmp_path).warnings)


def test_each_unit_is_told_of_the_other(start: Start, tmp_path: Path) -> None:
    """With the image as unit, a person with many photographs has a far larger epsilon."""
    ledger = start(Policy(unit="image"))
    ledger.settle(ledger.reserve(event(unit="image", noise=2.0), FULL), {"outcome": "sent"})
    report = report_on(tmp_path)
    charged = report.spent.charged
    found = {(item.whose, item.images): item.epsilon for item in report.translations}
    assert found["image", 1] == charged
    assert charged < found["person", 2] < found["person", 5] < found["person", 20]
    assert found["person", 20] > 10 * charged
    assert any("not of a person" in text for text in report.warnings)


def test_a_persons_epsilon_bounds_a_photographs(start: Start, tmp_path: Path) -> None:
    """With the person as unit, however many photographs there are changes nothing."""
    take(start(), 2)
    report = report_on(tmp_path)
    charged = report.spent.charged
    found = {(item.whose, item.images): item.epsilon for item in report.translations}
    assert found["person", None] == found["image", 1] == charged
    assert charged < found["image of several", None] < 4 * charged
    assert found["the same at two organisations", None] == 2 * charged


def test_translations_are_exact_where_nothing_is_sampled() -> None:
    """With q = 1, k photographs, or a swap, are the Gaussian of sensitivity k, or 2."""
    steps, delta = {Mechanism(sample_rate=1.0, noise_multiplier=20.0): 10}, 1e-5

    def exact(times: int) -> float:
        return epsilon({Mechanism(sample_rate=1.0, noise_multiplier=20 / times): 10}, delta).pld

    image = translations("image", steps, delta, 0.0)
    for item in image[1:4]:
        assert item.images is not None
        assert item.epsilon == pytest.approx(exact(item.images), rel=0.01)
    identity = translations("identity", steps, delta, 0.0)
    assert identity[2].epsilon == pytest.approx(exact(2), rel=0.01)


def test_bounds_are_exact_where_nothing_is_sampled() -> None:
    """With q = 1 the best attacker is known in closed form; the bounds are just above it."""
    normal, steps, noise = NormalDist(), 4, 2.5
    shift = math.sqrt(steps) / noise
    found = bounds({Mechanism(sample_rate=1.0, noise_multiplier=noise): steps}, 2.0)
    exact = Bounds(
        belief=math.exp(2) / (1 + math.exp(2)),
        right=normal.cdf(shift / 2),
        found_at_1_in_100=normal.cdf(normal.inv_cdf(0.01) + shift),
        found_at_1_in_1000=normal.cdf(normal.inv_cdf(0.001) + shift),
    )
    for name, value in vars(exact).items():
        assert value - 1e-9 <= getattr(found, name) <= 1.01 * value, name


def test_an_upper_bound_is_rounded_up() -> None:
    """A limit that is printed is one."""
    shares = (0.5, 0.70101, 0.9997, 0.9999999, 1.0)
    assert [at_most(share) for share in shares] == ["50.0%", "70.2%", "99.970%", "100%", "100%"]


def test_ten_thousand_reservations_give_a_short_curve(start: Start, tmp_path: Path) -> None:
    """The curve is thinned evenly and keeps the first and the last; the figures are of all."""
    take(start(), 1)
    history = read_history(tmp_path / "ledger.db", KEY.public)
    charge = history.reserved[0]
    one = replace(charge, event=event(steps=1, noise=2.0))
    many = tuple(replace(one, sequence=3 + index) for index in range(10_000))
    steps = {one.event.mechanism: 10_000}
    full = replace(history, reserved=many, state=replace(history.state, steps=steps))
    report = report_of(full, KEY.public, WRITTEN)
    assert 100 <= len(report.curve) <= 200
    assert (report.curve[0].sequence, report.curve[-1].sequence) == (3, 10_002)
    assert report.curve[-1].epsilon == report.spent.charged == epsilon(steps, 1e-5).charged


def test_every_key_of_the_json_is_documented(start: Start, tmp_path: Path) -> None:
    """docs/budget-report.md names each key, at every depth; the JSON has no NaN."""
    ledger = start()
    take(ledger, 1)
    ledger.reserve(event(), FULL)
    ledger.note("a note")
    ledger.release(event(steps=1, rate=1.0), FULL | {"what": "scores", "held_out_share": 0.2})
    with pytest.raises(BudgetExceeded):
        ledger.reserve(event(noise=0.4), FULL)
    body = to_json(report_on(tmp_path))
    assert body["schema"] == 1
    json.dumps(body, allow_nan=False)
    documented = set(
        re.findall(r"`([a-z0-9_]+)`", (ROOT / "docs" / "budget-report.md").read_text())
    )
    assert keys_of({key: part for key, part in body.items() if key != "accountants"}) <= documented


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def test_an_infinite_epsilon_is_null_in_the_json(start: Start, tmp_path: Path) -> None:
    """JSON has no infinity; null says that there is no bound."""
    start()
    report = replace(report_on(tmp_path), spent=Epsilon(rdp=1.0, pld=math.inf))
    assert to_json(report)["spent"] == {"charged": None, "rdp": 1.0, "pld": None}


def _tamper(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for name in ("entries_are_not_changed", "entries_are_not_removed"):
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries WHERE sequence = 3",
        "DELETE FROM entries",
        "DELETE FROM entries WHERE sequence > 1",
        "UPDATE entries SET body = replace(body, '\"steps\":10', '\"steps\":1') WHERE sequence = 3",
        "UPDATE entries SET body = 'no JSON' WHERE sequence = 1",
        "UPDATE entries SET body = '[]' WHERE sequence = 4",
        "UPDATE entries SET signature = zeroblob(3) WHERE sequence = 4",
        "UPDATE entries SET hash = zeroblob(32) WHERE sequence = 2",
        "UPDATE entries SET kind = 'party' WHERE sequence = 3",
    ],
)
def test_a_tampered_ledger_has_no_report(start: Start, tmp_path: Path, statement: str) -> None:
    """Whatever was altered, there are no figures."""
    take(start(), 1)
    _tamper(tmp_path / "ledger.db", statement)
    with pytest.raises(LedgerError):
        report_on(tmp_path)


def test_a_table_of_other_types_is_an_error(start: Start, tmp_path: Path) -> None:
    """A file that is made to hold texts where bytes are expected ends in a LedgerError too."""
    start()
    _tamper(
        tmp_path / "ledger.db",
        "CREATE TABLE loose AS SELECT sequence, time, kind, body, 'x' AS previous, hash, "
        "signature FROM entries",
        "DROP TABLE entries",
        "ALTER TABLE loose RENAME TO entries",
    )
    with pytest.raises(LedgerError, match="entry 1"):
        report_on(tmp_path)


def test_another_key_has_no_report(start: Start, tmp_path: Path) -> None:
    """The key comes from elsewhere: what somebody else signed is not the organisation's."""
    start()
    with pytest.raises(LedgerError, match="entry 1"):
        read_report(tmp_path / "ledger.db", OTHER.public, WRITTEN)


def test_a_ledger_may_not_name_another_key_than_signs_it() -> None:
    """The registration names the key; one that another key signs is refused, as in an audit."""
    entries: list[Entry] = []
    head = State.before_all(OTHER.public).head
    named = asdict(REGISTRATION) | {"public_key": KEY.public.pem.decode()}
    for kind, content in (("registered", named), ("policy", {"policy": policy_to_body(Policy())})):
        entries.append(next_entry(head, kind, content, clock(), OTHER))
        head = Head(sequence=entries[-1].sequence, hash=entries[-1].hash.hex())
    with pytest.raises(LedgerError, match="entry 1: expected key"):
        history_of(entries, OTHER.public)
