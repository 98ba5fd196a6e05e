"""The vault as its callers see it: people come, are changed, are found and go."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from tests.client.vault.parts import (
    HOLDER,
    MODEL,
    NEXT_MODEL,
    ORGANISATION,
    PROVIDER,
    RECORD,
    crop,
    filled,
    loaded,
    new_vault,
    person,
    sample,
    unlocked,
    vector,
)

from veilface_client.key_providers.key_file import KeyFileProvider
from veilface_client.key_providers.recovery import RecoveryKey
from veilface_client.vault import Vault, blocks, create_vault
from veilface_common.errors import ConfigError, VaultError, WrongKey

OTHER = KeyFileProvider(bytes(32))


def test_what_was_enrolled_comes_back_after_unlocking(tmp_path: Path) -> None:
    """Record, templates and crops are as they were given; the file is its owner's alone."""
    with new_vault(tmp_path) as vault:
        ada = vault.enrol(RECORD, [sample(1, with_crop=True), sample(2)]).person
    assert (tmp_path / "vault.db").stat().st_mode & 0o777 == 0o600
    with unlocked(tmp_path / "vault.db") as vault:
        assert vault.record(ada) == RECORD
        templates, crops = vault.templates(ada), vault.templates(ada, kind="crop")
        assert [t.array.tobytes() for t in templates] == [vector(1).tobytes(), vector(2).tobytes()]
        assert np.array_equal(crops[0].array, crop(1))
        assert {t.form.model for t in templates} == {MODEL}
        assert vault.find("Ada Lovelace") == [ada]
        assert vault.find("ada lovelace") == []
        assert [(one.person, len(one.forms)) for one in vault.people()] == [(ada, 3)]
        assert not vault.check()


@pytest.mark.parametrize("count", [1, 255, 256, 257, 520])
def test_segments_hold_what_single_templates_hold(tmp_path: Path, count: int) -> None:
    """The fast way, for full blocks, gives what opening one by one gives; so does the rest."""
    with new_vault(tmp_path) as vault:
        people = filled(vault, count)
        slow = {p.person: [t.array.tobytes() for t in vault.templates(p.person)] for p in people}
        assert loaded(vault) == slow
        assert not vault.check()


def test_a_change_in_a_full_block_changes_its_segment(tmp_path: Path) -> None:
    """Added, erased and dropped templates are right in what is searched, at once."""
    with new_vault(tmp_path) as vault:
        people = filled(vault, 257)
        first, second, last = (people[n].person for n in (0, 1, 256))
        vault.add(first, [sample(900), sample(901, NEXT_MODEL)])
        vault.erase(second)
        found = loaded(vault)
        assert found[first] == [vector(0).tobytes(), vector(900).tobytes()]
        assert second not in found
        assert sum(len(s.owners) for s in vault.segments(NEXT_MODEL)) == 1
        assert vault.drop_model(MODEL) == 257
        assert not loaded(vault)
        assert not vault.templates(last)
        assert not vault.check()


def test_a_segment_is_never_sealed_twice_under_one_key(tmp_path: Path) -> None:
    """Its key is random, and new whenever somebody leaves or comes: the old one opens nothing."""
    with new_vault(tmp_path) as vault:
        people = filled(vault, 512)
        keys = []
        for step in (lambda: None, lambda: vault.erase(people[1].person), vault.rotate):
            step()
            with vault.session.reading() as view:
                for number in range(2):
                    block = blocks.open_block(view.connection, view.epoch, number)
                    keys.append(block.segment_key)
        assert keys[1] == keys[3] == keys[5]  # nobody left that block
        assert keys[2] == keys[4]
        assert len({keys[0], keys[1], keys[2]}) == 3


