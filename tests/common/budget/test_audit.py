"""The audit agrees with the ledger's own figures, and no altered ledger passes it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.common.budget.conftest import CONTEXT, KEY, REGISTRATION, clock, event

from veilface_audit.__main__ import FAIL, PASS, USAGE, main
from veilface_common.budget import entries
from veilface_common.budget.entries import Head, canonical, entry_hash
from veilface_common.budget.events import to_body
from veilface_common.budget.ledger import Ledger, create_ledger
from veilface_common.budget.policy import Policy
from veilface_common.budget.store import read_entries
from veilface_common.crypto.signing import SigningKey
from veilface_common.errors import BudgetExceeded

OTHER = SigningKey.from_seed(bytes(32))
Row = dict[str, Any]
COLUMNS = ("sequence", "time", "kind", "body", "previous", "hash", "signature")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Return a ledger of mixed plans: settled, unsettled and refused."""
    book = create_ledger(tmp_path / "ledger.db", KEY, REGISTRATION, Policy(), clock)
    (tmp_path / "ledger.pub").write_bytes(KEY.public.pem)
    for asked in (event(), event(20, 0.9, 0.05), event(5, 3.0, 0.5)):
        book.settle(book.reserve(asked, CONTEXT), {"outcome": "released"})
    book.reserve(event(), CONTEXT)
    with pytest.raises(BudgetExceeded):
        book.reserve(event(1000), CONTEXT)
    return book


