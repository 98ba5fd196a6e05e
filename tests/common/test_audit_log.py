"""The audit of an access log: what was altered, or hides something, does not pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

from veilface_audit import log as audit
from veilface_audit.__main__ import FAIL, PASS, main
from veilface_client import access_chain, access_events
from veilface_client.access_chain import Row
from veilface_client.access_log import AccessLog
from veilface_common.budget.entries import canonical

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a closed log of eight entries, and of its public key."""
    clock = Clock()
    (tmp_path / "log.pub").write_bytes(KEY.public.pem)
    with start(tmp_path, clock) as log:
        log.append("enrolled", event(subject=ANNA, details={"photographs": 3, "quality": 0.5}))
        log.append("verified", event("match", subject=ANNA))
        log.append("verified", failure())
        log.append("identified", event("unknown", reason="second best too near"))
        log.append("forgotten", event(subject=ANNA, generation=7, root="c" * 64, second="door-2"))
        clock.forward(minutes=-5)
        log.append("verified", event("match", subject=ANNA))
    return tmp_path


def verdict(folder: Path, capsys: Capture, *more: str) -> tuple[int, dict[str, Any]]:
    code = main([str(folder / "log.db"), "--key", str(folder / "log.pub"), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def test_a_log_passes_with_its_counts(folder: Path, capsys: Capture) -> None:
    """What it says is what the log itself says."""
    code, told = verdict(folder, capsys)
    assert (code, told["verdict"], told["reason"]) == (PASS, "pass", None)
    with reopened(folder) as log:
        assert told["counts"] == log.counts()
        assert told["head"] == log.head.hash
        assert (told["generation"], told["root"]) == log.newest_root()
    assert (told["entries"], told["organisation"], told["unsigned"]) == (8, "org-1", 0)
    assert told["clock_set_back"] == 1


def test_both_programs_know_the_same_words() -> None:
    """Written apart, for the same format."""
    own = {"opened", "checkpoint", "key-rotated"}
    assert set(audit.KINDS) == own | set(access_events.KINDS)
    assert set(audit.UNSIGNED) == access_events.FREQUENT
    assert access_chain.CHECKPOINT_EVERY == audit.MOST_UNSIGNED
    for outcome in access_events.OUTCOMES:
        assert audit._has_form("outcome", outcome)
    for role in access_events.ROLES:
        assert audit._has_form("role", role)
    assert set(event().content()) == audit._EVENT


def test_an_open_log_passes_and_tells_what_is_not_signed_yet(folder: Path, capsys: Capture) -> None:
    """The auditor needs nobody to stop working; nothing is written beside the file."""
    with reopened(folder) as log:
        log.append("verified", failure())
        code, told = verdict(folder, capsys)
        assert (code, told["entries"], told["unsigned"]) == (PASS, 9, 1)
    before = {path.name for path in folder.iterdir()}
    main([str(folder / "log.db"), "--key", str(folder / "log.pub")])
    said = capsys.readouterr().out
    assert said.startswith("PASS  10 entries of org-1")
    assert "verified: 2 match, 2 no-match" in said
    assert {path.name for path in folder.iterdir()} == before


def test_a_rotated_key_passes_under_the_first(folder: Path, capsys: Capture) -> None:
    """The auditor keeps one key; a log under another key does not pass."""
    with reopened(folder) as log:
        log.rotate_key(OTHER, event())
        log.append("forgotten", event(subject=ANNA))
    with AccessLog.open(folder / "log.db", OTHER) as log:
        log.append("verified", failure())
    assert verdict(folder, capsys)[0] == PASS
    (folder / "log.pub").write_bytes(OTHER.public.pem)
    code, told = verdict(folder, capsys)
    assert (code, told["verdict"], told["counts"]) == (FAIL, "fail", None)


def test_a_cut_off_end_is_found_by_a_remembered_head_alone(folder: Path, capsys: Capture) -> None:
    """The head of an earlier verdict is in the log, or something was taken away."""
    told = verdict(folder, capsys)[1]
    head = f"{told['entries']}:{told['head']}"
    with reopened(folder) as log:
        log.append("verified", failure())
    assert verdict(folder, capsys, "--head", head)[0] == PASS
    rewrite(folder / "log.db", rows_of(folder / "log.db")[:7])
    assert verdict(folder, capsys)[0] == PASS
    code, told = verdict(folder, capsys, "--head", head)
    assert (code, "cut off" in told["reason"]) == (FAIL, True)


def test_a_log_takes_no_round_records(folder: Path) -> None:
    """The coordinator knows nothing of who entered where."""
    heads = ["--heads", str(folder / "log.pub")]
    with pytest.raises(SystemExit) as usage:
        main([str(folder / "log.db"), "--key", str(folder / "log.pub"), *heads])
    assert usage.value.code == 2


def changed(row: Row, **fields: object) -> Row:
    """Return a row whose body says something else, or something more."""
    return (*row[:3], canonical(json.loads(row[3]) | fields), *row[4:])


def edited(rows: list[Row]) -> list[Row]:
    return [*rows[:2], changed(rows[2], outcome="no-match"), *rows[3:]]


def dropped(rows: list[Row]) -> list[Row]:
    return [*rows[:3], *rows[4:]]


def reordered(rows: list[Row]) -> list[Row]:
    return [*rows[:2], (3, *rows[3][1:]), (4, *rows[2][1:]), *rows[4:]]


def signature_altered(rows: list[Row]) -> list[Row]:
    return [rows[0], (*rows[1][:6], bytes(64)), *rows[2:]]


def signed_by_another(rows: list[Row]) -> list[Row]:
    return signed_anew(rows, OTHER)


def opened_twice(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, rows[0]])


def of_unknown_kind(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, (*rows[1][:2], "erased", *rows[1][3:])])


