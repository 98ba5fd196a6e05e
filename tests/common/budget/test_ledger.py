"""The ledger: nothing under-counted, whatever crashes, competes or is copied back."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from tests.common.budget.conftest import CONTEXT, KEY, REGISTRATION, Start, clock, event

from veilface_common.budget.entries import Head, next_entry, rotation
from veilface_common.budget.ledger import Ledger, create_ledger
from veilface_common.budget.policy import Policy, load_policy
from veilface_common.budget.store import insert, read_entries
from veilface_common.crypto.signing import SigningKey
from veilface_common.errors import BudgetExceeded, ConfigError, LedgerError

OTHER = SigningKey.from_seed(bytes(32))


def test_a_reservation_is_on_disk_before_it_is_given(start: Start, tmp_path: Path) -> None:
    """Another process sees the charge as soon as `reserve` has returned."""
    reservation = start().reserve(event(), CONTEXT)
    seen = Ledger(tmp_path / "ledger.db", KEY)
    assert seen.unsettled == {reservation.number}
    assert seen.spent().charged > 0


def test_crash_after_reserve_counts_as_spent(start: Start, tmp_path: Path) -> None:
    """A reservation that nobody settles costs what a settled one costs."""
    ledger = start()
    settled = ledger.reserve(event(), CONTEXT)
    ledger.settle(settled, {"outcome": "released"})
    once = ledger.spent().charged
    ledger.reserve(event(), CONTEXT)
    again = Ledger(tmp_path / "ledger.db", KEY)
    assert again.spent().charged > once
    assert len(again.unsettled) == 1


def test_epsilon_grows_over_rounds_and_restarts(start: Start, tmp_path: Path) -> None:
    """Opening a ledger anew forgets nothing: epsilon grows with every round."""
    start()
    seen = []
    for _ in range(4):
        ledger = Ledger(tmp_path / "ledger.db", KEY)
        ledger.settle(ledger.reserve(event(), CONTEXT), {})
        seen.append(ledger.spent().charged)
    assert seen == sorted(set(seen))


def test_a_spent_budget_refuses_says_what_fits_and_writes_it_down(start: Start) -> None:
    """Beyond the limit nothing is charged; the longest plan that fits is named, and does fit."""
    ledger = start(Policy(epsilon=2.0))
    with pytest.raises(BudgetExceeded) as refusal:
        ledger.reserve(event(steps=900, noise=2.0), CONTEXT)
    assert ledger.spent().charged == 0
    left = ledger.steps_left(event(noise=2.0).mechanism)
    assert f"{left} steps" in str(refusal.value.hint)
    ledger.reserve(event(steps=left, noise=2.0), CONTEXT)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(event(steps=1, noise=2.0), CONTEXT)
    assert ledger.spent().charged <= 2.0


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        (event(noise=0.4), "noise_multiplier"),
        (event(rate=0.6), "sample_rate"),
        (event(steps=1001), "steps"),
        (event(unit="image"), "unit"),
    ],
)
def test_a_request_outside_the_policy_is_refused(start: Start, asked: object, word: str) -> None:
    """Sigma, q, steps and unit are the organisation's to bound, whoever asks."""
    ledger = start()
    with pytest.raises(BudgetExceeded, match=word):
        ledger.reserve(asked, CONTEXT)  # type: ignore[arg-type]


def test_refusals_stay_in_the_ledger(start: Start, tmp_path: Path) -> None:
    """What was asked and refused can be read later, with the reason."""
    with pytest.raises(BudgetExceeded):
        start().reserve(event(noise=0.4), CONTEXT)
    last = read_entries(tmp_path / "ledger.db")[-1]
    assert last.kind == "refuse"
    assert "noise_multiplier" in last.content["reason"]


def test_a_reservation_is_settled_once(start: Start) -> None:
    """A second settlement is an error."""
    ledger = start()
    reservation = ledger.reserve(event(), CONTEXT)
    ledger.settle(reservation, {})
    with pytest.raises(LedgerError, match="open reservation"):
        ledger.settle(reservation, {})


def test_loosening_a_policy_needs_the_word_and_stays_visible(start: Start, tmp_path: Path) -> None:
    """A larger epsilon is refused unless it is meant; the entry says that it was loosened."""
    ledger = start(Policy(epsilon=2.0))
    looser = Policy(epsilon=3.0)
    with pytest.raises(BudgetExceeded, match="allows more"):
        ledger.set_policy(looser)
    ledger.set_policy(looser, allow_looser=True)
    ledger.set_policy(Policy(epsilon=1.0))
    kinds = [e.content["loosened"] for e in read_entries(tmp_path / "ledger.db")[1:]]
    assert kinds == [False, True, False]
    assert ledger.policy.epsilon == 1.0


