"""Enrol, verify, identify, forget: what is answered, what is written down, and who may."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.client.recognition.desks import (
    ADMIN,
    CONSENT,
    OFFICER,
    OPERATOR,
    Clock,
    WordDesk,
    enrol,
    kinds,
    open_desk,
)

from veilface_client.home import Settings
from veilface_client.limits import Limits
from veilface_client.recognition import enrolment, leaving, matching, upkeep, vault_acts
from veilface_client.roles import TERMINAL, Actor
from veilface_common.crypto.signing import load_verify_key
from veilface_common.errors import (
    AccessDenied,
    ConfigError,
    DataError,
    SignatureError,
    WrongKey,
)


def test_a_person_is_known_until_forgotten(desk: WordDesk) -> None:
    """Enrolled, verified, identified; forgotten, and then unknown, with a receipt that holds."""
    enrol(desk, "ada", "bob")
    assert matching.verify(desk, OPERATOR, "ada", b"ada/3").match
    assert not matching.verify(desk, OPERATOR, "ada", b"bob/3").match
    assert matching.identify(desk, OPERATOR, b"bob/9").answer == "bob"
    stranger = matching.identify(desk, OPERATOR, b"eve/1")
    assert (stranger.answer, stranger.reason) == (None, "below the threshold")
    receipt = leaving.forget(desk, OFFICER, "bob")
    assert matching.identify(desk, OPERATOR, b"bob/9").answer is None
    with pytest.raises(DataError):
        matching.verify(desk, OPERATOR, "bob", b"bob/3")
    key = load_verify_key(desk.folder / "log.pub")
    stored = json.loads((desk.folder / "receipts" / f"{receipt.pseudonym}.json").read_bytes())
    assert leaving.verify_receipt(stored, key) == receipt
    assert receipt.epoch_after == receipt.epoch_before + 1
    with pytest.raises(SignatureError):
        leaving.verify_receipt(stored | {"reason": "expired"}, key)
    with pytest.raises(SignatureError):
        leaving.verify_receipt(stored | {"note": "and more"}, key)


def test_it_is_all_there_after_a_restart(tmp_path: Path) -> None:
    """What was answered before is answered after, from the files alone."""
    with open_desk(tmp_path / "shop") as desk:
        enrol(desk, "ada", "bob")
        leaving.forget(desk, TERMINAL, "bob")
    with open_desk(tmp_path / "shop") as desk:
        assert list(desk.names()) == ["ada"]
        assert matching.identify(desk, TERMINAL, b"ada/5").answer == "ada"
        assert matching.identify(desk, TERMINAL, b"bob/5").answer is None


def test_two_processes_see_each_other(tmp_path: Path) -> None:
    """Whoever is enrolled or forgotten through one door is so through the other, at once."""
    with open_desk(tmp_path / "shop") as first, open_desk(tmp_path / "shop") as second:
        enrol(first, "ada")
        assert matching.identify(second, TERMINAL, b"ada/5").answer == "ada"
        leaving.forget(second, TERMINAL, "ada")
        assert matching.identify(first, TERMINAL, b"ada/5").answer is None
        enrol(first, "bob", "cid")
        enrol(second, "dan")
        assert set(first.names()) == set(second.names()) == {"bob", "cid", "dan"}


def test_the_log_names_nobody(desk: WordDesk) -> None:
    """Who did what to which pseudonym, and the newest root is the vault's."""
    enrolled = enrol(desk, "ada lovelace")[0]
    matching.verify(desk, OPERATOR, "ada lovelace", b"ada lovelace/3")
    matching.identify(desk, OPERATOR, b"eve/1")
    bodies = "".join(entry.body for entry in desk.log.entries())
    assert "lovelace" not in bodies
    assert bodies.count(enrolled.pseudonym) >= 2
    state = desk.vault.state
    assert desk.log.newest_root() == (state.generation, state.root)
    assert {"enrolled", "verified", "identified"} <= set(kinds(desk))


def test_nothing_is_written_in_clear(tmp_path: Path) -> None:
    """No file of the folder, WAL and receipts included, holds a name, a template or a crop."""
    with open_desk(tmp_path / "shop", change=lambda s: replace(s, keep_crops=True)) as desk:
        enrol(desk, "ada lovelace", "bob")
        matching.identify(desk, TERMINAL, b"ada lovelace/4")
        leaving.forget(desk, TERMINAL, "bob")
        face = desk.look(b"ada lovelace/1")
        template = desk.template(face).astype("<f2").tobytes()
        content = b"".join(
            path.read_bytes() for path in sorted(desk.folder.rglob("*")) if path.is_file()
        )
    for secret in (b"ada ", b"lovelace", template[:24], template[-24:], b"2026-01"):
        assert secret not in content.replace(b"2026-01-", b""), secret