def without_a_checkpoint(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, *(rows[2],) * 101])


def signed_where_none_is_expected(rows: list[Row]) -> list[Row]:
    return [*rows[:2], (*rows[2][:6], bytes(64)), *rows[3:]]


def generation_fallen(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, changed(rows[5], generation=6)])


def generation_without_a_root(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, changed(rows[5], root=None)])


def root_without_a_signature(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, changed(rows[2], generation=8, root="c" * 64)])


def time_elsewhere(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, (rows[1][0], "2026-01-02T03:04:05+01:00", *rows[1][2:])])


def written_loosely(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, (*rows[1][:3], json.dumps(json.loads(rows[1][3])), *rows[1][4:])])


def without_a_field(rows: list[Row]) -> list[Row]:
    fields = {name: value for name, value in json.loads(rows[1][3]).items() if name != "reason"}
    return signed_anew([*rows, (*rows[1][:3], canonical(fields), *rows[1][4:])])


def name_in_another_field(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, changed(rows[1], name="Anna Müller")])


def name_as_subject(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, changed(rows[1], subject="Anna Müller")])


def name_as_actor(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, changed(rows[1], actor="Anna Müller")])


def name_as_outcome(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, changed(rows[1], outcome="anna")])


def story_as_reason(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, changed(rows[1], reason="x" * 201)])


def list_of_people_in_details(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, changed(rows[1], details={"people": ["Anna"]})])


def name_as_a_detail(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows, changed(rows[1], details={"Anna Müller": 1})])


def name_in_a_checkpoint(rows: list[Row]) -> list[Row]:
    return signed_anew([*rows[:-1], changed(rows[-1], name="Anna")])


def name_around_the_key(rows: list[Row]) -> list[Row]:
    pem = "Anna Müller\n" + KEY.public.pem.decode()
    return signed_anew([changed(rows[0], public_key=pem), *rows[1:]])


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (edited, "entry 3: altered"),
        (dropped, "entry 4: missing"),
        (reordered, "entry 3: does not follow"),
        (signature_altered, "entry 2: not signed"),
        (signed_by_another, "entry 1: not signed"),
        (opened_twice, "entry 9: the log must be opened first"),
        (of_unknown_kind, "entry 9: of unknown kind"),
        (without_a_checkpoint, "entry 109: a signed checkpoint"),
        (signed_where_none_is_expected, "entry 3: of a kind that is not signed"),
        (generation_fallen, "entry 9: the vault's generation falls from 7 to 6"),
        (generation_without_a_root, "entry 9: names a generation without"),
        (root_without_a_signature, "entry 9: names a root"),
        (time_elsewhere, "entry 9: its time"),
        (written_loosely, "entry 9: altered"),
        (without_a_field, "entry 9: expected the fields"),
        (name_in_another_field, "entry 9: expected the fields"),
        (name_as_subject, "entry 9: its subject"),
        (name_as_actor, "entry 9: its actor"),
        (name_as_outcome, "entry 9: its outcome"),
        (story_as_reason, "entry 9: its reason"),
        (list_of_people_in_details, "entry 9: its details"),
        (name_as_a_detail, "entry 9: its details"),
        (name_in_a_checkpoint, "entry 8: expected the fields"),
        (name_around_the_key, "entry 1: names a key in another form"),
    ],
)
def test_a_tampered_log_fails_and_says_where(
    folder: Path, capsys: Capture, tamper: Callable[[list[Row]], list[Row]], reason: str
) -> None:
    """The first entry that is wrong, and what is; never what stands in it."""
    rows = rows_of(folder / "log.db")
    rewrite(folder / "log.db", signed_anew(rows))
    assert verdict(folder, capsys)[0] == PASS
    rewrite(folder / "log.db", tamper(rows))
    code, told = verdict(folder, capsys)
    assert code == FAIL
    assert told["reason"].startswith(reason)
    assert "Anna" not in told["reason"]


def test_a_log_without_its_opening_fails(folder: Path, capsys: Capture) -> None:
    """It is no ledger either, and nothing at all does not pass."""
    rows = rows_of(folder / "log.db")
    for left in (signed_anew(rows[1:]), rows[1:], []):
        rewrite(folder / "log.db", left)
        assert verdict(folder, capsys)[0] == FAIL
        assert verdict(folder, capsys, "--head", f"1:{'00' * 32}")[0] == FAIL