def test_the_unit_of_a_ledger_does_not_change(start: Start) -> None:
    """Epsilons of people and of images do not add up, so a ledger speaks of one of them."""
    with pytest.raises(LedgerError, match="unit"):
        start().set_policy(Policy(unit="image"), allow_looser=True)


def test_entries_are_neither_changed_nor_removed(start: Start, tmp_path: Path) -> None:
    """The file itself refuses it."""
    start()
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        for statement in ("UPDATE entries SET kind = 'note'", "DELETE FROM entries"):
            with pytest.raises(sqlite3.IntegrityError, match="only added"):
                connection.execute(statement)


def _tamper(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER entries_are_not_changed")
        connection.execute("DROP TRIGGER entries_are_not_removed")
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries WHERE sequence = 3",
        "UPDATE entries SET body = replace(body, '\"steps\":10', '\"steps\":1') WHERE sequence = 3",
        "UPDATE entries SET time = '2020-01-01T00:00:00+00:00' WHERE sequence = 2",
        "UPDATE entries SET signature = zeroblob(64) WHERE sequence = 4",
        "UPDATE entries SET sequence = 9 WHERE sequence = 4",
        "UPDATE entries SET kind = 'note' WHERE sequence = 3",
    ],
)
def test_an_edited_ledger_does_not_open(start: Start, tmp_path: Path, statement: str) -> None:
    """Whatever is altered is found when the ledger is opened."""
    ledger = start()
    ledger.settle(ledger.reserve(event(), CONTEXT), {})
    _tamper(tmp_path / "ledger.db", statement)
    with pytest.raises(LedgerError, match="entry"):
        Ledger(tmp_path / "ledger.db", KEY)


def test_a_ledger_signed_anew_by_another_key_is_rejected(start: Start, tmp_path: Path) -> None:
    """A whole history under another key is not the organisation's."""
    start()
    create_ledger(tmp_path / "other.db", OTHER, REGISTRATION, Policy(), clock)
    with pytest.raises(LedgerError, match="key"):
        Ledger(tmp_path / "other.db", KEY)


def test_a_copied_back_ledger_is_found_by_what_others_hold(start: Start, tmp_path: Path) -> None:
    """An old file verifies by itself; the head that the coordinator holds gives it away."""
    path = tmp_path / "ledger.db"
    ledger = start()
    ledger.reserve(event(), CONTEXT)
    shutil.copy(path, tmp_path / "old.db")
    ledger.reserve(event(), CONTEXT)
    head = ledger.head
    ledger.verify_holds(head)
    shutil.copy(tmp_path / "old.db", path)
    rolled_back = Ledger(path, KEY)
    with pytest.raises(LedgerError, match="does not contain"):
        rolled_back.verify_holds(head)
    with pytest.raises(LedgerError, match="replaced"):
        ledger.reserve(event(), CONTEXT)


def test_a_forked_history_is_found(start: Start) -> None:
    """The same number of entries with another hash is not the same past."""
    ledger = start()
    with pytest.raises(LedgerError):
        ledger.verify_holds(Head(sequence=2, hash="00" * 32))


def test_a_rotated_key_signs_from_then_on(start: Start, tmp_path: Path) -> None:
    """The old key hands over; the ledger then opens with the new one alone."""
    ledger = start()
    ledger.rotate_key(OTHER)
    ledger.reserve(event(), CONTEXT)
    assert Ledger(tmp_path / "ledger.db", OTHER).spent().charged > 0
    with pytest.raises(LedgerError, match="key"):
        Ledger(tmp_path / "ledger.db", KEY)


def test_a_strangers_history_cannot_hand_itself_over(tmp_path: Path) -> None:
    """A forged ledger that ends in the organisation's key, which never accepted it, is rejected."""
    path = tmp_path / "forged.db"
    forged = create_ledger(path, OTHER, REGISTRATION, Policy(), clock)
    content = rotation(forged.head, OTHER) | {"public_key": KEY.public.pem.decode()}
    entry = next_entry(forged.head, "key-rotated", content, clock(), OTHER)
    with sqlite3.connect(path) as connection:
        insert(connection, entry)
    with pytest.raises(LedgerError, match="entry 3"):
        Ledger(path, KEY)


def test_a_second_ledger_does_not_replace_the_first(start: Start) -> None:
    """A new ledger would forget what was spent."""
    start()
    with pytest.raises(LedgerError, match="got one"):
        start()


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0 and no more", b"x" * 5000])
def test_a_file_that_is_no_ledger_is_an_error(tmp_path: Path, content: bytes) -> None:
    """Torn and foreign files are named as such, never taken for an empty ledger."""
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(LedgerError):
        Ledger(path, KEY)


def test_a_missing_ledger_is_not_made_by_opening_it(tmp_path: Path) -> None:
    """A lost ledger must not turn into an unspent budget."""
    with pytest.raises(LedgerError):
        Ledger(tmp_path / "ledger.db", KEY)
    assert not (tmp_path / "ledger.db").exists()


