"""The keeper's account: charged before training, never twice for one reply, never skipped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.client.private_parts import some_faces

from veilface_client import keeper as keeper_module
from veilface_client import private as steps
from veilface_client.account import KEY, LEDGER, create_account, open_account
from veilface_client.data import Faces
from veilface_client.keeper import Keeper
from veilface_client.organisation import Organisation
from veilface_client.replies import FILE as REPLY
from veilface_common import models, tensors
from veilface_common.budget.ledger import Ledger
from veilface_common.budget.policy import Policy
from veilface_common.budget.store import read_entries
from veilface_common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from veilface_common.crypto.signing import load_signing_key
from veilface_common.errors import (
    ArtifactError,
    BudgetExceeded,
    DataError,
    LedgerError,
    VeilfaceError,
)
from veilface_common.models.weights import read_weights
from veilface_common.protocol import TrainRequest

CONFIG = RunConfig(
    device="cpu",
    precision="fp32",
    model=ModelConfig(dimension=8),
    federation=FederationConfig(rounds=3),
    privacy=PrivacyConfig(unit="identity", steps=2, sample_rate=0.5, head="fixed", rows=4),
)


def start(folder: Path, policy: Policy | None = None) -> Keeper:
    faces = some_faces(4)
    policy = policy or Policy(epsilon=8.0, min_noise_multiplier=1.0)
    create_account(folder, "org", faces, policy, people_declared=4, images_declared=8)
    return keeper(folder, faces)


def keeper(folder: Path, faces: Faces, *, seeded: bool = False) -> Keeper:
    who = Organisation(name="org", faces=Path("cache"), people=(), seeded=seeded)
    return Keeper(who, faces, folder)


def request(round_number: int = 1, config: RunConfig = CONFIG) -> TrainRequest:
    model = tensors.to_bytes(read_weights(models.build(config.model, seed=3)))
    return TrainRequest(round=round_number, config=config, model=model)


def kinds(folder: Path) -> list[str]:
    return [entry.kind for entry in read_entries(folder / LEDGER)]


def test_a_round_is_charged_and_its_head_travels(tmp_path: Path) -> None:
    """The reply carries the head of the entry that paid for it."""
    reply = start(tmp_path).train(request())
    assert kinds(tmp_path) == ["registered", "policy", "reserve", "settle"]
    paid = read_entries(tmp_path / LEDGER)[2]
    assert reply.ledger_head is not None
    assert (reply.ledger_head.sequence, reply.ledger_head.hash) == (3, paid.hash.hex())
    assert paid.content["context"] == {
        "head": "fixed",
        "images_per_unit": 8,
        "max_gradient_norm": 1.0,
        "method": "gradient",
        "participants": 0,
        "random": "operating-system",
        "request": request().digest,
        "round": 1,
        "rounds": 3,
        "run": CONFIG.digest[:16],
        "trained": "all",
        "units_declared": 4,
    }


def test_a_round_that_is_asked_for_again_costs_nothing(tmp_path: Path) -> None:
    """The same request gets the same bytes, also from a keeper that was started anew."""
    first = start(tmp_path).train(request())
    again = keeper(tmp_path, some_faces(4)).train(request())
    assert again == first
    assert kinds(tmp_path).count("reserve") == 1


def test_another_model_for_the_same_round_is_charged(tmp_path: Path) -> None:
    """A coordinator that varies the round's model pays for each."""
    mine = start(tmp_path)
    mine.train(request())
    other = tensors.to_bytes(read_weights(models.build(CONFIG.model, seed=4)))
    mine.train(replace(request(), model=other))
    assert kinds(tmp_path).count("reserve") == 2


def test_noise_differs_from_round_to_round(tmp_path: Path) -> None:
    """The same model in two rounds gives two updates that noise sets apart."""
    mine = start(tmp_path)
    first, second = (tensors.from_bytes(mine.train(request(n)).update) for n in (1, 2))
    assert all((first[name] != second[name]).any() for name in first)


def test_training_without_privacy_is_refused_and_written_down(tmp_path: Path) -> None:
    """An organisation with an account does not train openly, whoever asks."""
    openly = replace(CONFIG, privacy=PrivacyConfig())
    with pytest.raises(BudgetExceeded, match="without privacy"):
        start(tmp_path).train(request(config=openly))
    assert kinds(tmp_path) == ["registered", "policy", "refuse"]


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": 0.5},
        {"sample_rate": 0.9},
        {"steps": 5000},
        {"unit": "image"},
    ],
)
def test_what_the_policy_does_not_allow_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """Less noise, more of the data, more steps, another unit: nothing is trained."""
    asked = replace(CONFIG, privacy=replace(CONFIG.privacy, **change))  # type: ignore[arg-type]
    with pytest.raises(BudgetExceeded):
        start(tmp_path).train(request(config=asked))
    assert kinds(tmp_path)[2:] == ["refuse"]
    assert not (tmp_path / REPLY).exists()


