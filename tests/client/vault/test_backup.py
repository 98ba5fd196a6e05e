"""Backups: two parts, made while others write, that come back whole and bring nobody back."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest
from tests.client.vault.parts import (
    HOLDER,
    ORGANISATION,
    PROVIDER,
    filled,
    loaded,
    new_vault,
    person,
    sample,
    unlocked,
    vector,
)

from veilface_client.key_providers.key_file import KeyFileProvider
from veilface_client.vault import Vault, create_vault, restore
from veilface_common.errors import VaultError, WrongKey


def back_up(vault: Vault, folder: Path, name: str) -> tuple[Path, Path]:
    parts = folder / f"{name}.templates", folder / f"{name}.keys"
    vault.back_up(*parts)
    return parts


def test_backup_made_while_writing_comes_back_and_verifies(tmp_path: Path) -> None:
    """People are enrolled all the time; the backup is of one moment, and whole."""
    with new_vault(tmp_path) as vault:
        filled(vault, 300)
        done = threading.Event()
        added: list[str] = []

        def enrol() -> None:
            while not done.is_set():
                added.extend(one.person for one in filled(vault, 1, start=1000 + len(added)))

        thread = threading.Thread(target=enrol)
        thread.start()
        try:
            while not added:
                done.wait(0.001)
            parts = back_up(vault, tmp_path, "a")
        finally:
            done.set()
            thread.join()
        everybody = loaded(vault)
    assert all(part.stat().st_mode & 0o777 == 0o600 for part in parts)
    found = restore(*parts, tmp_path / "restored.db", PROVIDER)
    assert found.people >= 300
    assert (found.erased_since, found.without_rows, found.templates_lost) == (0, 0, 0)
    with unlocked(tmp_path / "restored.db") as restored:
        assert not restored.check()
        assert loaded(restored).items() <= everybody.items()
        assert len(loaded(restored)) == found.people
        filled(restored, 2, start=9000)
        assert not restored.check()


def test_older_templates_with_newer_keys_bring_nobody_back(tmp_path: Path) -> None:
    """Who was erased in between stays away; who came in between must come again."""
    with new_vault(tmp_path) as vault:
        people = filled(vault, 3)
        grace = vault.enrol(HOLDER, [sample(50)])
        old, old_keys = back_up(vault, tmp_path, "old")
        vault.erase(people[0].person)
        filled(vault, 1, start=7)
        new, new_keys = back_up(vault, tmp_path, "new")
        generation = vault.state.generation
    found = restore(old, new_keys, tmp_path / "a.db", PROVIDER, after=100)
    assert (found.people, found.erased_since, found.without_rows) == (3, 1, 1)
    with unlocked(tmp_path / "a.db") as vault:
        assert people[0].person not in loaded(vault)
        assert vault.templates(grace.person, grace.card)[0].array.tobytes() == vector(50).tobytes()
        assert not vault.check()
        assert vault.state.generation == 101
        assert vault.pending()[-1].action == "restore"
    found = restore(new, old_keys, tmp_path / "b.db", PROVIDER)
    assert (found.people, found.erased_since, found.without_rows) == (3, 1, 1)
    # Honestly: whoever kept the keys from before an erasure, and what unwraps them, has both.
    found = restore(old, old_keys, tmp_path / "c.db", PROVIDER)
    assert found.people == 4
    with unlocked(tmp_path / "c.db") as vault:
        (rolled,) = vault.check(generation + 1)
        assert rolled.what == "rolled back"


def test_neither_part_opens_without_the_other(tmp_path: Path) -> None:
    """The part of templates holds no key, sealed or not, and that of keys no template."""
    with new_vault(tmp_path) as vault:
        filled(vault, 257)
        templates, keys = back_up(vault, tmp_path, "a")
        connection = vault.session._connection
        query = "SELECT sealed FROM {}"
        kept = [row[0] for row in connection.execute(query.format("key_blocks"))]
        kept += [row[0] for row in connection.execute("SELECT value FROM meta WHERE name = 'key'")]
        rows = [row[0] for row in connection.execute(query.format("templates"))]
        rows += [row[0] for row in connection.execute("SELECT record FROM people")]
    assert all(secret[:24] in keys.read_bytes() for secret in kept)
    assert not any(secret[:24] in templates.read_bytes() for secret in kept)
    assert all(row[:24] in templates.read_bytes() for row in rows)
    assert not any(row[:24] in keys.read_bytes() for row in rows)


def test_damaged_templates_are_left_out_and_counted(tmp_path: Path) -> None:
    """A template that does not open is dropped; its person comes back with the others."""
    with new_vault(tmp_path) as vault:
        filled(vault, 3)
        sealed = vault.session._connection.execute(
            "SELECT sealed FROM templates WHERE template = 2"
        ).fetchone()[0]
        templates, keys = back_up(vault, tmp_path, "a")
    content = templates.read_bytes()
    assert content.count(sealed) == 1
    templates.write_bytes(content.replace(sealed, bytes(len(sealed))))
    found = restore(templates, keys, tmp_path / "restored.db", PROVIDER)
    assert (found.people, found.templates_lost) == (3, 1)
    with unlocked(tmp_path / "restored.db") as vault:
        assert not vault.check()


def test_swapped_templates_are_left_out(tmp_path: Path) -> None:
    """Templates that change places in a backup, digests and all, come back to nobody."""
    with new_vault(tmp_path) as vault:
        filled(vault, 3)
        templates, keys = back_up(vault, tmp_path, "a")
    part = sqlite3.connect(templates, isolation_level=None)
    part.execute("UPDATE templates SET position = 1 - position WHERE position < 2")
    part.close()
    found = restore(templates, keys, tmp_path / "restored.db", PROVIDER)
    assert (found.people, found.templates_lost) == (3, 2)
    with unlocked(tmp_path / "restored.db") as vault:
        assert len(loaded(vault)) == 1


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    """Another organisation's part, another key, the parts exchanged: nothing is restored."""
    with new_vault(tmp_path) as vault:
        filled(vault, 1)
        templates, keys = back_up(vault, tmp_path, "a")
    with create_vault(tmp_path / "other.db", "Harbour", PROVIDER) as other:
        other.enrol_all([person(1)])
        foreign, _ = back_up(other, tmp_path, "b")
    assert ORGANISATION != "Harbour"
    target = tmp_path / "restored.db"
    with pytest.raises(VaultError, match="parts of two"):
        restore(foreign, keys, target, PROVIDER)
    with pytest.raises(VaultError, match="own tables"):
        restore(keys, templates, target, PROVIDER)
    with pytest.raises(WrongKey):
        restore(templates, keys, target, KeyFileProvider(bytes(32)))
    assert not target.exists()
    restore(templates, keys, target, PROVIDER)
    with pytest.raises(VaultError, match="got a file"):
        restore(templates, keys, target, PROVIDER)


def test_backup_replaces_nothing_and_leaves_no_draft(tmp_path: Path) -> None:
    """A name that is taken is refused, whichever part's, and no half part stays."""
    with new_vault(tmp_path) as vault:
        templates, keys = back_up(vault, tmp_path, "a")
        templates.unlink()
        with pytest.raises(VaultError, match="got a file"):
            vault.back_up(templates, keys)
    assert not templates.exists()
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".new")]  # noqa: PTH208 -- hidden too
