"""Whoever can write the vault's file, without the key: nothing passes, and `check` says what."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from hashlib import sha256
from pathlib import Path

import pytest
from tests.client.vault.parts import (
    HOLDER,
    MODEL,
    PROVIDER,
    RECORD,
    filled,
    loaded,
    new_vault,
    person,
    sample,
    unlocked,
)

from veilface_client.vault import Vault, blocks, roots
from veilface_common.errors import VaultError

Attack = Callable[[sqlite3.Connection], object]


@contextmanager
def attacked(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a plain connection to the file of a closed vault."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()


def problems(path: Path) -> set[str]:
    """Return what `check` finds: (what, problem) in words."""
    with Vault.unsafe_unlock(path, PROVIDER) as vault:
        return {f"{found.what}: {found.problem}" for found in vault.check()}


def swap(table: str, columns: str, key: str) -> Attack:
    """Exchange columns of the first two rows of a table."""

    def attack(file: sqlite3.Connection) -> None:
        first, second = file.execute(
            f"SELECT {key}, {columns} FROM {table} ORDER BY {key} LIMIT 2"  # noqa: S608 -- a test's
        ).fetchall()
        marks = ", ".join(f"{name} = ?" for name in columns.split(", "))
        file.execute(f"UPDATE {table} SET {marks} WHERE {key} = ?", (*second[1:], first[0]))  # noqa: S608
        file.execute(f"UPDATE {table} SET {marks} WHERE {key} = ?", (*first[1:], second[0]))  # noqa: S608

    return attack


def run(statement: str) -> Attack:
    """Run one statement, foreign keys or not."""
    return lambda file: file.execute(statement)


def swap_people(file: sqlite3.Connection) -> None:
    """Exchange the places of two people, with all their templates."""
    file.execute("UPDATE templates SET position = 1 - position WHERE position < 2")
    for old, new in ((0, 900), (1, 0), (900, 1)):
        file.execute("UPDATE people SET position = ? WHERE position = ?", (new, old))


ATTACKS: dict[str, Attack] = {
    "swapped templates": swap("templates", "digest, sealed", "template"),
    "swapped template owners": swap("templates", "position", "template"),
    "swapped records": swap("people", "record", "position"),
    "swapped people": swap_people,
    "swapped key blocks": swap("key_blocks", "content, leaf, sealed", "block"),
    "deleted template": run("DELETE FROM templates WHERE template = 2"),
    "deleted person": run("DELETE FROM people WHERE position = 1"),
    "deleted person and templates": lambda file: [
        file.execute(f"DELETE FROM {table} WHERE position = 1")  # noqa: S608 -- a test's
        for table in ("templates", "people")
    ],
    "deleted last person": run("DELETE FROM people WHERE position = 257"),
    "deleted key block": run("DELETE FROM key_blocks WHERE block = 1"),
    "deleted digests": run("DELETE FROM block_digests WHERE block = 0"),
    "deleted segment": run("DELETE FROM segments WHERE block = 0"),
    "deleted value": run("DELETE FROM sealed_values"),
    "copied template": run(
        "INSERT INTO templates SELECT 9000, position, form, digest, sealed "
        "FROM templates WHERE template = 1"
    ),
    "holder made identifiable": run(
        "UPDATE people SET mode = 'organisation' WHERE mode = 'holder'"
    ),
    "person hidden from searches": run("UPDATE people SET mode = 'holder' WHERE position = 257"),
    "other model": run("UPDATE forms SET model = 'ff'"),
    "other alignment": run("UPDATE forms SET alignment = 'haar'"),
    "other organisation": run(
        "UPDATE meta SET value = CAST(replace(value, 'Museum', 'Harbour') AS BLOB) "
        "WHERE name = 'state'"
    ),
    "other generation": run(
        "UPDATE meta SET value = CAST(replace(value, '\"generation\":3', '\"generation\":9') "
        "AS BLOB) WHERE name = 'state'"
    ),
    "emptied outbox entry": run("UPDATE outbox SET sealed = zeroblob(60)"),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full block and a begun one, a holder in the first."""
    folder = tmp_path_factory.mktemp("original")
    with new_vault(folder) as vault:
        newcomers = [person(number) for number in range(258)]
        newcomers[5] = type(newcomers[5])(record=HOLDER, samples=[sample(5)])
        vault.enrol_all(newcomers)
        vault.set_secret("users", b"nobody")
    return folder / "vault.db"


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    """A copy to attack."""
    return Path(shutil.copy(original, tmp_path))


def test_the_original_is_whole(path: Path) -> None:
    """What follows fails for the attack's sake alone."""
    assert not problems(path)
    with unlocked(path) as vault:
        assert len(loaded(vault)) == 257


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_reported_and_nothing_wrong_is_accepted(
    path: Path, original: Path, name: str
) -> None:
    """Each attack is found by `check`; reading gives what is right or an error."""
    with unlocked(original) as vault:
        right = loaded(vault)
        records = {one.person: one.record for one in vault.people()}
    with attacked(path) as file:
        ATTACKS[name](file)
    assert problems(path), name
    with suppress(VaultError), unlocked(path) as vault:
        with suppress(VaultError):
            assert loaded(vault) == right
        for known, record in records.items():
            with suppress(VaultError):
                assert vault.record(known) == record
            with suppress(VaultError):
                templates = [one.array.tobytes() for one in vault.templates(known)]
                assert templates == right[known]