def test_a_spent_budget_ends_training(tmp_path: Path) -> None:
    """Rounds go on until the next one does not fit; what was spent stays below the policy."""
    mine = start(tmp_path, Policy(epsilon=12.0, min_noise_multiplier=1.0))
    rounds = map(mine.train, map(request, range(1, 100)))
    with pytest.raises(BudgetExceeded, match="expected epsilon at most 12"):
        list(rounds)
    ledger = Ledger(tmp_path / LEDGER, load_signing_key(tmp_path / KEY))
    assert 6.0 < ledger.spent().charged <= 12.0


def test_training_that_fails_was_paid_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in the middle leaves the charge, and says that nothing was sent."""
    mine = start(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(steps, "train_private", fail)
    with pytest.raises(MemoryError):
        mine.train(request())
    assert kinds(tmp_path)[2:] == ["reserve", "settle"]
    assert read_entries(tmp_path / LEDGER)[3].content["outcome"] == "failed"


@pytest.mark.parametrize("written", ["save_round", "save_reply"])
def test_training_whose_words_found_no_room_is_paid_for_once(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk after the last step: once there is room, it begins again on the same charge."""
    mine = start(tmp_path)

    def no_room(*_: object) -> None:
        raise OSError("no room")

    with monkeypatch.context() as full:
        full.setattr(keeper_module, written, no_room)
        with pytest.raises(OSError, match="room"):
            mine.train(request())
    assert kinds(tmp_path)[2:] == ["reserve"]
    mine.train(request())
    assert kinds(tmp_path)[2:] == ["reserve", "note", "settle"]


def test_training_that_is_killed_was_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends the process between reserve and settle leaves an open reservation that counts."""
    mine = start(tmp_path)

    def die(*_: object, **__: object) -> None:
        raise SystemExit

    monkeypatch.setattr(steps, "train_private", die)
    with pytest.raises(SystemExit):
        mine.train(request())
    ledger = Ledger(tmp_path / LEDGER, load_signing_key(tmp_path / KEY))
    assert (ledger.unsettled, sum(ledger.steps.values())) == ({3}, 2)


def test_private_training_needs_an_account(tmp_path: Path) -> None:
    """Without a ledger nothing private is trained: it could not be charged."""
    with pytest.raises(LedgerError, match="account"):
        keeper(tmp_path, some_faces(4)).train(request())


def test_an_account_is_for_its_own_faces(tmp_path: Path) -> None:
    """Other faces under the old ledger would be charged to a data set that they are not of."""
    start(tmp_path)
    with pytest.raises(LedgerError, match="faces"):
        keeper(tmp_path, some_faces(5)).train(request())


def test_a_removed_ledger_is_not_begun_anew(tmp_path: Path) -> None:
    """A key without its ledger: neither opening nor creating forgets what was spent."""
    start(tmp_path)
    (tmp_path / LEDGER).unlink()
    with pytest.raises(LedgerError):
        open_account(tmp_path, some_faces(4))
    with pytest.raises(LedgerError, match="beside it"):
        start(tmp_path)
    (tmp_path / KEY).unlink()
    with pytest.raises(VeilfaceError):
        keeper(tmp_path, some_faces(4)).train(
            request(config=replace(CONFIG, privacy=PrivacyConfig()))
        )


def test_an_account_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """A resumed run goes on with its ledger."""
    start(tmp_path).train(request())
    start(tmp_path)
    assert len(kinds(tmp_path)) == 4


def test_a_seeded_simulation_says_so(tmp_path: Path) -> None:
    """Noise from the seed repeats bit for bit, and the ledger names its origin."""
    start(tmp_path)
    first = keeper(tmp_path, some_faces(4), seeded=True).train(request())
    (tmp_path / REPLY).unlink()
    second = keeper(tmp_path, some_faces(4), seeded=True).train(request())
    assert second.update == first.update
    assert read_entries(tmp_path / LEDGER)[2].content["context"]["random"] == "seeded"


def test_the_default_head_needs_public_faces(tmp_path: Path) -> None:
    """What is missing is said before anything is charged."""
    asked = replace(CONFIG, privacy=replace(CONFIG.privacy, head="leave-one-out"))
    with pytest.raises(DataError, match="public"):
        start(tmp_path).train(request(config=asked))
    assert kinds(tmp_path) == ["registered", "policy"]


def test_a_damaged_reply_is_an_error(tmp_path: Path) -> None:
    """A torn file is named, not trained over."""
    mine = start(tmp_path)
    mine.train(request())
    (tmp_path / REPLY).write_bytes(json.dumps({"request": 3}).encode()[:-3])
    with pytest.raises(ArtifactError, match="newest reply"):
        mine.train(request())
