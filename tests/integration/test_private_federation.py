"""Private federations: what is charged, what an auditor sees, and what a broken one comes to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from veilface_audit.verify import audit
from veilface_client import private as steps
from veilface_client.account import LEDGER, PUBLIC_KEY
from veilface_client.keeper import Keeper
from veilface_common import models, protocol, tensors
from veilface_common.budget.calibration import calibrated
from veilface_common.budget.store import read_entries
from veilface_common.config import PrivacyConfig
from veilface_common.models.weights import read_weights
from veilface_common.protocol import TrainRequest
from veilface_server.checkpoint import RECORDS, RoundRecord, load_records
from veilface_server.evaluation import load_evaluation
from veilface_simulations.cli import main
from veilface_simulations.experiment import Experiment
from veilface_simulations.flower import run_with_flower
from veilface_simulations.inprocess import run_in_process
from veilface_simulations.world import Federation, World

Build = Callable[..., tuple[Experiment, World]]
PLAN = PrivacyConfig(unit="identity", steps=2, sample_rate=0.5, trained="projection")


def private(rounds: int = 2, epsilon: float = 8.0) -> PrivacyConfig:
    return calibrated(PLAN, rounds=rounds, epsilon=epsilon, delta=1e-5)


def train(experiment: Experiment, world: World) -> tuple[RoundRecord, ...]:
    federation = world.federations[0]
    folders = {name: federation.organisations / name for name in federation.members}
    run_in_process(experiment.config, folders, federation.server, 1)
    return load_records(federation.server)


def verdict(federation: Federation, name: str) -> tuple[float, int]:
    folder = federation.organisations / name
    records = (federation.server / RECORDS).read_text()
    server_key = (federation.server / "server.pub").read_bytes()
    found = audit(folder / LEDGER, (folder / PUBLIC_KEY).read_bytes(), records, server_key)
    return found.epsilon, found.unsettled


def test_every_organisation_spends_its_budget_and_passes(build: Build) -> None:
    """After the last round the auditor finds all of epsilon, within 2%, and no more."""
    experiment, world = build(privacy=private())
    records = train(experiment, world)
    assert [sorted(record.ledger_heads) for record in records] == [["org-1", "org-2", "org-3"]] * 2
    for name in records[0].accepted:
        spent, unsettled = verdict(world.federations[0], name)
        assert (spent, unsettled) == (pytest.approx(8.0, rel=0.02), 0)


def test_a_longer_run_than_was_paid_for_stops_learning(build: Build) -> None:
    """Once every budget is spent rounds pass without a change, and say why."""
    experiment, world = build(rounds=4, privacy=private(rounds=2))
    records = train(experiment, world)
    assert [len(record.accepted) for record in records] == [3, 3, 0, 0]
    assert records[1].model_sha256 == records[3].model_sha256
    assert "expected epsilon at most 8" in records[2].left_out["org-1"]


def test_a_crash_costs_no_round_once_it_is_asked_for_again(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the charge: the round is trained on it, and the auditor finds it paid for."""
    experiment, world = build(privacy=private())
    federation = world.federations[0]

    def die(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(steps, "train_private", die)
        for name in federation.members:
            keeper = Keeper.open(federation.organisations / name)
            with pytest.raises(SystemExit):
                keeper.train(first_request(experiment))
    records = train(experiment, world)
    assert [len(record.accepted) for record in records] == [3, 3]
    assert verdict(federation, "org-1") == (pytest.approx(8.0, rel=0.02), 0)


def first_request(experiment: Experiment) -> TrainRequest:
    model = read_weights(models.build(experiment.config.model, experiment.config.seed))
    return TrainRequest(round=1, config=experiment.config, model=tensors.to_bytes(model))


def test_seeded_runs_repeat_bit_for_bit_in_both_engines(build: Build, tmp_path: Path) -> None:
    """Flower and in process: the same private model and figures, where noise is from the seed."""
    asking = replace(PLAN, evaluation_noise=3.0)
    privacy = calibrated(asking, rounds=2, epsilon=8.0, delta=1e-5)
    one, two = build("one", privacy=privacy), build("two", privacy=privacy)
    federation = two[1].federations[0]
    work = tmp_path / "two" / "flower"
    run_with_flower(two[0].config, federation.organisations, federation.server, 2, work)
    digests = [record.model_sha256 for record in train(*one)]
    assert digests == [record.model_sha256 for record in load_records(federation.server)]
    assert len(set(digests)) == 2
    first, second = map(load_evaluation, (one[1].federations[0].server, federation.server))
    assert first is not None
    assert second is not None
    assert first.scores == second.scores is not None


def test_an_update_without_a_charge_is_left_out(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An organisation that answers a private request without its ledger's head is not summed."""
    experiment, world = build(rounds=1, privacy=private(rounds=1))
    real = Keeper.train

    def forget(self: Keeper, request: TrainRequest) -> protocol.TrainReply:
        reply = real(self, request)
        return replace(reply, ledger_head=None) if reply.organisation == "org-1" else reply

    monkeypatch.setattr(Keeper, "train", forget)
    (record,) = train(experiment, world)
    assert list(record.left_out) == ["org-1"]


def test_the_ledger_says_nothing_that_was_counted(build: Build) -> None:
    """Declared sizes are those of the average organisation; no loss, count or name is in it."""
    experiment, world = build(privacy=private())
    train(experiment, world)
    folder = world.federations[0].organisations / "org-1"
    text = " ".join(entry.body for entry in read_entries(folder / LEDGER))
    assert "loss" not in text
    assert "drawn-" not in text
    history = json.loads((folder / "history.json").read_text())
    assert all(str(entry["loss"]) not in text for entry in history)


def test_the_command_trains_privately_and_the_auditor_agrees(tmp_path: Path, cache: Path) -> None:
    """`--privacy identity --epsilon`: result.json says what the ledgers say; the audit passes."""
    out = tmp_path / "run"
    arguments = (
        "run --data drawn:24x4 --organisations 2 --arms federated,plain --preset smoke "
        "--engine inprocess --privacy identity --epsilon 8 --delta 1e-5 --public drawn:8x3 "
        "--set privacy.steps=2"
    )
    code = main([*arguments.split(), "--out", str(out), "--cache", str(cache)])
    assert code == 0
    federated, plain = json.loads((out / "result.json").read_text())["arms"]
    assert plain["privacy"] is None
    spent = federated["privacy"]
    charged = spent.pop("epsilon")
    assert charged == pytest.approx(8.0, rel=0.02)
    noise = spent.pop("noise_multiplier")
    assert noise > 0.3
    assert spent == {"unit": "identity", "delta": 1e-5, "sample_rate": 0.1, "steps": 4}
    for name in ("org-1", "org-2"):
        folder = out / "organisations" / name
        program = Path(sys.executable).parent / "veilface-audit"
        files = [folder / LEDGER, "--key", folder / PUBLIC_KEY, "--heads", out / "server" / RECORDS]
        done = subprocess.run([program, *files, "--json"], capture_output=True, check=True)
        found = json.loads(done.stdout)
        assert (found["verdict"], found["unit"]) == ("pass", "identity")
        assert found["epsilon"] == pytest.approx(charged, rel=0.02)


def test_a_warm_start_is_where_every_arm_begins(tmp_path: Path, cache: Path) -> None:
    """`--init` with a learning rate of zero ends with the very weights that it began with."""
    common = ["--organisations", "2", "--preset", "smoke", "--engine", "inprocess"]
    first, second = tmp_path / "first", tmp_path / "second"
    base = ["run", "--data", "drawn:16x4", "--cache", str(cache), "--rounds", "1", *common]
    assert main([*base, "--arms", "federated", "--out", str(first)]) == 0
    still = ["--set", "training.learning-rate=0", "--init", str(first / "model")]
    assert main([*base, "--arms", "federated,central", *still, "--out", str(second)]) == 0
    before, after = (
        json.loads((folder / "model" / "manifest.json").read_text())["sha256"]
        for folder in (first, second)
    )
    assert before == after
    result = json.loads((second / "result.json").read_text())
    assert result["initial"]["eer"] == result["arms"][0]["eer"] == result["arms"][1]["eer"]