def test_a_holder_opens_only_with_the_card(tmp_path: Path) -> None:
    """The organisation keeps consent without the card, and nothing of the face; nobody else's
    card and no mistyped one helps, and a new key-encryption key leaves the card valid."""
    with new_vault(tmp_path) as vault:
        grace = vault.enrol(HOLDER, [sample(1, with_crop=True)])
        other = vault.enrol(HOLDER, [sample(2)])
        assert grace.card is not None
        assert other.card is not None
        assert grace.card not in repr(grace)
        assert not loaded(vault)
        vault.erase(other.person)
        assert replace(vault.record(grace.person), card_id=None) == HOLDER
        card = grace.card.lower().replace(" ", "-")
        assert vault.templates(grace.person, card)[0].array.tobytes() == vector(1).tobytes()
        for wrong in (None, other.card):
            with pytest.raises(WrongKey, match="card"):
                vault.templates(grace.person, wrong)
        with pytest.raises(VaultError, match="mistyped"):
            vault.templates(grace.person, ("A" if card[0] == "b" else "B") + card[1:])
        vault.add(grace.person, [sample(3)], grace.card)
        assert len(vault.templates(grace.person, grace.card)) == 2
        assert not vault.check()


def test_erased_people_are_gone_and_the_epoch_is_new(tmp_path: Path) -> None:
    """The rows, the key and the pseudonym go; everybody else stays readable."""
    with new_vault(tmp_path) as vault:
        people = filled(vault, 3)
        gone = people[1]
        assert vault.pseudonym(gone.person) == gone.pseudonym
        done = vault.erase(gone.person)
        assert done.pseudonyms == (gone.pseudonym,)
        assert (done.epoch_before, done.epoch_after) == (1, 2)
        assert (done.generation, done.root) == (vault.state.generation, vault.state.root)
        assert done.is_truncated
        assert os.path.getsize(tmp_path / "vault.db-wal") == 0  # noqa: PTH202 -- as SQLite names it
        with pytest.raises(VaultError, match="not in it"):
            vault.record(gone.person)
        with pytest.raises(VaultError, match="not in it"):
            vault.erase(gone.person)
        assert set(loaded(vault)) == {people[0].person, people[2].person}


def test_the_place_of_the_last_person_is_used_again(tmp_path: Path) -> None:
    """A block that empties goes, and one that begins anew is whole."""
    with new_vault(tmp_path) as vault:
        people = filled(vault, 257)
        vault.erase(people[256].person)
        vault.erase(people[255].person)
        assert not vault.check()
        filled(vault, 3, start=500)
        assert len(loaded(vault)) == 258
        vault.erase(*(one.person for one in vault.people()))
        assert not vault.people()
        assert not vault.check()
        filled(vault, 1)
        assert len(loaded(vault)) == 1


def test_due_updated_and_touched(tmp_path: Path) -> None:
    """Retention falls due on its day; a record changes alone; last use is kept by day."""
    with new_vault(tmp_path) as vault:
        ada = vault.enrol(RECORD, [sample(1)]).person
        assert vault.due(date(2027, 2, 28)) == []
        assert vault.due(date(2027, 3, 1)) == [ada]
        later = replace(RECORD, retention_date="2028-01-01", consent_version="door-4")
        vault.update(ada, later)
        assert vault.due(date(2027, 3, 1)) == []
        gone = vault.enrol(RECORD, []).person
        vault.erase(gone)
        vault.touch({ada: date(2026, 4, 1), gone: date(2026, 4, 1)})
        assert vault.record(ada) == replace(later, last_use="2026-04-01")
        assert vault.templates(ada)[0].array.tobytes() == vector(1).tobytes()
        with pytest.raises(ValueError, match="mode"):
            vault.update(ada, replace(later, mode="holder"))
        assert not vault.check()


def test_a_new_provider_opens_and_the_old_one_does_not(tmp_path: Path) -> None:
    """After rotating to another key file, the first opens nothing."""
    path = tmp_path / "vault.db"
    with new_vault(tmp_path) as vault:
        filled(vault, 2)
        assert vault.rotate(OTHER).epoch_after == 2
    with pytest.raises(WrongKey):
        unlocked(path)
    with Vault.unlock(path, OTHER) as vault:
        assert len(loaded(vault)) == 2


