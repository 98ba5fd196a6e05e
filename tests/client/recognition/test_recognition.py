"""Enrol, verify, identify, forget: what is answered, what is written down, and who may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.client.recognition.desks import Clock, WordDesk, model_folder, open_desk, provider

from veilface_client.home import Settings, create_home, save_settings
from veilface_client.limits import Limits
from veilface_client.recognition import enrolment, leaving, lines, matching, upkeep, vault_acts
from veilface_client.recognition.desk import Desk
from veilface_client.recognition.enrolment import Consent
from veilface_client.roles import TERMINAL, Actor
from veilface_common.crypto.signing import load_verify_key
from veilface_common.errors import (
    AccessDenied,
    ConfigError,
    DataError,
    SignatureError,
    VaultError,
    WrongKey,
)

CONSENT = Consent(version="2026-01")
OPERATOR = Actor(name="door-3", role="operator")
OFFICER = Actor(name="officer", role="privacy-officer")
ADMIN = Actor(name="admin", role="administrator")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(tmp_path: Path, clock: Clock) -> Iterator[WordDesk]:
    with open_desk(tmp_path / "shop", clock) as found:
        yield found


def enrol(desk: Desk, *names: str, **settings: object) -> list[enrolment.Enrolment]:
    return [
        enrolment.enrol(
            desk,
            TERMINAL,
            name,
            [f"{name}/1".encode(), f"{name}/2".encode()],
            CONSENT,
            **settings,  # type: ignore[arg-type]
        )
        for name in names
    ]


def kinds(desk: Desk) -> list[str]:
    return [entry.kind for entry in desk.log.entries()]


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


def test_a_calibrated_threshold_is_the_organisation_s(desk: WordDesk) -> None:
    """It replaces the model's, is kept sealed, and a larger rate takes two people."""
    enrol(desk, *(f"person-{number}" for number in range(25)))
    assert "model's maker" in lines.line(desk, "verify").warning
    found = upkeep.calibrate(desk, ADMIN, "identify", 0.01)
    assert found.strangers == 25
    assert "too few" in found.warning
    own = lines.calibration(desk, "identify")
    assert own is not None
    assert lines.line(desk, "identify").threshold == own.threshold != 0.6
    with pytest.raises(AccessDenied, match="second person"):
        upkeep.calibrate(desk, ADMIN, "identify", 0.1)
    other = Actor(name="admin-2", role="administrator")
    upkeep.calibrate(desk, ADMIN, "identify", 0.1, second=other)
    assert "threshold-loosened" in kinds(desk)


def test_a_model_that_says_nothing_of_strangers(tmp_path: Path) -> None:
    """People can be enrolled, and nobody is answered about until the gallery is calibrated."""
    model = model_folder(tmp_path / "model", impostors=None)
    create_home(tmp_path / "shop", Settings(name="shop", model=""), model, provider())
    with open_desk(tmp_path / "shop") as desk:
        enrol(desk, *(f"person-{number}" for number in range(20)))
        for ask in (
            lambda: matching.identify(desk, TERMINAL, b"person-1/5"),
            lambda: matching.verify(desk, TERMINAL, "person-1", b"person-1/5"),
        ):
            with pytest.raises(ConfigError, match="says nothing of strangers"):
                ask()  # type: ignore[no-untyped-call]
        other = Actor(name="other", role="administrator")
        upkeep.calibrate(desk, ADMIN, "identify", 0.05, second=other)
        assert matching.identify(desk, TERMINAL, b"person-1/5").answer == "person-1"


def test_chosen_strangers_do_not_loosen_a_threshold_alone(desk: WordDesk) -> None:
    """Whoever picks the people that a threshold is chosen on could pull it down with them."""
    enrol(desk, *(f"person-{number}" for number in range(25)))
    desk.look_at = lambda pixels: desk.look(bytes(pixels[0, 0]) + b"far")  # type: ignore[method-assign]
    drawn = [np.full((4, 4, 3), 33 + number, np.uint8) for number in range(60)]
    photographs = [
        SimpleNamespace(person=str(number), load=lambda pixels=pixels: pixels)
        for number, pixels in enumerate(drawn)
    ]
    source: Any = SimpleNamespace(name="chosen", photographs=lambda: iter(photographs))
    upkeep.calibrate(desk, ADMIN, "identify", 0.01)
    own = desk.vault.secret(f"calibration identify {desk.model}")
    desk.template = lambda _face: -desk.templates()[0].mean(0)  # type: ignore[method-assign]
    with pytest.raises(AccessDenied, match="second person"):
        upkeep.calibrate(desk, ADMIN, "verify", 0.01, strangers=source)
    assert desk.vault.secret(f"calibration identify {desk.model}") == own


