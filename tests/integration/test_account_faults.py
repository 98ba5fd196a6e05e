"""What befalls accounts while a federation is built and while it trains, all else being real."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.integration.conftest import Build
from tests.integration.test_private_federation import private, train

from veilface_client.account import LEDGER
from veilface_client.keeper import Keeper
from veilface_client.organisation import SETTINGS, keeps_account
from veilface_common.protocol import TrainReply, TrainRequest
from veilface_simulations import world as worlds


def test_rolled_back_ledger_is_left_out(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper cannot know, and trains; the coordinator has seen the entries that are gone."""
    experiment, world = build(rounds=3, privacy=private(rounds=3))
    ledger = world.federations[0].organisations / "org-1" / LEDGER
    real = Keeper.train

    def turn_back(self: Keeper, request: TrainRequest) -> TrainReply:
        if self._name == "org-1" and request.round == 2:
            shutil.copy(ledger, ledger.with_name("old"))
        if self._name == "org-1" and request.round == 3:
            shutil.copy(ledger.with_name("old"), ledger)
        return real(self, request)

    monkeypatch.setattr(Keeper, "train", turn_back)
    records = train(experiment, world)
    assert [len(record.accepted) for record in records] == [3, 3, 2]
    assert "older copy" in records[2].left_out["org-1"]


def test_nobody_can_train_before_there_is_an_account(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while accounts are begun: no settings without one."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worlds, "create_account", stop)
        with pytest.raises(KeyboardInterrupt):
            build(privacy=private())
    assert not list(tmp_path.rglob(SETTINGS))
    _, world = build("again", privacy=private())
    (federation,) = world.federations
    for name in federation.members:
        assert Keeper.open(federation.organisations / name)
        assert keeps_account(federation.organisations / name)
