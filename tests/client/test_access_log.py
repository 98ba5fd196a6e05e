"""The access log: what was done is on disk before anybody hears of it, and stays as it was."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.client.log_parts import (
    ANNA,
    KEY,
    OTHER,
    Clock,
    event,
    failure,
    reopened,
    rewrite,
    rows_of,
    signed_anew,
    start,
)

from veilface_client import access_chain
from veilface_client.access_chain import Row
from veilface_client.access_events import Event
from veilface_client.access_log import AccessLog, create_log
from veilface_common.budget.entries import Head
from veilface_common.crypto.signing import SigningKey
from veilface_common.errors import ConfigError, LogError

Tamper = Callable[[list[Row]], list[Row]]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Return the file of a closed log: opened, enrolled, verified, forgotten, ten verified."""
    log = start(tmp_path)
    log.append("enrolled", event(subject=ANNA, details={"photographs": 3}))
    log.append("verified", event("match", subject=ANNA))
    log.append("forgotten", event(subject=ANNA, generation=7, root="c" * 64))
    for _ in range(10):
        log.append("verified", event("match", subject=ANNA))
    log.close()
    return tmp_path / "log.db"


def test_golden_bytes(tmp_path: Path) -> None:
    """Version 1 of the format: whoever changes a byte of it makes old logs unreadable."""
    log = start(tmp_path)
    log.append("enrolled", event(subject=ANNA, reason="à 2", details={"photographs": 3, "q": 0.5}))
    log.append("verified", event("match", subject=ANNA))
    first, second, third = log.entries()
    assert second.body == (
        '{"actor":"door-1","details":{"photographs":3,"q":0.5},"generation":null,'
        '"outcome":"done","reason":"à 2","role":"operator","root":null,"second":"",'
        f'"subject":"{ANNA}"}}'
    )
    assert (first.kind, first.time) == ("opened", "2026-01-02T03:04:05+00:00")
    assert first.hash.hex() == GOLDEN[0]
    assert second.hash.hex() == GOLDEN[1]
    assert second.signature.hex() == GOLDEN[2]
    assert (third.previous, third.signature) == (second.hash, b"")


GOLDEN = (
    "3e17ce8c0d0559f1d0ba600d716eca8d05afc765c06d07e4cf07e6820392d0bc",
    "ec8edfa4cc0fbb6af59fc2d01f6c63aa9774444fa122cc676ee59f54398e4317",
    (
        "b944069b46d4785d95ac668e81507810c141558556364046dc9652f23ce66e3b"
        "c71e93afbae2c8481795bee2c0608e8b1a61efea00547e1bad37ddbffafb5501"
    ),
)


