"""Training that a crash cut off goes on with its charge: for itself, a few times, in sight."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.common.budget.conftest import CONTEXT, KEY, Start, clock, event

from veilface_audit.verify import audit
from veilface_common.budget.events import Mechanism
from veilface_common.budget.ledger import MAX_ATTEMPTS, Ledger
from veilface_common.budget.policy import Policy
from veilface_common.budget.store import read_entries
from veilface_common.errors import LedgerError

MINE = {**CONTEXT, "request": "aa" * 32}
OTHER = {**CONTEXT, "request": "bb" * 32}
FIGURES = event(steps=1, rate=1.0, noise=3.0)


def again(tmp_path: Path) -> Ledger:
    """Open the ledger as a keeper does that was started anew."""
    return Ledger(tmp_path / "ledger.db", KEY, clock)


def audited(tmp_path: Path) -> tuple[int, int]:
    """Return how many steps the auditor counts, and how many reservations are open."""
    verdict = audit(tmp_path / "ledger.db", KEY.public.pem)
    return verdict.steps, verdict.unsettled


def kinds(tmp_path: Path) -> list[str]:
    return [entry.kind for entry in read_entries(tmp_path / "ledger.db")][2:]


def test_a_crash_after_the_charge_pays_once(start: Start, tmp_path: Path) -> None:
    """The same request gets the same charge, spendable anew; the ledger says that it began."""
    first = start().reserve(event(), MINE)
    resumed = again(tmp_path).resume(event(), MINE["request"])
    assert resumed is not None
    assert (resumed.number, resumed.head) == (first.number, first.head)
    resumed.spend(event())
    again(tmp_path).settle(resumed, {"outcome": "sent"})
    assert kinds(tmp_path) == ["reserve", "note", "settle"]
    assert "begins again" in read_entries(tmp_path / "ledger.db")[3].content["text"]
    assert audited(tmp_path) == (10, 0)


def test_a_charge_lasts_for_a_few_attempts(start: Start, tmp_path: Path) -> None:
    """Whoever can end the keeper at will learns a little each time: it is paid for anew then."""
    start().reserve(event(), MINE)
    for _ in range(MAX_ATTEMPTS - 1):
        assert again(tmp_path).resume(event(), MINE["request"]) is not None
    assert again(tmp_path).resume(event(), MINE["request"]) is None
    assert kinds(tmp_path) == ["reserve", "note", "note"]
    second = again(tmp_path).reserve(event(), MINE)
    resumed = again(tmp_path).resume(event(), MINE["request"])
    assert resumed is not None
    assert resumed.number == second.number
    assert audited(tmp_path) == (20, 2)


def test_another_request_never_gets_the_charge(start: Start, tmp_path: Path) -> None:
    """Nor does the same one for another event, nor one that nobody began."""
    ledger = start()
    ledger.reserve(event(), MINE)
    for asked, request in (
        (event(), OTHER["request"]),
        (event(), ""),
        (event(steps=11), MINE["request"]),
        (event(noise=1.1), MINE["request"]),
        (event(rate=0.2), MINE["request"]),
    ):
        assert again(tmp_path).resume(asked, request) is None
    assert kinds(tmp_path) == ["reserve"]


def test_what_was_settled_or_released_is_not_begun_again(start: Start, tmp_path: Path) -> None:
    """A reply was sent, training failed, or figures left at once: the next one is paid for."""
    ledger = start()
    ledger.settle(ledger.reserve(event(), MINE), {"outcome": "failed"})
    assert again(tmp_path).resume(event(), MINE["request"]) is None
    ledger.release(FIGURES, MINE)
    assert again(tmp_path).resume(FIGURES, MINE["request"]) is None
    assert kinds(tmp_path) == ["reserve", "settle", "release"]


def test_a_policy_that_forbids_it_since_ends_it(start: Start, tmp_path: Path) -> None:
    """The charge stands, but nothing is trained any more with less noise than is now allowed."""
    ledger = start()
    ledger.reserve(event(noise=1.0), MINE)
    ledger.set_policy(Policy(min_noise_multiplier=2.0))
    assert again(tmp_path).resume(event(noise=1.0), MINE["request"]) is None
    assert ledger.steps == {Mechanism(sample_rate=0.1, noise_multiplier=1.0): 10}


def test_a_kept_reply_is_settled_when_it_is_asked_for_again(start: Start, tmp_path: Path) -> None:
    """Killed between keeping and settling; the reservations of others stay open."""
    ledger = start()
    ledger.reserve(event(), OTHER)
    ledger.reserve(event(), MINE)
    again(tmp_path).settle_sent(MINE["request"])
    again(tmp_path).settle_sent(MINE["request"])
    again(tmp_path).settle_sent("cc" * 32)
    assert kinds(tmp_path) == ["reserve", "reserve", "settle"]
    newest = read_entries(tmp_path / "ledger.db")[-1].content
    assert newest == {"outcome": "sent", "reservation": 4}
    assert again(tmp_path).unsettled == {3}
    assert again(tmp_path).resume(event(), MINE["request"]) is None


def test_a_note_that_could_not_be_written_resumes_nothing(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that is not in the ledger does not take place."""
    start().reserve(event(), MINE)
    ledger = again(tmp_path)

    def full(*_: object) -> None:
        raise LedgerError("disk full")

    monkeypatch.setattr("veilface_common.budget.ledger.insert", full)
    with pytest.raises(LedgerError):
        ledger.resume(event(), MINE["request"])


def test_reservations_of_an_older_program_are_left_alone(start: Start, tmp_path: Path) -> None:
    """Their contexts name no request: they count, and nothing is begun again on them."""
    start().reserve(event(), CONTEXT)
    assert again(tmp_path).resume(event(), MINE["request"]) is None
    again(tmp_path).settle_sent(MINE["request"])
    assert audited(tmp_path) == (10, 1)
