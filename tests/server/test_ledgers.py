"""The coordinator's memory of ledgers: what one shows grows, whoever crashes or turns back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.test_rounds import Behaviour, Village, config, honest

from veilface_common.errors import FederationError
from veilface_common.protocol import LedgerHead, TrainReply, TrainRequest
from veilface_server import checkpoint
from veilface_server.ledgers import Shown, newest_shown, verify_grown
from veilface_server.rounds import run_rounds


def entry(sequence: int, history: str = "a") -> LedgerHead:
    return LedgerHead(sequence=sequence, hash=history * 64)


def paying_with(entries: Mapping[int, LedgerHead]) -> Behaviour:
    """Return an organisation that pays for each round with the entry given."""

    def behave(name: str, request: TrainRequest) -> TrainReply:
        return replace(honest(name, request), ledger_head=entries[request.round])

    return behave


GROWN = paying_with({1: entry(3), 2: entry(5), 3: entry(9)})


@pytest.mark.parametrize(
    ("third", "reason"),
    [
        (entry(4), "expected a ledger beyond entry 5"),
        (entry(5, "b"), "expected a ledger beyond entry 5"),
        (entry(3), "older copy"),
        (entry(5), "expected a charge of its own"),
    ],
)
def test_rolled_back_ledger_is_left_out(third: LedgerHead, reason: str, tmp_path: Path) -> None:
    """Older, forked or spent before: the update is not summed, and the signed record says why."""
    back = paying_with({1: entry(3), 2: entry(5), 3: third})
    run_rounds(Village(a=GROWN, b=GROWN, z=back), config(), tmp_path)
    records = checkpoint.load_records(tmp_path)
    assert [record.accepted for record in records] == [("a", "b", "z"), ("a", "b", "z"), ("a", "b")]
    assert reason in records[2].left_out["z"]
    assert "z" not in records[2].ledger_heads
    assert replace(records[2], signature="").signed(checkpoint.server_key(tmp_path)) == records[2]


def crash_before_the_checkpoint(
    monkeypatch: pytest.MonkeyPatch, village: Village, folder: Path, round_number: int
) -> None:
    """Run until the record of a round is written and its checkpoint is not."""
    write = checkpoint.write_atomically

    def cut(path: Path, content: bytes) -> None:
        records = checkpoint.load_all_records(folder)
        if path.name == checkpoint.CHECKPOINT and records[-1].round == round_number:
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_atomically", cut)
        with pytest.raises(KeyboardInterrupt):
            run_rounds(village, config(), folder)


def test_a_repeated_round_takes_the_kept_reply(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After a crash the same round is asked for again: the same entry pays for the same reply."""
    crash_before_the_checkpoint(monkeypatch, Village(a=GROWN, b=GROWN), tmp_path, 2)
    run_rounds(Village(a=GROWN, b=GROWN), config(), tmp_path)
    assert [record.accepted for record in checkpoint.load_records(tmp_path)] == [("a", "b")] * 3
    assert [record.round for record in checkpoint.load_all_records(tmp_path)] == [1, 2, 2, 3]


def test_a_repeated_round_forgets_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who is silent when a round is repeated cannot turn back to before its first record."""
    crash_before_the_checkpoint(monkeypatch, Village(a=GROWN, z=GROWN), tmp_path, 2)

    def silent_then_back(name: str, request: TrainRequest) -> TrainReply | FederationError:
        if request.round == 2:
            return FederationError("no reply within 5 s")
        return replace(honest(name, request), ledger_head=entry(4))

    run_rounds(Village(a=GROWN, z=silent_then_back), config(), tmp_path)
    records = checkpoint.load_records(tmp_path)
    assert "no reply" in records[1].left_out["z"]
    assert "beyond entry 5" in records[2].left_out["z"]


def test_a_run_without_its_checkpoint_still_remembers(tmp_path: Path) -> None:
    """A run that is begun anew asks for grown ledgers: an entry of the first time is no charge."""
    run_rounds(Village(a=GROWN, z=GROWN), config(), tmp_path)
    (tmp_path / checkpoint.CHECKPOINT).unlink()
    later = paying_with({1: entry(10), 2: entry(12), 3: entry(14)})
    run_rounds(Village(a=later, z=GROWN), config(), tmp_path)
    records = checkpoint.load_records(tmp_path)
    assert [record.accepted for record in records] == [("a",), ("a",), ("a", "z")]


def test_organisations_without_a_ledger_are_not_asked_for_one(tmp_path: Path) -> None:
    """Training without privacy shows no entry, and is not held to one."""
    run_rounds(Village(a=honest, b=honest), config(), tmp_path)
    assert newest_shown(checkpoint.load_all_records(tmp_path)) == {}


SHOWN = Shown(entry=entry(5), round=2)


@pytest.mark.parametrize(
    ("shown", "now", "update_of"),
    [(None, entry(1), 1), (SHOWN, entry(6), 3), (SHOWN, entry(6), 2), (SHOWN, entry(5), 2)],
)
def test_newer_or_the_same_in_the_same_round(
    shown: Shown | None, now: LedgerHead, update_of: int
) -> None:
    """What an honest organisation shows is taken."""
    verify_grown(shown, now, update_of=update_of)


@pytest.mark.parametrize(
    ("now", "update_of"),
    [(entry(5), 3), (entry(5), 1), (entry(5), None), (entry(5, "b"), 2), (entry(4), 2)],
)
def test_anything_else_is_not(now: LedgerHead, update_of: int | None) -> None:
    """The same for another round or for figures, a fork, an older one: none is taken."""
    with pytest.raises(FederationError):
        verify_grown(SHOWN, now, update_of=update_of)
