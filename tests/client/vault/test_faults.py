"""Killed processes, full disks, flipped bits, two writers: nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.client.vault.parts import (
    HOLDER,
    PROVIDER,
    filled,
    loaded,
    new_vault,
    person,
    sample,
    unlocked,
)

from veilface_client.vault import Vault
from veilface_common.errors import VaultError

Report = Callable[[str], None]


@contextmanager
def child(work: Callable[[Report], None]) -> Iterator[tuple[int, BinaryIO]]:
    """Do `work` in a process of its own; give its number and what it reports, line by line."""
    reading, writing = os.pipe()
    number = os.fork()
    if number == 0:
        try:
            os.close(reading)
            work(lambda line: os.write(writing, f"{line}\n".encode()) and None)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as lines:
        yield number, lines
    os.waitpid(number, 0)


def come_and_go(path: Path, start: int) -> Callable[[Report], None]:
    """Return work that enrols people and erases every third, reporting what is done."""

    def work(report: Report) -> None:
        vault = unlocked(path)
        for number in range(start, start + 1000):
            enrolled = filled(vault, 1, start=number)[0].person
            report(f"+{enrolled}")
            if number % 3 == 0:
                report(f"?{enrolled}")
                vault.erase(enrolled)
                report(f"-{enrolled}")

    return work


def follow(line: str, inside: set[str], outside: set[str]) -> None:
    """Take in what a child reported: done (+, -) or about to be (?), so that either may be."""
    sign, name = line[0], line[1:]
    if sign == "+":
        inside.add(name)
    else:
        inside.discard(name)
    if sign == "-":
        outside.add(name)


def test_sixty_kills_lose_nothing_acknowledged(tmp_path: Path) -> None:
    """kill -9 at any moment: who was acknowledged is there, who was erased is not, all opens."""
    new_vault(tmp_path).close()
    path, chance = tmp_path / "vault.db", random.Random(1)  # noqa: S311 -- no secret
    inside: set[str] = set()
    outside: set[str] = set()
    for attempt in range(60):
        with child(come_and_go(path, 1000 * attempt)) as (number, lines):
            for _ in range(chance.randint(1, 6)):
                follow(lines.readline().decode().strip(), inside, outside)
            time.sleep(chance.random() * 0.02)
            os.kill(number, signal.SIGKILL)
            for line in lines.read().decode().splitlines():
                follow(line, inside, outside)
        with unlocked(path) as vault:
            found = {one.person for one in vault.people()}
            assert inside <= found
            assert not outside & found
            # One more was done, and the child was killed before it said so
            assert len(found - inside) <= 1
            inside = found
            assert set(loaded(vault)) == found
            assert not vault.check()
    assert len(outside) > 20


def test_full_disk_is_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    """Where no file may grow further: a hint, and everybody who was acknowledged."""
    new_vault(tmp_path).close()
    path = tmp_path / "vault.db"

    def work(report: Report) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
        vault = unlocked(path)
        try:
            for number in range(10_000):
                report(filled(vault, 1, start=number)[0].person)
        except VaultError as error:
            report(f"! {error.hint}")

    with child(work) as (_, lines):
        *told, last = lines.read().decode().splitlines()
    assert "make room" in last
    assert len(told) > 10
    with unlocked(path) as vault:
        assert {one.person for one in vault.people()} >= set(told)
        assert not vault.check()
        filled(vault, 1)


def test_three_hundred_flipped_bits_change_no_answer(tmp_path: Path) -> None:
    """Whatever bit is flipped, what is read is right or refused, and `check` reports it."""
    with new_vault(tmp_path) as vault:
        filled(vault, 24)
        vault.enrol(HOLDER, [sample(50)])
        vault.set_secret("users", b"nobody")
        right = answers(vault)
    path, chance = tmp_path / "vault.db", random.Random(7)  # noqa: S311 -- no secret
    content = path.read_bytes()
    outcomes = []
    for _ in range(300):
        damaged, place = bytearray(content), chance.randrange(8 * len(content))
        damaged[place // 8] ^= 1 << place % 8
        (tmp_path / "flipped.db").write_bytes(damaged)
        outcomes.append(outcome(tmp_path / "flipped.db", right))
        for leftover in tmp_path.glob("flipped.db-*"):
            leftover.unlink()
    assert "accepted" not in outcomes
    assert outcomes.count("reported") + outcomes.count("refused") > 100


def answers(vault: Vault) -> dict[str, object]:
    """Return all that can be read without a card."""
    people = vault.people()
    return {
        "templates": loaded(vault),
        "people": people,
        "users": vault.secret("users"),
        "single": {one.person: vault.record(one.person) for one in people},
    }


def outcome(path: Path, right: dict[str, object]) -> str:
    """Say what became of a damaged vault."""
    try:
        with Vault.unsafe_unlock(path, PROVIDER) as vault:
            if vault.check():
                return "reported"
        with unlocked(path) as vault:
            return "harmless" if answers(vault) == right else "accepted"
    except VaultError:
        return "refused"


def test_two_writers_at_once_both_succeed(tmp_path: Path) -> None:
    """Two processes enrol and erase in one file: each does all it wanted, and it is whole."""
    new_vault(tmp_path).close()
    path = tmp_path / "vault.db"

    def work(report: Report) -> None:
        vault = unlocked(path)
        for number in range(12):
            enrolled = filled(vault, 1, start=number)[0].person
            report(f"+{enrolled}")
            if number % 4 == 3:
                vault.erase(enrolled)
                report(f"-{enrolled}")

    inside: set[str] = set()
    outside: set[str] = set()
    with child(work) as (_, first), child(work) as (_, second):
        for line in (first.read() + second.read()).decode().splitlines():
            follow(line, inside, outside)
    assert (len(inside), len(outside)) == (18, 6)
    with unlocked(path) as vault:
        assert set(loaded(vault)) == inside
        assert not vault.check()
        assert vault.state.generation == 1 + 24 + 6


def test_reader_in_the_way_of_an_erasure_is_said_and_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody reads an older state the WAL stays; the next change or start empties it."""
    monkeypatch.setattr("veilface_client.vault.store.TRUNCATE_SECONDS", 0.05)
    path, wal = tmp_path / "vault.db", tmp_path / "vault.db-wal"
    with new_vault(tmp_path) as vault:
        people = filled(vault, 3)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM people").fetchone()
        assert not vault.erase(people[0].person).is_truncated
        assert wal.stat().st_size > 0
        assert {found.what for found in vault.check()} == {"wal"}
        filled(vault, 1, start=9)
        reader.execute("COMMIT")
        filled(vault, 1, start=10)
        assert wal.stat().st_size == 0
        assert not vault.check()
        reader.close()


def test_change_that_fails_midway_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error inside a change leaves the vault, key and state as they were."""
    with new_vault(tmp_path) as vault:
        people = filled(vault, 2)
        before, found = vault.state, loaded(vault)

        def fails(*_: object) -> None:
            raise VaultError("planted")

        with monkeypatch.context() as patch:
            patch.setattr("veilface_client.vault.changes.write_state", fails)
            with pytest.raises(VaultError, match="planted"):
                vault.erase(people[0].person)
            with pytest.raises(VaultError, match="planted"):
                vault.enrol_all([person(5)])
        assert (vault.state, loaded(vault)) == (before, found)
        vault.erase(people[0].person)
        assert not vault.check()