@pytest.mark.parametrize("name", ["deleted person", "deleted template", "swapped people"])
def test_attack_is_not_written_into_the_next_root(path: Path, name: str) -> None:
    """A change after an attack does not vouch for it: `check` still finds it."""
    with attacked(path) as file:
        ATTACKS[name](file)
    with suppress(VaultError), unlocked(path) as vault:
        filled(vault, 1, start=700)
        vault.rotate()
    assert problems(path)


def test_attack_on_a_person_is_not_digested_again(tmp_path: Path) -> None:
    """Who lacks a template can be changed by nothing that would vouch for the rest."""
    with new_vault(tmp_path) as vault:
        ada = vault.enrol(RECORD, [sample(1), sample(2)]).person
    with attacked(tmp_path / "vault.db") as file:
        file.execute("DELETE FROM templates WHERE template = 2")
    changes: tuple[Callable[[Vault], object], ...] = (
        lambda vault: vault.add(ada, [sample(3)]),
        lambda vault: vault.update(ada, RECORD),
        lambda vault: vault.touch({ada: date(2026, 5, 1)}),
        lambda vault: vault.drop_model(MODEL),
    )
    with unlocked(tmp_path / "vault.db") as vault:
        for change in changes:
            with pytest.raises(VaultError, match="as they were written"):
                change(vault)
        assert {found.what for found in vault.check()} == {"person"}


def test_digests_made_anew_do_not_match_the_seal(path: Path) -> None:
    """Deleting a person with all digests and the root put right fails at the key's seal alone."""
    with attacked(path) as file:
        ATTACKS["deleted last person"](file)
        digests = bytearray(
            file.execute("SELECT digests FROM block_digests WHERE block = 1").fetchone()[0]
        )
        digests[32:64] = bytes(32)
        file.execute("UPDATE block_digests SET digests = ? WHERE block = 1", (bytes(digests),))
        content = blocks.content_of(file, 1, bytes(digests))
        epoch, sealed = file.execute(
            "SELECT epoch, sealed FROM key_blocks WHERE block = 1"
        ).fetchone()
        leaf = blocks.leaf_of(1, epoch, sealed, content)
        file.execute("UPDATE key_blocks SET content = ?, leaf = ? WHERE block = 1", (content, leaf))
        state = file.execute("SELECT value FROM meta WHERE name = 'state'").fetchone()[0]
        start = state.index(b'"root":"') + 8
        forged = state[:start] + roots.root_of(file).encode() + state[start + 64 :]
        file.execute("UPDATE meta SET value = ? WHERE name = 'state'", (forged,))
    assert any(problem.startswith("state:") for problem in problems(path))
    with pytest.raises(VaultError, match="the key holder wrote"):
        unlocked(path)


def test_rolled_back_person_is_reported(tmp_path: Path) -> None:
    """An older record and template of one person, put back under the same key, does not pass."""
    with new_vault(tmp_path) as vault:
        ada = vault.enrol(RECORD, [sample(1)]).person
        old = vault.session._connection.execute("SELECT record FROM people").fetchone()
        vault.update(ada, type(RECORD)(**{**RECORD.__dict__, "retention_date": "2026-12-31"}))
    with attacked(tmp_path / "vault.db") as file:
        file.execute("UPDATE people SET record = ?", old)
    with unlocked(tmp_path / "vault.db") as vault:
        with pytest.raises(VaultError, match="as they were written"):
            vault.record(ada)
        with pytest.raises(VaultError, match="as they were written"):
            vault.due(date(2030, 1, 1))
        (found,) = vault.check()
        assert (found.what, found.where) == ("person", f"person {ada}")


def test_rolled_back_file_is_known_by_the_log(tmp_path: Path) -> None:
    """An old copy agrees with itself; only the generation that the log holds tells."""
    path = tmp_path / "vault.db"
    with new_vault(tmp_path) as vault:
        people = filled(vault, 2)
    shutil.copy(path, tmp_path / "old.db")
    with unlocked(path) as vault:
        done = vault.erase(people[0].person)
        assert not vault.check(done.generation, done.root)
        (other,) = vault.check(done.generation, "00" * 32)
        assert other.what == "rolled back"
        assert not vault.check(0)  # all since is pending
        vault.acknowledge(done.generation)
        vault.touch({})
        assert {found.what for found in vault.check(1)} == {"log"}
    shutil.copy(tmp_path / "old.db", path)
    with unlocked(path) as vault:
        assert not vault.check()
        (found,) = vault.check(done.generation, done.root)
        assert found.what == "rolled back"
        assert "generation 3" in found.problem


def test_planted_trigger_is_refused(path: Path) -> None:
    """A trigger that would undo erasures does not run: the file is refused."""
    with attacked(path) as file:
        file.execute("CREATE TRIGGER t BEFORE DELETE ON people BEGIN SELECT RAISE(IGNORE); END")
    with pytest.raises(VaultError, match="own tables"):
        unlocked(path)


def test_forged_outbox_entry_is_not_handed_out(path: Path) -> None:
    """What the access log signs was written by somebody with the key."""
    with attacked(path) as file:
        file.execute("INSERT INTO outbox VALUES (9, ?)", (sha256(b"forged").digest() * 4,))
    with unlocked(path) as vault, pytest.raises(VaultError, match="altered or foreign"):
        vault.pending()


def test_another_format_is_refused(path: Path) -> None:
    """A file of a later release is named as such, one of another program too."""
    with attacked(path) as file:
        file.execute("PRAGMA user_version = 2")
    with pytest.raises(VaultError, match="format 2"):
        unlocked(path)
    with attacked(path) as file:
        file.execute("PRAGMA application_id = 1")
    with pytest.raises(VaultError, match="another kind"):
        unlocked(path)