def audit(
    folder: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, dict[str, Any]]:
    code = main([str(folder / "ledger.db"), "--key", str(folder / "ledger.pub"), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def test_the_audit_recomputes_the_ledgers_epsilon(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ledger of mixed plans passes, and both epsilons agree with ours within 2%."""
    code, verdict = audit(tmp_path, capsys)
    assert (code, verdict["verdict"], verdict["entries"]) == (PASS, "pass", 10)
    assert (verdict["unit"], verdict["delta"]) == ("identity", 1e-5)
    assert (verdict["unsettled"], verdict["refused"], verdict["steps"]) == (1, 1, 45)
    ours = ledger.spent()
    assert verdict["epsilon_pld"] == pytest.approx(ours.pld, rel=0.02)
    assert verdict["epsilon"] == pytest.approx(ours.charged, rel=0.02)


def rows_of(path: Path) -> list[Row]:
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT * FROM entries ORDER BY sequence")
        return [dict(zip(COLUMNS, row, strict=True)) for row in found]


def rewrite(path: Path, rows: list[Row]) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE entries ({','.join(COLUMNS)})")
        for row in rows:
            values = tuple(row[name] for name in COLUMNS)
            connection.execute("INSERT INTO entries VALUES (?,?,?,?,?,?,?)", values)


def signed_anew(rows: list[Row], key: SigningKey = KEY) -> list[Row]:
    """Return the rows renumbered, chained and signed again: what an insider could do."""
    previous = bytes(32)
    for number, row in enumerate(rows, start=1):
        row |= {"sequence": number, "previous": previous}
        row["hash"] = entry_hash(number, row["time"], row["kind"], row["body"], previous)
        row["signature"] = key.sign("ledger-entry", row["hash"])
        previous = row["hash"]
    return rows


def with_body(row: Row, **changes: object) -> Row:
    return row | {"body": canonical(json.loads(row["body"]) | changes)}


def drop(rows: list[Row]) -> list[Row]:
    return rows[:2] + rows[3:]


def cheaper(rows: list[Row]) -> list[Row]:
    return [
        *rows[:2],
        rows[2] | {"body": rows[2]["body"].replace('"steps":10', '"steps":1')},
        *rows[3:],
    ]


def swapped(rows: list[Row]) -> list[Row]:
    second, third = rows[2] | {"sequence": 4}, rows[3] | {"sequence": 3}
    return [*rows[:2], third, second, *rows[4:]]


def unsigned(rows: list[Row]) -> list[Row]:
    return [*rows[:-1], rows[-1] | {"signature": bytes(64)}]


def other_key(rows: list[Row]) -> list[Row]:
    return signed_anew(rows, OTHER)


def no_policy(rows: list[Row]) -> list[Row]:
    return signed_anew([rows[0], *rows[2:]])


def quiet_noise(rows: list[Row]) -> list[Row]:
    body = to_body(event(noise=0.1))
    return signed_anew([*rows[:2], with_body(rows[2], event=body), *rows[3:]])


def overspent(rows: list[Row]) -> list[Row]:
    body = to_body(event(steps=1000))
    return signed_anew([*rows[:2], with_body(rows[2], event=body), *rows[3:]])


def unknown_mechanism(rows: list[Row]) -> list[Row]:
    body = to_body(event()) | {"mechanism": "laplace"}
    return signed_anew([*rows[:2], with_body(rows[2], event=body), *rows[3:]])


def settled_twice(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows[:4], dict(rows[3]), *rows[4:]])


def quietly_loosened(rows: list[Row]) -> list[Row]:
    body = json.loads(rows[1]["body"])
    body["policy"]["epsilon"] = 80.0
    return signed_anew([*rows[:2], rows[1] | {"body": canonical(body)}, *rows[2:]])


def registered_again(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, dict(rows[0])])


TAMPERED: dict[Callable[[list[Row]], list[Row]], str] = {
    drop: "entry 3: missing",
    cheaper: "entry 3: altered",
    swapped: "entry 3: does not follow",
    unsigned: "entry 10: not signed",
    other_key: "entry 1: not signed",
    no_policy: "entry 2: reserves for another unit",
    quiet_noise: "entry 3: samples more, or adds less noise",
    overspent: "was reserved in all",
    unknown_mechanism: "entry 3: reserves for an unknown mechanism",
    settled_twice: "entry 5: settles what is not open",
    quietly_loosened: "entry 3: does not say that the policy was loosened",
    registered_again: "must be registered first, and once",
}


@pytest.mark.parametrize("change", TAMPERED, ids=lambda change: change.__name__)
@pytest.mark.usefixtures("ledger")
def test_a_tampered_ledger_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[list[Row]], list[Row]]
) -> None:
    """Each alteration is found and the first entry that fails is named, whoever signed it anew."""
    path = tmp_path / "ledger.db"
    rewrite(path, change(rows_of(path)))
    code, verdict = audit(tmp_path, capsys)
    assert (code, verdict["verdict"]) == (FAIL, "fail")
    assert TAMPERED[change] in verdict["reason"]
    assert verdict["epsilon"] is None


def test_a_rewritten_but_unchanged_ledger_passes(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tools of the tests above do not fail by themselves."""
    rewrite(tmp_path / "ledger.db", signed_anew(rows_of(tmp_path / "ledger.db")))
    assert audit(tmp_path, capsys)[1]["head"] == ledger.head.hash


def records(head: Head, organisation: str = "org-1") -> str:
    heads = {organisation: {"sequence": head.sequence, "hash": head.hash}}
    return json.dumps({"round": 1, "ledger_heads": heads}) + "\n"


def test_a_rolled_back_ledger_fails_against_the_coordinators_heads(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An old copy passes alone and fails with the round records; others' heads do not matter."""
    shutil.copy(tmp_path / "ledger.db", tmp_path / "old.db")
    ledger.reserve(event(), CONTEXT)
    held = tmp_path / "rounds.jsonl"
    held.write_text(records(Head(sequence=1, hash="00" * 32), "org-2") + records(ledger.head))
    assert audit(tmp_path, capsys, "--heads", str(held))[0] == PASS
    shutil.copy(tmp_path / "old.db", tmp_path / "ledger.db")
    assert audit(tmp_path, capsys)[0] == PASS
    code, verdict = audit(tmp_path, capsys, "--heads", str(held))
    assert code == FAIL
    assert "rolled back" in verdict["reason"]


def test_the_audit_follows_a_rotated_key(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first key given, the audit accepts what the old key handed over to, and no other."""
    ledger.rotate_key(OTHER)
    ledger.note("rotated")
    assert audit(tmp_path, capsys)[0] == PASS
    last = read_entries(tmp_path / "ledger.db")[-1]
    forged = entries.next_entry(ledger.head, "note", {"text": "x"}, last.time, KEY)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        values = tuple(getattr(forged, name) for name in COLUMNS)
        connection.execute("INSERT INTO entries VALUES (?,?,?,?,?,?,?)", values)
    assert audit(tmp_path, capsys)[0] == FAIL


def test_noise_from_a_seed_is_said(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reservation whose noise could be predicted does not fail, and is never silent."""
    ledger.reserve(event(), CONTEXT | {"random": "seeded"})
    assert audit(tmp_path, capsys)[1]["unsafe_random"] == 1
    assert main([str(tmp_path / "ledger.db"), "--key", str(tmp_path / "ledger.pub")]) == PASS
    assert "came from a seed" in capsys.readouterr().out


@pytest.mark.usefixtures("ledger")
def test_a_missing_file_is_a_wrong_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No ledger, or no key: one line, and neither pass nor fail."""
    assert main([str(tmp_path / "none.db"), "--key", str(tmp_path / "ledger.pub")]) == USAGE
    assert main([str(tmp_path / "ledger.db"), "--key", str(tmp_path / "none.pub")]) == USAGE
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.usefixtures("ledger")
def test_another_key_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key must come from elsewhere, and must be the ledger's."""
    (tmp_path / "ledger.pub").write_bytes(OTHER.public.pem)
    assert audit(tmp_path, capsys)[0] == FAIL
    (tmp_path / "ledger.pub").write_bytes(b"no key")
    assert audit(tmp_path, capsys)[0] == FAIL
