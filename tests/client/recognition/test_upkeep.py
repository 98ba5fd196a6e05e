"""Thresholds, new models, backups, and a vault and a log that must agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.client.recognition.desks import (
    ADMIN,
    Clock,
    WordDesk,
    enrol,
    kinds,
    model_folder,
    open_desk,
    provider,
)

from veilface_client.home import Settings, create_home, save_settings
from veilface_client.recognition import enrolment, leaving, lines, matching, upkeep, vault_acts
from veilface_client.roles import TERMINAL, Actor
from veilface_common.errors import (
    AccessDenied,
    ConfigError,
    VaultError,
)


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