def test_settings_that_were_edited_are_an_entry(tmp_path: Path) -> None:
    """`home.json` is in clear: the log says when it changed."""
    home = tmp_path / "shop"
    with open_desk(home) as desk:
        settings = desk.settings
    with open_desk(home) as desk:
        assert "settings changed" not in {e.content.get("reason") for e in desk.log.entries()}
    save_settings(home, replace(settings, false_match_rate=0.4))
    for _ in range(2):
        with open_desk(home) as desk:
            reasons = [entry.content.get("reason") for entry in desk.log.entries()]
    assert reasons.count("settings changed") == 1


def test_a_new_model_moves_whose_crops_were_kept(tmp_path: Path) -> None:
    """Others must come again; templates of the old model are compared with nothing."""
    with open_desk(tmp_path / "shop") as desk:
        enrolment.enrol(desk, TERMINAL, "ada", [b"ada/1"], CONSENT, keep_crops=True)
        enrolment.enrol(desk, TERMINAL, "bob", [b"bob/1"], CONSENT)
        old = desk.model
        done = upkeep.migrate(desk, ADMIN, model_folder(tmp_path / "new", seed=1))
        assert (done.moved, done.come_again) == (1, ("bob",))
        assert desk.model == done.model != old
        answer = matching.verify(desk, TERMINAL, "bob", b"bob/1")
        assert (answer.match, answer.reason) == (False, "nobody is enrolled")
        assert [one.templates for one in enrolment.people(desk, TERMINAL)] == [1, 0]
        with pytest.raises(ConfigError, match="another model"):
            upkeep.migrate(desk, ADMIN, tmp_path / "new")
    with Desk(tmp_path / "shop", provider()) as real:
        assert real.model == done.model
        assert len(list(tmp_path.glob("shop/models/*"))) == 1


def test_an_older_vault_is_refused(tmp_path: Path) -> None:
    """A vault or a log that was put back is not opened, and the check says what is wrong."""
    home = tmp_path / "shop"
    with open_desk(home) as desk:
        enrol(desk, "ada", "bob")
    vault, log = (home / "vault.db").read_bytes(), (home / "log.db").read_bytes()
    with open_desk(home) as desk:
        leaving.forget(desk, TERMINAL, "bob")
    newer_vault, newer_log = (home / "vault.db").read_bytes(), (home / "log.db").read_bytes()
    (home / "vault.db").write_bytes(vault)
    with pytest.raises(VaultError, match="remembers"):
        open_desk(home)
    with WordDesk(home, provider(), Clock(), verify=False) as desk:
        assert "rolled back" in {finding.what for finding in vault_acts.check(desk, TERMINAL)}
    (home / "vault.db").write_bytes(newer_vault)
    (home / "log.db").write_bytes(log)
    with pytest.raises(VaultError, match="older one"):
        open_desk(home)
    (home / "log.db").write_bytes(newer_log)
    with open_desk(home) as desk:
        assert vault_acts.check(desk, TERMINAL) == []


def test_a_crash_between_vault_and_log_is_made_good(tmp_path: Path) -> None:
    """An enrolment that the log did not hear of is written down when it is next opened."""
    with open_desk(tmp_path / "shop") as desk:
        enrol(desk, "ada")
        sample, _ = enrolment.samples_of(desk, [b"bob/1"], keep_crops=False)
        record = replace(desk.vault.record(desk.person("ada")), name="bob")
        desk.vault.enrol(record, sample)
    with open_desk(tmp_path / "shop") as desk:
        assert set(desk.names()) == {"ada", "bob"}
        last = list(desk.log.entries())[-1]
        assert last.kind == "enrolled"
        assert last.content["reason"] == "found after a crash"
        state = desk.vault.state
        assert desk.log.newest_root() == (state.generation, state.root)


def test_a_backup_brings_people_back(tmp_path: Path) -> None:
    """Both parts give a vault that opens, checks and recognises; the log says that it was so."""
    home = tmp_path / "shop"
    with open_desk(home) as desk:
        enrol(desk, "ada")
        vault_acts.back_up(desk, ADMIN, tmp_path / "templates.db", tmp_path / "keys.db")
        enrol(desk, "bob")
    done = vault_acts.restore_home(
        home, tmp_path / "templates.db", tmp_path / "keys.db", provider()
    )
    assert done.people == 1
    with open_desk(home) as desk:
        assert list(desk.names()) == ["ada"]
        assert vault_acts.check(desk, TERMINAL) == []
        assert matching.identify(desk, TERMINAL, b"ada/8").answer == "ada"
        assert "restored" in kinds(desk)


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