def test_second_best_too_near_is_unknown(desk: WordDesk) -> None:
    """A face between two people is nobody's."""
    enrol(desk, "ada", "bob")
    with desk.gallery() as gallery:
        near = desk.template(desk.look(b"ada/1")) + desk.template(desk.look(b"bob/1"))
        near /= np.linalg.norm(near)
        best = gallery.search(near, 2)
    assert best[0].cosine - best[1].cosine < 0.2
    desk.settings = replace(desk.settings, margin=0.2)
    desk.template = lambda _face: near  # type: ignore[method-assign]
    answer = matching.identify(desk, TERMINAL, b"anyone/1")
    assert (answer.answer, answer.reason) == (None, "second best too near")


def test_a_poor_photograph_is_no_answer(desk: WordDesk) -> None:
    """Refused photographs match nobody, and say so."""
    enrol(desk, "ada")
    assert matching.identify(desk, TERMINAL, b"!dark").reason == "photograph refused"
    answer = matching.verify(desk, TERMINAL, "ada", b"!dark")
    assert (answer.match, answer.band, answer.reason) == (False, "none", "photograph refused")


def test_a_face_is_not_enrolled_twice(desk: WordDesk) -> None:
    """The same face under another name is refused, unless somebody says that it is a twin."""
    enrol(desk, "ada")
    with pytest.raises(DataError, match="another name") as caught:
        enrolment.enrol(desk, TERMINAL, "bob", [b"ada/7"], CONSENT)
    assert "ada" not in str(caught.value) + str(caught.value.hint)
    assert list(desk.names()) == ["ada"]
    assert "refused" in kinds(desk)
    enrolment.enrol(desk, TERMINAL, "bob", [b"ada/7"], CONSENT, twin=True)
    assert set(desk.names()) == {"ada", "bob"}


def test_a_photograph_of_somebody_else_is_not_enrolled(desk: WordDesk) -> None:
    """Not among others, not as one of two, and not added later."""
    with pytest.raises(DataError, match="do not look alike"):
        enrolment.enrol(desk, TERMINAL, "ada", [b"ada/1", b"eve/1"], CONSENT)
    photos = [b"!none", b"ada/1", b"eve/1", b"ada/2"]
    done = enrolment.enrol(desk, TERMINAL, "ada", photos, CONSENT)
    assert [one.photo for one in done.left_out] == [1, 3]
    assert done.photographs == 2
    with pytest.raises(DataError, match="somebody else"):
        enrolment.add(desk, TERMINAL, "ada", [b"eve/1"])
    assert enrolment.add(desk, TERMINAL, "ada", [b"ada/3"]) == 3


def test_a_photograph_that_cannot_be_used_is_named(desk: WordDesk) -> None:
    """The others are enrolled; if there are none, nobody is."""
    done = enrolment.enrol(desk, TERMINAL, "ada", [b"ada/1", b"!none", b"ada/2"], CONSENT)
    assert (done.photographs, [one.photo for one in done.left_out]) == (2, [2])
    with pytest.raises(DataError, match="expected a face"):
        enrolment.enrol(desk, TERMINAL, "bob", [b"!none"], CONSENT)
    assert list(desk.names()) == ["ada"]


def test_a_name_is_one_person(desk: WordDesk) -> None:
    """A second enrolment under a name is refused; so are names that are none."""
    enrol(desk, "ada")
    with pytest.raises(DataError, match="somebody new"):
        enrol(desk, "ada")
    for name in ("", " ", "a\nb", "x" * 201):
        with pytest.raises(ConfigError):
            enrolment.enrol(desk, TERMINAL, name, [b"eve/1"], CONSENT)


def test_a_holder_s_templates_need_the_card(desk: WordDesk) -> None:
    """Without the card nothing opens, and the person is never identified."""
    card = enrol(desk, "ada", mode="holder")[0].card
    assert card is not None
    assert matching.verify(desk, TERMINAL, "ada", b"ada/3", card).match
    with pytest.raises(WrongKey):
        matching.verify(desk, TERMINAL, "ada", b"ada/3")
    assert matching.identify(desk, TERMINAL, b"ada/3").answer is None
    exported = leaving.export_person(desk, TERMINAL, "ada")
    assert exported["left_out"]
    assert exported["templates"] == []


