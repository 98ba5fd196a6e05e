"""No file of the vault's folder ever holds a template, a crop, a name or a key in clear."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from tests.client.vault.parts import (
    HOLDER,
    KEY,
    MODEL,
    RECORD,
    crop,
    filled,
    new_vault,
    sample,
    unlocked,
    vector,
)

from veilface_client.vault import Vault, blocks
from veilface_client.vault.cards import parse_card


def files(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder, WAL, shared memory and backups included."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def secrets_of(vault: Vault, cards: list[str]) -> dict[str, bytes]:
    """Return what must not be found: of people 1 and 2, and all keys as they are now."""
    found = {
        "key of the key file": KEY,
        "recovery key": bytes(range(50, 82)),
        "name": b"Ada Lovelace",
        "holder's name": b"Grace Hopper",
        "purpose": RECORD.purpose.encode(),
        "consent": RECORD.consent_version.encode(),
        "retention": RECORD.retention_date.encode(),
        "value": b"a value of no person",
    }
    for number in (1, 2, 3):
        found[f"template {number}"] = vector(number).tobytes()
        found[f"half of template {number}"] = vector(number).tobytes()[:12]
        found[f"template {number}, float32"] = vector(number).astype("<f4").tobytes()
        found[f"row of crop {number}"] = crop(number)[5].tobytes()
    for number, card in enumerate(cards):
        found[f"card {number}"] = parse_card(card)
        found[f"text of card {number}"] = card.encode()
    with vault.session.reading() as view:
        found[f"key of epoch {view.epoch.number}"] = view.epoch.key
        for (number,) in view.connection.execute("SELECT block FROM key_blocks").fetchall():
            block = blocks.open_block(view.connection, view.epoch, number)
            for slot in range(blocks.SLOTS + 1):
                if not block.is_free(slot):
                    found[f"key {slot} of block {number}"] = block.key(slot)
    return found


def assert_hidden(folder: Path, hidden: dict[str, bytes]) -> None:
    for name, content in files(folder).items():
        for what, secret in hidden.items():
            assert secret not in content, f"{what} is in {name}"


def test_nothing_is_in_clear_after_any_operation(tmp_path: Path) -> None:
    """All that was ever a secret is searched for, in all files, after each step."""
    vault = new_vault(tmp_path)
    cards: list[str] = []
    hidden: dict[str, bytes] = {}

    def search() -> None:
        hidden.update(secrets_of(vault, cards))
        assert_hidden(tmp_path, hidden)

    search()
    ada = vault.enrol(RECORD, [sample(1, with_crop=True)]).person
    search()
    grace = vault.enrol(HOLDER, [sample(2, with_crop=True)])
    cards.append(grace.card or "")
    search()
    vault.add(ada, [sample(3, with_crop=True)])
    vault.set_secret("users", b"a value of no person")
    search()
    filled(vault, 256, start=10)  # a segment is written
    search()
    vault.update(ada, replace(RECORD, consent_version="door-9"))
    vault.set_recovery(bytes(range(50, 82)))
    search()
    vault.back_up(tmp_path / "templates.backup", tmp_path / "keys.backup")
    search()
    vault.erase(grace.person)
    search()
    vault.rotate()
    vault.drop_model(MODEL)
    search()
    vault.close()
    assert_hidden(tmp_path, hidden)


def sealed_bytes(vault: Vault, person: str) -> dict[str, bytes]:
    """Return what is stored of a person, as it is stored."""
    with vault.session.reading() as view:
        row = blocks.find_person(view.connection, bytes.fromhex(person))
        assert row is not None
        found = {"record": row.record, "name in the vault": row.person}
        for table, column, key in (
            ("key_blocks", "block", row.block),
            ("segments", "block", row.block),
            ("templates", "position", row.position),
        ):
            query = f"SELECT sealed FROM {table} WHERE {column} = ?"  # noqa: S608 -- a test's
            for number, (sealed,) in enumerate(view.connection.execute(query, (key,))):
                found[f"{table} {number}"] = sealed
        query = "SELECT name, value FROM meta WHERE name IN ('key', 'key-id', 'recovery')"
        found.update(view.connection.execute(query))
    # Pages cut long values into pieces. A wrapped key begins with what stays: whose it is.
    return {f"end of {what}": value[-24:] for what, value in found.items()}


def test_sealed_bytes_of_an_erased_person_are_in_no_file(tmp_path: Path) -> None:
    """Neither the person's rows, nor the block and segment with the key, nor the old wrapped
    key: not in the file, not in the WAL."""
    vault = new_vault(tmp_path)
    vault.set_recovery(bytes(range(50, 82)))
    people = filled(vault, 258)
    gone = sealed_bytes(vault, people[7].person)
    before = b"".join(files(tmp_path).values())
    assert all(secret in before for secret in gone.values())
    vault.erase(people[7].person)
    assert_hidden(tmp_path, gone)
    vault.close()
    assert_hidden(tmp_path, gone)


def test_without_secure_delete_the_search_would_find_something(tmp_path: Path) -> None:
    """The search can fail: a deletion that does not overwrite leaves the bytes."""
    vault = new_vault(tmp_path)
    people = filled(vault, 3)
    gone = sealed_bytes(vault, people[1].person)["end of templates 0"]
    vault.close()
    plain = sqlite3.connect(tmp_path / "vault.db", isolation_level=None)
    plain.execute("PRAGMA secure_delete = OFF")
    plain.execute("DELETE FROM templates WHERE position = 1")
    plain.close()
    assert gone in (tmp_path / "vault.db").read_bytes()
    unlocked(tmp_path / "vault.db").close()