def test_an_entry_is_on_disk_before_append_returns(tmp_path: Path) -> None:
    """Another reader of the file sees it at once, and the first log sees the other's."""
    first, second = start(tmp_path), reopened(tmp_path)
    head = first.append("enrolled", event(subject=ANNA))
    assert second.head == head
    second.append("verified", failure())
    assert [entry.kind for entry in first.entries(since=1)] == ["enrolled", "verified"]
    assert first.counts()["verified"] == {"no-match": 1}


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Neither the file nor what SQLite puts beside it can be read by others."""
    with start(tmp_path) as log:
        log.append("verified", failure())
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"log.db": 0o600, "log.db-wal": 0o600, "log.db-shm": 0o600}
    assert [path.name for path in tmp_path.iterdir()] == ["log.db"]  # one file to hand over


def edited(rows: list[Row]) -> list[Row]:
    altered = rows[2][3].replace('"match"', '"no-match"')
    return [*rows[:2], (*rows[2][:3], altered, *rows[2][4:]), *rows[3:]]


def dropped(rows: list[Row]) -> list[Row]:
    return [*rows[:2], *rows[3:]]


def dropped_and_renumbered(rows: list[Row]) -> list[Row]:
    return [*rows[:2], *((row[0] - 1, *row[1:]) for row in rows[3:])]


def reordered(rows: list[Row]) -> list[Row]:
    return [*rows[:2], (3, *rows[3][1:]), (4, *rows[2][1:]), *rows[4:]]


def moved_in_time(rows: list[Row]) -> list[Row]:
    return [*rows[:2], (rows[2][0], "2020-01-01T00:00:00+00:00", *rows[2][2:]), *rows[3:]]


def of_another_kind(rows: list[Row]) -> list[Row]:
    return [*rows[:2], (*rows[2][:2], "identified", *rows[2][3:]), *rows[3:]]


def chained_anew_without_the_key(rows: list[Row]) -> list[Row]:
    anew = signed_anew(edited(rows))
    return [(*row[:6], old[6]) for row, old in zip(anew, rows, strict=True)]


def signed_by_another(rows: list[Row]) -> list[Row]:
    return signed_anew(rows, OTHER)


def without_the_opening(rows: list[Row]) -> list[Row]:
    return signed_anew(rows[1:])


def opened_twice(rows: list[Row]) -> list[Row]:
    return signed_anew([rows[0], *rows])


def of_unknown_kind(rows: list[Row]) -> list[Row]:
    return signed_anew([rows[0], (*rows[1][:2], "erased", *rows[1][3:])])


def generation_fallen(rows: list[Row]) -> list[Row]:
    older = rows[3][3].replace('"generation":7', '"generation":6')
    return signed_anew([*rows, (*rows[3][:3], older, *rows[3][4:])])


def unsigned_too_long(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, *(rows[2],) * 101])


def of_a_verified_without_a_body(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, (*rows[2][:3], "[]", *rows[2][4:])])


def without_a_time(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, (rows[2][0], "yesterday", *rows[2][2:])])


@pytest.mark.parametrize(
    "tamper",
    [
        edited, dropped, dropped_and_renumbered, reordered, moved_in_time, of_another_kind,
        chained_anew_without_the_key, signed_by_another, without_the_opening, opened_twice,
        of_unknown_kind, generation_fallen, unsigned_too_long, of_a_verified_without_a_body,
        without_a_time,
    ],
)  # fmt: skip
def test_an_altered_log_does_not_open(filled: Path, tamper: Tamper) -> None:
    """Whatever is altered is found when the log is opened; what was not altered opens."""
    rows = rows_of(filled)
    rewrite(filled, rows)
    reopened(filled.parent).close()
    rewrite(filled, tamper(rows))
    with pytest.raises(LogError):
        reopened(filled.parent)


def test_an_altered_signature_is_found_when_all_are_looked_at(filled: Path) -> None:
    """The newest signature covers all entries; older ones are verified on demand."""
    rows = rows_of(filled)
    reopened(filled.parent).verify_signatures()
    rewrite(filled, [rows[0], (*rows[1][:6], bytes(64)), *rows[2:]])
    with pytest.raises(LogError, match="entry 2"):
        reopened(filled.parent).verify_signatures()
    rewrite(filled, [*rows[:-1], (*rows[-1][:6], bytes(64))])
    with pytest.raises(LogError, match=f"entry {len(rows)}"):
        reopened(filled.parent)


def test_a_cut_off_end_is_found_by_a_remembered_head_alone(filled: Path) -> None:
    """A log without its newest entries is a log that verifies: only who saw them can tell."""
    rows = rows_of(filled)
    with reopened(filled.parent) as log:
        head = log.head
    rewrite(filled, rows[:-4])
    log = reopened(filled.parent)
    with pytest.raises(LogError, match="does not contain"):
        log.verify_holds(head)
    log.verify_holds(Head(sequence=3, hash=rows[2][5].hex()))
    with pytest.raises(LogError, match="does not contain"):
        log.verify_holds(Head(sequence=3, hash="00" * 32))


def test_entries_are_neither_changed_nor_removed(filled: Path) -> None:
    """The file itself refuses it."""
    with sqlite3.connect(filled) as connection:
        for statement in ("UPDATE entries SET kind = 'note'", "DELETE FROM entries"):
            with pytest.raises(sqlite3.IntegrityError, match="only added"):
                connection.execute(statement)


def test_a_signed_checkpoint_follows_a_hundred_unsigned_entries_and_the_last(
    tmp_path: Path,
) -> None:
    """At most 100 entries stand without a signature, none after a log was closed."""
    log = start(tmp_path)
    for _ in range(150):
        log.append("verified", failure())
    kinds = [row[2] for row in rows_of(tmp_path / "log.db")]
    assert [n for n, kind in enumerate(kinds) if kind == "checkpoint"] == [101]
    log.close()
    assert rows_of(tmp_path / "log.db")[-1][2] == "checkpoint"
    reopened(tmp_path).close()
    assert len(rows_of(tmp_path / "log.db")) == len(kinds) + 1  # nothing to sign: nothing added


def test_a_rotated_key_signs_from_then_on(tmp_path: Path) -> None:
    """The old key hands over; the log then opens with the new one alone."""
    log = start(tmp_path)
    log.append("enrolled", event(subject=ANNA))
    log.rotate_key(OTHER, event())
    log.append("forgotten", event(subject=ANNA))
    log.close()
    AccessLog.open(tmp_path / "log.db", OTHER).verify_signatures()
    with pytest.raises(LogError, match="key"):
        reopened(tmp_path)


def test_a_strangers_history_cannot_hand_itself_over(tmp_path: Path) -> None:
    """A forged log that ends in the organisation's key, which never accepted it, is rejected."""
    path = tmp_path / "log.db"
    forged = create_log(path, OTHER, "org-1", Clock())
    accepted_by_itself = access_chain.rotation(forged.head, OTHER, event().content())
    body = accepted_by_itself.replace(_pem(OTHER), _pem(KEY))
    entry = access_chain.next_entry(forged.head, "key-rotated", body, "2026", OTHER)
    forged.close()
    rewrite(path, [*rows_of(path), access_chain.row_of(entry)])
    with pytest.raises(LogError, match="accept"):
        reopened(tmp_path)