def test_recovery_outlives_erasures_until_it_is_replaced(tmp_path: Path) -> None:
    """The recovery key opens every later epoch, cannot be the only key, and can be replaced."""
    path, recovery = tmp_path / "vault.db", bytes(range(100, 132))
    with new_vault(tmp_path) as vault:
        with pytest.raises(VaultError, match="without one"):
            Vault.unlock(path, RecoveryKey(recovery))
        people = filled(vault, 2)
        vault.set_recovery(recovery)
        vault.erase(people[0].person)
    with Vault.unlock(path, RecoveryKey(recovery)) as vault:
        with pytest.raises(VaultError, match="every day"):
            vault.erase(people[1].person)
        assert len(loaded(vault)) == 1
        vault.rotate(OTHER)
    with Vault.unlock(path, OTHER) as vault:
        vault.set_recovery(bytes(range(32)))
        with pytest.raises(WrongKey):
            Vault.unlock(path, RecoveryKey(recovery))
        vault.set_recovery(None)
        with pytest.raises(VaultError, match="without one"):
            Vault.unlock(path, RecoveryKey(bytes(range(32))))


def test_entries_wait_until_the_log_holds_them(tmp_path: Path) -> None:
    """Each change leaves one entry; it comes again after a crash, and goes once acknowledged."""
    path = tmp_path / "vault.db"
    with new_vault(tmp_path) as vault:
        ada = vault.enrol(RECORD, [sample(1)])
        first, second = vault.pending()
        assert (first.action, second.action) == ("create", "enrol")
        assert second.pseudonyms == (ada.pseudonym,)
        assert (second.generation, second.root) == (2, vault.state.root)
        vault.acknowledge(1)
        assert vault.pending() == [second]
    with unlocked(path) as vault:
        assert vault.pending() == [second]
        vault.rotate()
        assert [entry.action for entry in vault.pending()] == ["enrol", "rotate"]
        vault.acknowledge(3)
    with unlocked(path) as vault:
        assert vault.pending() == []


def test_values_are_kept_and_outlive_a_new_epoch(tmp_path: Path) -> None:
    """A value comes back as it was last written; of an unknown name there is none."""
    with new_vault(tmp_path) as vault:
        vault.set_secret("users", b"first")
        vault.set_secret("users", b"second")
        vault.rotate()
    with unlocked(tmp_path / "vault.db") as vault:
        assert vault.secret("users") == b"second"
        assert vault.secret("others") is None


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    """Nothing there, another vault's key, another kind of file: each has its own words."""
    with pytest.raises(VaultError, match="got none"):
        unlocked(tmp_path / "vault.db")
    new_vault(tmp_path).close()
    with pytest.raises(WrongKey):
        Vault.unlock(tmp_path / "vault.db", OTHER)
    with pytest.raises(VaultError, match="no vault at"):
        create_vault(tmp_path / "vault.db", ORGANISATION, PROVIDER)
    (tmp_path / "text").write_text("no database at all\n" * 100)
    with pytest.raises(VaultError, match="not a database"):
        unlocked(tmp_path / "text")


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    """A date that is none, a vector not of unit length, a name that no person has."""
    with pytest.raises(ConfigError, match="YYYY-MM-DD"):
        replace(RECORD, retention_date="next year")
    with new_vault(tmp_path) as vault:
        with pytest.raises(ValueError, match="unit length"):
            vault.enrol(RECORD, [replace(sample(1), vector=2 * vector(1))])
        with pytest.raises(ConfigError, match="16384"):
            vault.enrol(replace(RECORD, purpose="x" * 20_000), [])
        with pytest.raises(VaultError, match="not in it"):
            vault.record("no hex")
        assert not vault.people()
        assert vault.state.generation == 1


def test_two_open_vaults_see_each_other(tmp_path: Path) -> None:
    """What one commits the other reads, and a new epoch of one is opened by the other."""
    with new_vault(tmp_path) as first, unlocked(tmp_path / "vault.db") as second:
        ada = first.enrol_all([person(1)])[0].person
        assert second.record(ada).name == "Person 1"
        bob = second.enrol_all([person(2)])[0].person
        first.erase(ada)
        assert set(loaded(second)) == {bob}
        second.erase(bob)
        assert not loaded(first)
        assert not first.check()
