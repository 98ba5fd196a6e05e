"""A gallery leaves the house: by two people, written down, and it answers as the house does."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.client.recognition.desks import (
    ADMIN,
    OFFICER,
    OPERATOR,
    Clock,
    WordDesk,
    enrol,
    kinds,
    vector_of,
)

from veilface_client.commands.model_export import add_export
from veilface_client.edge.gallery import EdgeGallery, open_gallery
from veilface_client.recognition import edge_acts, matching
from veilface_client.recognition.answers import ABOVE, BELOW, TOO_NEAR, Line, decide
from veilface_client.roles import TERMINAL, Actor
from veilface_common.errors import AccessDenied, ConfigError, DataError

KEY = bytes(range(32))
MODEL = "ab" * 32
SECOND = Actor(name="officer-2", role="privacy-officer")


def exported(desk: WordDesk, days: int = 7) -> EdgeGallery:
    made = edge_acts.export_gallery(desk, OFFICER, SECOND, model=MODEL, key=KEY, days=days)
    return open_gallery(made.content, KEY, MODEL, desk.clock().date())


def answer(gallery: EdgeGallery, word: str) -> tuple[str | None, str]:
    found = gallery.likest(vector_of(word, 128), 2)
    line = Line(threshold=gallery.terms.threshold, strong=1)
    reason = decide([cosine for _, cosine in found], line, gallery.terms.margin)
    return (found[0][0] if reason == ABOVE else None), reason


def test_it_answers_as_the_house_does(desk: WordDesk) -> None:
    """The same names, the same refusals, the same reasons, for people known and unknown."""
    enrol(desk, "ada", "bob", "cleo")
    words = [f"{name}/{take}" for name in ("ada", "bob", "cleo", "stranger") for take in range(3)]
    seen = set()
    for margin in (0.02, 0.99):  # the second is more than anybody has
        desk.settings = replace(desk.settings, margin=margin)
        gallery = exported(desk)
        for word in words:
            expected = matching.identify(desk, TERMINAL, word.encode())
            assert answer(gallery, word) == (expected.answer, expected.reason)
            seen.add(expected.reason)
    assert seen == {ABOVE, BELOW, TOO_NEAR}


def test_one_person_alone_takes_no_gallery_out(desk: WordDesk) -> None:
    """Nor the terminal, nor two of whom one may not; each refusal is in the log."""
    enrol(desk, "ada")
    for actor, second in (
        (TERMINAL, None),
        (OFFICER, None),
        (OFFICER, OFFICER),
        (OFFICER, OPERATOR),
        (ADMIN, OFFICER),
    ):
        with pytest.raises(AccessDenied):
            edge_acts.export_gallery(desk, actor, second, model=MODEL, key=KEY, days=7)
        with pytest.raises(AccessDenied):
            edge_acts.export_model(desk, actor, "fp32", with_gallery=True, second=second)
    assert kinds(desk)[-10:] == ["refused"] * 10


def test_the_model_alone_is_for_administrators(desk: WordDesk) -> None:
    """Who matches faces or keeps consents takes no model out."""
    for actor in (OPERATOR, OFFICER):
        with pytest.raises(AccessDenied):
            edge_acts.export_model(desk, actor, "fp32", second=SECOND)


def test_it_is_written_down_without_names(desk: WordDesk) -> None:
    """Who, with whom, how many people, until when; and no name."""
    enrol(desk, "ada", "bob")
    exported(desk, days=3)
    entry = list(desk.log.entries())[-1]
    assert entry.kind == "exported"
    body = json.loads(entry.body)
    assert (body["actor"], body["second"]) == ("officer", "officer-2")
    assert (body["details"]["persons"], body["details"]["expires"]) == (2, "2026-03-04")
    assert "ada" not in entry.body


def test_holders_and_whoever_is_due_stay_at_home(desk: WordDesk, clock: Clock) -> None:
    """A holder's templates open with the card alone; who is due is not to be known any more."""
    enrol(desk, "ada", "bob")
    enrol(desk, "cleo", mode="holder")
    assert [entry.name for entry in exported(desk).terms.people] == ["ada", "bob"]
    clock.pass_days(desk.settings.retention_days + 1)
    with pytest.raises(DataError):
        exported(desk)


def test_it_lasts_a_month_at_most(desk: WordDesk) -> None:
    """Who is forgotten here must not be known elsewhere for long."""
    enrol(desk, "ada")
    for days in (0, 32):
        with pytest.raises(ConfigError):
            exported(desk, days=days)


def test_the_command_asks_for_what_belongs_together(tmp_path: Path) -> None:
    """A gallery without a key, or of a model that is not in use, is refused before anything."""
    parser = argparse.ArgumentParser()
    add_export(parser)
    for options in (
        ["--gallery", "g"],
        ["--gallery-key", "k"],
        ["--gallery", "g", "--gallery-key", "k", "--model", str(tmp_path)],
    ):
        arguments = parser.parse_args(["--onnx", str(tmp_path / "m.onnx"), *options])
        with pytest.raises(ConfigError):
            arguments.run(arguments)
    assert not list(tmp_path.iterdir())
