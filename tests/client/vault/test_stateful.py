"""Whatever order people come, change and go in, the vault agrees with a dictionary."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from tests.client.vault.parts import (
    HOLDER,
    MODEL,
    NEXT_MODEL,
    RECORD,
    loaded,
    new_vault,
    sample,
    unlocked,
    vector,
)

from veilface_client.vault import Newcomer, Record, blocks, segments


@dataclass(kw_only=True)
class Known:
    """What the dictionary knows of a person."""

    record: Record
    card: str | None
    numbers: dict[str, list[int]] = field(default_factory=dict)  # of samples, by model


class VaultMachine(RuleBasedStateMachine):
    """Blocks of 4, so that they fill, empty and begin anew."""

    people = Bundle("people")

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for place in (blocks, segments):
            self.patch.setattr(place, "SLOTS", 4)
        self.patch.setattr(blocks, "_SEGMENTS", 4)
        self.folder = Path(tempfile.mkdtemp())
        self.vault = new_vault(self.folder)
        self.known: dict[str, Known] = {}
        self.generation = 1

    def teardown(self) -> None:
        assert not self.vault.check(self.generation, self.vault.state.root)
        self.vault.close()
        self.patch.undo()
        shutil.rmtree(self.folder)

    @rule(target=people, numbers=st.lists(st.integers(0, 99), max_size=2), holder=st.booleans())
    def enrol(self, numbers: list[int], holder: bool) -> str:  # noqa: FBT001 -- a rule's
        record = HOLDER if holder else RECORD
        newcomer = Newcomer(record=record, samples=[sample(number) for number in numbers])
        (enrolled,) = self.vault.enrol_all([newcomer])
        assert (enrolled.card is not None) == holder
        known = Known(record=record, card=enrolled.card, numbers={MODEL: list(numbers)})
        self.known[enrolled.person] = known
        self.generation += 1
        return enrolled.person

    @rule(person=people, number=st.integers(100, 199), model=st.sampled_from([MODEL, NEXT_MODEL]))
    def add(self, person: str, number: int, model: str) -> None:
        self.vault.add(person, [sample(number, model)], self.known[person].card)
        self.known[person].numbers.setdefault(model, []).append(number)
        self.generation += 1

    @rule(person=people, version=st.text(max_size=300))
    def update(self, person: str, version: str) -> None:
        record = replace(self.known[person].record, consent_version=version)
        self.vault.update(person, record)
        self.known[person].record = record
        self.generation += 1

    @rule(person=people, day=st.dates(date(2026, 1, 1), date(2027, 1, 1)))
    def touch(self, person: str, day: date) -> None:
        self.vault.touch({person: day})
        known = self.known[person]
        known.record = replace(known.record, last_use=day.isoformat())
        self.generation += 1

    @rule(person=consumes(people))
    def erase(self, person: str) -> None:
        self.vault.erase(person)
        del self.known[person]
        self.generation += 1

    @rule()
    def rotate(self) -> None:
        self.vault.rotate()
        self.generation += 1

    @rule(model=st.sampled_from([MODEL, NEXT_MODEL]))
    def drop(self, model: str) -> None:
        self.vault.drop_model(model)
        for known in self.known.values():
            known.numbers.pop(model, None)
        self.generation += 1

    @rule()
    def close_and_open(self) -> None:
        self.vault.close()
        self.vault = unlocked(self.folder / "vault.db")

    @invariant()
    def agrees(self) -> None:
        assert self.vault.state.generation == self.generation
        records = {one.person: replace(one.record, card_id=None) for one in self.vault.people()}
        assert records == {person: known.record for person, known in self.known.items()}
        assert loaded(self.vault) == {
            person: [vector(number).tobytes() for number in known.numbers[MODEL]]
            for person, known in self.known.items()
            if known.card is None and known.numbers.get(MODEL)
        }
        for person, known in self.known.items():
            found = [
                (one.form.model, one.array.tobytes())
                for one in self.vault.templates(person, known.card)
            ]
            assert sorted(found) == sorted(
                (model, vector(number).tobytes())
                for model, numbers in known.numbers.items()
                for number in numbers
            )


TestVault = VaultMachine.TestCase
TestVault.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