RACE = """
    import sys
    from pathlib import Path
    from tests.common.budget.conftest import CONTEXT, KEY, event
    from veilface_common.budget.ledger import Ledger
    from veilface_common.errors import BudgetExceeded
    ledger = Ledger(Path(sys.argv[1]), KEY)
    print("ready", flush=True)
    sys.stdin.readline()
    got = 0
    try:
        while True:
            ledger.reserve(event(steps=5), CONTEXT)
            got += 5
    except BudgetExceeded:
        print(got)
"""


def test_two_processes_never_overspend(start: Start, tmp_path: Path) -> None:
    """Two processes that take all they can get together what one alone could have got."""
    alone = start(Policy(epsilon=5.0)).steps_left(event().mechanism) // 5 * 5
    command = [sys.executable, "-c", textwrap.dedent(RACE), str(tmp_path / "ledger.db")]
    root = Path(__file__).parents[3]
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    got = [int(process.communicate("go\n")[0]) for process in processes]
    assert sum(got) == alone > 0
    assert Ledger(tmp_path / "ledger.db", KEY).spent().charged <= 5.0


CRASH = """
    import os, signal, sys
    from pathlib import Path
    from tests.common.budget.conftest import CONTEXT, KEY, event
    from veilface_common.budget import ledger as module
    point = sys.argv[2]

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    ledger = module.Ledger(Path(sys.argv[1]), KEY)
    if point == "before the entry":
        module.insert = die
    if point == "before the commit":
        insert = module.insert
        module.insert = lambda *a: (insert(*a), die())
    reservation = ledger.reserve(event(), CONTEXT)
    print("reserved", flush=True)
    if point == "after the reservation":
        die()
    if point == "in the settlement":
        module.insert = die
    ledger.settle(reservation, {})
    print("settled", flush=True)
    die()
"""
POINTS = {
    "before the entry": ("", 0),
    "before the commit": ("", 0),
    "after the reservation": ("reserved\n", 1),
    "in the settlement": ("reserved\n", 1),
    "after the settlement": ("reserved\nsettled\n", 0),
}


@pytest.mark.parametrize("point", POINTS)
def test_kill_at_every_point_never_under_counts(start: Start, tmp_path: Path, point: str) -> None:
    """Whatever was said to be reserved is charged after a kill -9, and the ledger opens."""
    start()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASH), str(tmp_path / "ledger.db"), point],
        capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False,
    )  # fmt: skip
    said, unsettled = POINTS[point]
    assert done.stdout == said, done.stderr
    ledger = Ledger(tmp_path / "ledger.db", KEY)
    assert len(ledger.unsettled) == unsettled
    assert (ledger.spent().charged > 0) == ("reserved" in said)
    ledger.reserve(event(), CONTEXT)


@pytest.mark.parametrize("kept", [0, 1, 512, 2048, 4095])
@pytest.mark.parametrize("rest", ["cut off", "zeros"])
def test_a_torn_last_page_is_an_error(start: Start, tmp_path: Path, kept: int, rest: str) -> None:
    """A page of which the disk wrote only the first bytes: found, and no charge is forgotten."""
    ledger = start()
    for number in range(12):
        ledger.reserve(event(steps=1, noise=2.0), CONTEXT | {"round": number})
    path = tmp_path / "ledger.db"
    whole = path.read_bytes()
    torn = whole[: len(whole) - 4096 + kept]
    path.write_bytes(torn if rest == "cut off" else torn.ljust(len(whole), b"\0"))
    with pytest.raises(LedgerError):
        Ledger(path, KEY)


def test_a_ledger_that_another_holds_gives_no_reservation(start: Start, tmp_path: Path) -> None:
    """Who waits too long for the lock gets an error and nothing else; afterwards all goes on."""
    ledger = start()
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("veilface_common.budget.store.BUSY_SECONDS", 0.1)
        with pytest.raises(LedgerError, match="locked"):
            ledger.reserve(event(), CONTEXT)
    connection.rollback()
    connection.close()
    assert ledger.unsettled == frozenset()
    ledger.reserve(event(), CONTEXT)


def test_a_policy_is_read_from_toml(tmp_path: Path) -> None:
    """Keys that are left out keep their defaults; unknown ones are errors."""
    path = tmp_path / "policy.toml"
    path.write_text("epsilon = 3\nmin_noise_multiplier = 0.8\n")
    assert load_policy(path) == replace(Policy(), epsilon=3.0, min_noise_multiplier=0.8)
    for text in ("epsilom = 3", "epsilon = 'much'", "epsilon = -1", "epsilon", "delta = 0.5"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="privacy policy"):
            load_policy(path)
