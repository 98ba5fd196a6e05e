"""A power cut at any moment: who was acknowledged is there, who was erased stays away."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.client.vault.parts import filled, loaded, new_vault, unlocked
from tests.power_cut import Cut, Recording, power_cuts, recorded

from veilface_client.vault import Vault
from veilface_common.errors import VaultError


@dataclass(frozen=True, kw_only=True)
class Told:
    """What somebody was told: the generation, and who is in the vault as of it."""

    generation: int
    people: frozenset[str]


def told(vault: Vault) -> Told:
    people = frozenset(one.person for one in vault.people())
    return Told(generation=vault.state.generation, people=people)


def history(folder: Path) -> tuple[Recording, dict[int, frozenset[str]]]:
    """Record people who come and go; return also who was in the vault at each generation."""
    known: dict[int, frozenset[str]] = {}
    with recorded(folder) as disk:

        def promise(vault: Vault) -> None:
            now = told(vault)
            known[now.generation] = now.people
            disk.promise(now)

        with new_vault(folder) as vault:
            promise(vault)
            people = filled(vault, 2)
            promise(vault)
        with unlocked(folder / "vault.db") as vault:
            vault.erase(people[0].person)
            promise(vault)
            filled(vault, 1, start=2)
            promise(vault)
    return disk, known


def complaint(cut: Cut, known: dict[int, frozenset[str]]) -> str:
    """Return what was lost of what had been promised, "" where nothing was."""
    path = cut.folder / "vault.db"
    if not cut.promised and not path.exists():
        return ""  # a crash leaves a whole vault or none
    newest = cut.promised[-1] if cut.promised else Told(generation=1, people=frozenset())
    assert isinstance(newest, Told)
    try:
        with unlocked(path) as vault:
            now = told(vault)
            if now.generation < newest.generation:
                back = known[now.generation] - newest.people
                return (
                    f"generation {now.generation} of {newest.generation}, {len(back)} erased back"
                )
            if now.people != known[now.generation] or set(loaded(vault)) != now.people:
                return "others than at this generation"
            if [e.generation for e in vault.pending()] != list(range(1, now.generation + 1)):
                return "an entry for the log is lost"
            return "; ".join(found.problem for found in vault.check())
    except VaultError as error:
        return str(error)


@contextmanager
def synchronous(level: str) -> Iterator[None]:
    """Plant a fault: the vault's connections wait for less of the disk than it asks for."""

    class Hasty(sqlite3.Connection):
        def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
            return super().execute(statement.replace("FULL", level), values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Hasty))
        yield


def complaints(folder: Path, disk: Recording, known: dict[int, frozenset[str]]) -> Iterator[str]:
    """Yield of each disk that a cut may leave what is wrong with it, "" for nothing."""
    for cut in power_cuts(disk, folder / "after"):
        words = complaint(cut, known)
        yield words and f"after step {cut.after} with {cut.how} of the rest: {words}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "before").mkdir()
    return tmp_path / "before"


def test_a_power_cut_at_any_step_loses_nothing_acknowledged(folder: Path, tmp_path: Path) -> None:
    """Hundreds of disks: all open, all are whole, none is older than what was promised."""
    tried = list(complaints(tmp_path, *history(folder)))
    assert len(tried) > 300
    assert not any(tried), next(filter(None, tried))


def test_the_drill_sees_that_normal_loses_people(folder: Path, tmp_path: Path) -> None:
    """synchronous=NORMAL, which is commonly advised with WAL, loses who was acknowledged."""
    with synchronous("NORMAL"):
        disk, known = history(folder)
    assert any("generation 1 of 2" in words for words in complaints(tmp_path, disk, known))


def test_the_drill_sees_erased_people_come_back(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With NORMAL, and without emptying the WAL after an erasure, the erased come back."""
    with synchronous("NORMAL"), monkeypatch.context() as patch:
        patch.setattr("veilface_client.vault.store.truncate_wal", lambda _: True)
        disk, known = history(folder)
    assert any("1 erased back" in words for words in complaints(tmp_path, disk, known))