def _pem(key: SigningKey) -> str:
    return key.public.pem.decode().replace("\n", "\\n")


def test_a_second_log_does_not_replace_the_first(tmp_path: Path) -> None:
    """A new log would forget what was done, and reset every limit."""
    start(tmp_path)
    with pytest.raises(LogError, match="got one"):
        start(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"SQLite format 3\0 and no more", b"x" * 5000])
def test_a_file_that_is_no_log_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    """Missing, torn and foreign files are named as such, never taken for an empty log."""
    if content is not None:
        (tmp_path / "log.db").write_bytes(content)
    with pytest.raises(LogError):
        reopened(tmp_path)
    assert (tmp_path / "log.db").exists() == (content is not None)


def test_a_log_that_is_replaced_while_open_is_noticed(tmp_path: Path) -> None:
    """SQLite would go on writing to a file that has no name any more."""
    log = start(tmp_path)
    shutil.copy(tmp_path / "log.db", tmp_path / "old.db")
    (tmp_path / "old.db").replace(tmp_path / "log.db")
    with pytest.raises(LogError, match="replaced"):
        log.append("verified", failure())


def test_the_newest_root_is_a_signed_one(filled: Path) -> None:
    """The vault compares itself with it; an unsigned entry cannot name one, nor an older one."""
    log = reopened(filled.parent)
    assert log.newest_root() == (7, "c" * 64)
    with pytest.raises(ConfigError, match="root"):
        log.append("verified", event("match", generation=8, root="d" * 64))
    with pytest.raises(LogError, match="generation"):
        log.append("forgotten", event(generation=6, root="d" * 64))
    log.append("added", event(generation=8, root="d" * 64))
    assert log.newest_root() == (8, "d" * 64)


@pytest.mark.parametrize(
    "field",
    [
        {"actor": "Anna Müller"}, {"actor": ""}, {"second": "Bert M."}, {"subject": "Anna"},
        {"subject": "A" * 32}, {"role": "guest"}, {"outcome": "anna"}, {"reason": "x" * 201},
        {"reason": "two\nlines"}, {"generation": 1}, {"root": "a" * 64},
        {"generation": True, "root": "a" * 64}, {"details": {"Anna Müller": 1}},
        {"details": {"people": ["Anna"]}}, {"details": {"rate": float("nan")}},
        {"details": {"text": "x" * 201}}, {"details": {f"n{n}": n for n in range(17)}},
    ],
)  # fmt: skip
def test_what_has_no_place_in_the_log_is_refused(field: dict[str, object]) -> None:
    """Every field has a form, so that no name gets in by accident; the error repeats none."""
    good = {"actor": "door-1", "role": "operator", "outcome": "done"}
    Event(**good)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as refused:
        Event(**{**good, **field})  # type: ignore[arg-type]
    assert "Anna" not in str(refused.value)


def test_what_was_appended_stays_when_the_block_fails(tmp_path: Path) -> None:
    """An act that ends in an error happened all the same."""
    log = start(tmp_path)
    with pytest.raises(ZeroDivisionError), log.exclusive():
        raise _after(log.append("forgotten", event(subject=ANNA)))
    assert reopened(tmp_path).head == log.head
    assert log.head.sequence == 2


def _after(_: Head) -> ZeroDivisionError:
    return ZeroDivisionError()
