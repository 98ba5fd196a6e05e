"""What befalls an account: all of its files removed, its disk full, its start cut short."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.client.private_parts import some_faces
from tests.client.test_account import CONFIG, keeper, kinds, request, start
from tests.full_disk import files_of_at_most
from tests.power_cut import power_cuts, recorded

from veilface_client import private as steps
from veilface_client.account import KEY, LEDGER, PUBLIC_KEY, SECRET, open_account
from veilface_client.keeper import Keeper
from veilface_client.organisation import (
    SETTINGS,
    Organisation,
    keeps_account,
    load_organisation,
    save_organisation,
)
from veilface_client.replies import FILE as REPLY
from veilface_common.budget.ledger import Ledger
from veilface_common.config import PrivacyConfig
from veilface_common.crypto.signing import load_signing_key
from veilface_common.errors import LedgerError, VeilfaceError

ORGANISATION = Organisation(name="org", faces=Path("cache"), people=(0, 1), keeps_account=True)
OPENLY = replace(CONFIG, privacy=PrivacyConfig())


def begin(folder: Path) -> Keeper:
    """Begin an account and write the settings that say so, in their order."""
    mine = start(folder)
    save_organisation(folder, ORGANISATION)
    return mine


def remove_account(folder: Path) -> None:
    for name in (LEDGER, KEY, PUBLIC_KEY, SECRET):
        (folder / name).unlink()


def test_an_organisation_without_its_account_does_not_train_openly(tmp_path: Path) -> None:
    """All files of the account are gone: open and private training are refused alike."""
    mine = begin(tmp_path)
    remove_account(tmp_path)
    for config in (OPENLY, CONFIG):
        with pytest.raises(LedgerError, match="got none of its files") as refusal:
            mine.train(request(config=config))
        assert "put them back" in str(refusal.value.hint)


def test_a_removed_account_is_not_begun_anew(tmp_path: Path) -> None:
    """A new ledger would forget what was spent, and settings without it would allow everything."""
    begin(tmp_path)
    remove_account(tmp_path)
    with pytest.raises(LedgerError, match="speaks of"):
        start(tmp_path)
    with pytest.raises(LedgerError, match="keep the account"):
        save_organisation(tmp_path, replace(ORGANISATION, keeps_account=False))
    assert load_organisation(tmp_path) == ORGANISATION


def test_settings_of_an_older_program_keep_no_account(tmp_path: Path) -> None:
    """They do not say; where a ledger is, it is used all the same, and the next settings say it."""
    save_organisation(tmp_path, replace(ORGANISATION, keeps_account=False))
    settings = json.loads((tmp_path / SETTINGS).read_text())
    del settings["account"]
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    assert not keeps_account(tmp_path)
    assert open_account(tmp_path, some_faces(4)) is None
    begin(tmp_path)
    assert open_account(tmp_path, some_faces(4)) is not None
    assert keeps_account(tmp_path)


def test_a_power_cut_while_an_account_is_begun(tmp_path: Path) -> None:
    """Settings that speak of an account are on no disk without it, whenever the power goes."""
    folder = tmp_path / "org"
    folder.mkdir()
    with recorded(folder) as disk:
        begin(folder)
        disk.promise("begun")
    for cut in power_cuts(disk, tmp_path / "after"):
        if (cut.folder / SETTINGS).exists():
            assert open_account(cut.folder, some_faces(4)) is not None
        assert not cut.promised or keeps_account(cut.folder)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count trainings instead of doing them."""
    times: list[int] = []

    class Summary:
        mean_loss, images = 1.0, 1

    def train(*_: object, **__: object) -> type[Summary]:
        times.append(1)
        return Summary

    monkeypatch.setattr(steps, "train_private", train)
    return times


def test_full_disk_trains_nothing_that_was_not_charged(tmp_path: Path, trained: list[int]) -> None:
    """Whatever the disk still takes: what was trained is in the ledger, and it goes on later."""
    begin(tmp_path / "whole")
    outcomes = set()
    for size in range(0, 40_000, 4_000):
        folder = tmp_path / f"{size}"
        shutil.copytree(tmp_path / "whole", folder)
        mine, error = keeper(folder, some_faces(4)), None
        trained.clear()
        with files_of_at_most(size):
            try:
                mine.train(request())
            except (VeilfaceError, OSError) as raised:
                error = raised
        charged = sum(Ledger(folder / LEDGER, load_signing_key(folder / KEY)).steps.values())
        assert charged >= CONFIG.privacy.steps * len(trained)
        assert trained or isinstance(error, LedgerError)
        assert error is None or not (folder / REPLY).exists()
        outcomes.add((bool(trained), error is None))
        mine.train(request())
        assert kinds(folder)[-1] == "settle"
    assert outcomes >= {(False, False), (True, False)}
