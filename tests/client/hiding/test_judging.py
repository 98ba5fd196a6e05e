"""Who stays visible: in doubt nobody, and every question goes through the house's doors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.client.recognition.desks import OFFICER, OPERATOR, WordDesk, enrol, open_desk, vector_of

from veilface_client.hiding import judging
from veilface_client.hiding.films import Judge
from veilface_client.limits import Limits
from veilface_client.video.desks import answering_of
from veilface_common.errors import AccessDenied, DataError, WrongKey

SHOWN, HIDDEN = True, False  # what was said of a face before


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[WordDesk]:
    limits = Limits(requests_per_operator_per_minute=40, failures_per_operator_per_hour=5)
    with open_desk(tmp_path / "shop", change=lambda known: replace(known, limits=limits)) as found:
        enrol(found, "ada", "bob")
        yield found


def look(desk: WordDesk, word: str) -> NDArray[np.float32]:
    return vector_of(word, desk.embedder.dimension)


def between(desk: WordDesk, word: str, share: float) -> NDArray[np.float32]:
    """Return what is a little like somebody: of this cosine with them, roughly."""
    stranger = look(desk, "stranger/1")
    found = share * look(desk, word) + np.sqrt(1 - share**2) * stranger
    return np.asarray(found / np.linalg.norm(found), np.float32)


def keep(desk: WordDesk, *names: str) -> Judge:
    return judging.keeping(desk, answering_of(desk, OPERATOR, lambda _: None), names)


def hide(desk: WordDesk, *names: str, told: list[str] | None = None) -> Judge:
    return judging.hiding(desk, OPERATOR, names, (told if told is not None else []).append)


def asked(desk: WordDesk) -> list[tuple[str, bool]]:
    return [
        (str(entry.content["outcome"]), entry.content["subject"] is not None)
        for entry in desk.log.entries()
        if entry.kind == "identified"
    ]


def test_except_keeps_who_is_named_and_nobody_else(desk: WordDesk) -> None:
    """Ada; not Bob, who is enrolled, nor a stranger, nor who is a little like Ada."""
    stays = keep(desk, "ada")
    assert stays((look(desk, "ada/9"),), None)
    assert not stays((look(desk, "bob/9"),), None)
    assert not stays((look(desk, "eve/1"),), None)
    assert not stays((between(desk, "ada", 0.35),), None)
    assert keep(desk, "ada", "bob")((look(desk, "bob/9"),), None)


def test_only_hides_who_is_named_and_who_may_be(desk: WordDesk) -> None:
    """Ada, and who is a little like her; Bob and a stranger stay."""
    stays = hide(desk, "ada")
    assert not stays((look(desk, "ada/9"),), None)
    assert not stays((between(desk, "ada", 0.35),), None)
    assert stays((look(desk, "bob/9"),), None)
    assert stays((look(desk, "eve/1"),), None)


def test_only_hides_for_good_who_was_alike_once(desk: WordDesk) -> None:
    """One look of three is enough, and later ones do not undo it."""
    stays = hide(desk, "ada")
    eve, ada = look(desk, "eve/1"), look(desk, "ada/9")
    assert stays((eve, eve, eve), None)
    assert not stays((eve, ada, eve), SHOWN)
    assert not stays((eve, eve, eve), HIDDEN)


def test_except_shows_no_longer_who_is_another_now(desk: WordDesk) -> None:
    """The newest look alone ends it, whatever the mean says."""
    stays = keep(desk, "ada")
    ada = look(desk, "ada/8")
    assert stays((ada, ada, ada), SHOWN)
    assert not stays((ada, ada, look(desk, "eve/1")), SHOWN)
    assert not stays((look(desk, "eve/1"),) * 3, SHOWN)


def test_each_question_stands_in_the_log_and_a_known_answer_not_again(desk: WordDesk) -> None:
    """With a pseudonym where somebody was alike; hours of one face are no flood of entries."""
    stays = hide(desk, "ada")
    for _ in range(100):
        stays((look(desk, "eve/1"),), SHOWN if asked(desk) else None)
    assert asked(desk) == [("unknown", False)]
    stays((look(desk, "ada/9"),), None)
    assert asked(desk) == [("unknown", False), ("known", True)]
    kept = keep(desk, "ada")
    before = kept((look(desk, "ada/9"),), None)
    for _ in range(100):
        before = kept((look(desk, "ada/9"),), before)
    assert before
    assert len(asked(desk)) == 3


def test_beyond_a_limit_everybody_is_hidden(desk: WordDesk) -> None:
    """Attack: working a picture towards somebody by asking whether it would be hidden."""
    told: list[str] = []
    stays = hide(desk, "ada", told=told)
    eve = look(desk, "eve/1")  # who is nobody
    answers = [stays((eve,), None) for _ in range(9)]
    assert answers == [True] * 5 + [False] * 4
    assert len(told) == 1
    assert "everybody is hidden" in told[0]
    assert not keep(desk, "ada")((look(desk, "eve/1"),), None)


def test_who_may_not_identify_may_not_hide_by_name(desk: WordDesk) -> None:
    """The table of roles holds for this door too."""
    with pytest.raises(AccessDenied):
        judging.hiding(desk, OFFICER, ["ada"], lambda _: None)
    with pytest.raises(AccessDenied):
        judging.keeping(desk, answering_of(desk, OFFICER, lambda _: None), ["ada"])(
            (look(desk, "ada/9"),), None
        )


def test_a_name_that_nobody_has_is_refused(desk: WordDesk) -> None:
    """Before anything is read; holders' templates open with their cards alone."""
    enrol(desk, "cid", mode="holder")
    for make in (keep, hide):
        with pytest.raises(DataError):
            make(desk, "nobody")
        with pytest.raises(WrongKey):
            make(desk, "cid")