def test_limits_hold_across_restarts(tmp_path: Path) -> None:
    """After so many failures nobody is asked about that person, until the hour is over."""
    clock = Clock()

    def tighter(settings: Settings) -> Settings:
        return replace(settings, limits=Limits(failures_per_person_per_hour=3))

    with open_desk(tmp_path / "shop", clock, tighter) as desk:
        enrol(desk, "ada")
        for _ in range(3):
            assert not matching.verify(desk, OPERATOR, "ada", b"eve/1").match
    with open_desk(tmp_path / "shop", clock) as desk:
        with pytest.raises(AccessDenied, match="at most 3"):
            matching.verify(desk, OPERATOR, "ada", b"ada/3")
        assert "alert" in kinds(desk)
        clock.pass_days(0.05)
        assert matching.verify(desk, OPERATOR, "ada", b"ada/3").match


def test_due_people_are_erased(desk: WordDesk, clock: Clock) -> None:
    """A retention date ends an enrolment; a new consent moves it."""
    for name, day in (("ada", "2026-04-01"), ("bob", "2026-04-01"), ("cid", "2027-01-01")):
        consent = replace(CONSENT, retention_date=day)
        enrolment.enrol(desk, TERMINAL, name, [f"{name}/1".encode()], consent)
    enrolment.change_consent(
        desk, OFFICER, "bob", replace(CONSENT, version="2", retention_date="2026-06-01")
    )
    assert leaving.expire(desk, OFFICER) == []
    clock.pass_days(40)
    receipts = leaving.expire(desk, OFFICER)
    assert [receipt.reason for receipt in receipts] == ["expired"]
    assert set(desk.names()) == {"bob", "cid"}
    assert [one.consent_version for one in enrolment.people(desk, OFFICER)] == ["2", "2026-01"]


def test_last_use_is_written_once_a_day(desk: WordDesk, clock: Clock) -> None:
    """A person who is seen ten times costs one write."""
    enrol(desk, "ada")
    before = desk.vault.state.generation
    for _ in range(5):
        matching.identify(desk, TERMINAL, b"ada/3")
    assert desk.vault.state.generation == before + 1
    assert enrolment.people(desk, TERMINAL)[0].last_use == "2026-03-01"
    clock.pass_days(1)
    matching.identify(desk, TERMINAL, b"ada/3")
    assert enrolment.people(desk, TERMINAL)[0].last_use == "2026-03-02"


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("operator", {"verify", "identify"}),
        ("enroller", {"enrol", "people"}),
        ("privacy-officer", {"people", "forget", "expire", "export", "check"}),
        ("auditor", {"log", "check"}),
        ("administrator", {"users", "check", "calibrate"}),
    ],
)
def test_every_door_meets_the_same_table(desk: WordDesk, role: str, allowed: set[str]) -> None:
    """Each act is refused to roles that the table does not name, and the refusal is an entry."""
    enrol(desk, *(f"person-{number}" for number in range(20)), "ada")
    actor = Actor(name="somebody", role=role)  # type: ignore[arg-type]
    acts = {
        "verify": lambda: matching.verify(desk, actor, "ada", b"ada/2"),
        "identify": lambda: matching.identify(desk, actor, b"ada/2"),
        "enrol": lambda: enrolment.enrol(desk, actor, "new", [b"new/1"], CONSENT),
        "people": lambda: enrolment.people(desk, actor),
        "export": lambda: leaving.export_person(desk, actor, "ada"),
        "users": lambda: upkeep.list_users(desk, actor),
        "log": lambda: upkeep.log_lines(desk, actor),
        "check": lambda: vault_acts.check(desk, actor),
        "calibrate": lambda: upkeep.calibrate(desk, actor, "verify", 0.01),
        "expire": lambda: leaving.expire(desk, actor),
        "forget": lambda: leaving.forget(desk, actor, "ada"),
    }
    for name, act in acts.items():
        if name in allowed:
            act()  # type: ignore[no-untyped-call]
        else:
            with pytest.raises(AccessDenied, match="expected somebody who may"):
                act()  # type: ignore[no-untyped-call]
    assert "refused" in kinds(desk)


def test_accounts_are_written_down_and_admit_their_holders(desk: WordDesk) -> None:
    """A token is its user's; a wrong one is an entry."""
    token = upkeep.add_user(desk, ADMIN, "door-3", "operator", days=5)
    assert desk.actor(token).role == "operator"
    upkeep.remove_user(desk, ADMIN, "door-3")
    with pytest.raises(AccessDenied):
        desk.actor(token)
    assert [k for k in kinds(desk) if k.startswith("user")] == [
        "user-added",
        "user-removed",
        "user-failed",
    ]
