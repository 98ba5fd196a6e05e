"""Reported figures end to end: held out, charged, summed, audited, shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from veilface_audit.verify import AuditFailed, audit
from veilface_client import keeper as keepers
from veilface_client.account import LEDGER, PUBLIC_KEY
from veilface_common.budget.calibration import calibrated
from veilface_common.budget.store import read_entries
from veilface_common.config import PrivacyConfig
from veilface_common.score_histograms import Reported
from veilface_server.checkpoint import RECORDS
from veilface_server.evaluation import EVALUATION, load_evaluation
from veilface_simulations.cli import main
from veilface_simulations.experiment import Experiment
from veilface_simulations.inprocess import run_in_process
from veilface_simulations.results import load_result
from veilface_simulations.world import Federation, World

Build = Callable[..., tuple[Experiment, World]]
PLAN = PrivacyConfig(
    unit="identity", steps=1, sample_rate=0.5, trained="projection", evaluation_noise=3.0
)


def private(rounds: int = 1) -> PrivacyConfig:
    return calibrated(PLAN, rounds=rounds, epsilon=8.0, delta=1e-5)


def train(experiment: Experiment, world: World) -> Federation:
    federation = world.federations[0]
    folders = {name: federation.organisations / name for name in federation.members}
    run_in_process(experiment.config, folders, federation.server, 1)
    return federation


def verdict(federation: Federation, name: str) -> tuple[float, int]:
    folder = federation.organisations / name
    held = [(federation.server / file).read_text() for file in (RECORDS, EVALUATION)]
    server_key = (federation.server / "server.pub").read_bytes()
    key = (folder / PUBLIC_KEY).read_bytes()
    found = audit(folder / LEDGER, key, "".join(held), server_key)
    return found.epsilon, found.released


def kinds(federation: Federation, name: str) -> list[str]:
    return [entry.kind for entry in read_entries(federation.organisations / name / LEDGER)]


def test_training_and_figures_together_spend_the_budget(build: Build) -> None:
    """Calibrated together: the auditor finds all of epsilon, within 2%, and the release in it."""
    federation = train(*build(rounds=1, privacy=private()))
    record = load_evaluation(federation.server)
    assert record is not None
    assert record.accepted == ("org-1", "org-2", "org-3")
    for name in record.accepted:
        assert verdict(federation, name) == (pytest.approx(8.0, rel=0.02), 1)
        assert kinds(federation, name)[2:] == ["reserve", "settle", "release"]


def test_a_rewritten_evaluation_record_fails_the_audit(build: Build) -> None:
    """A bin that the coordinator changed after it signed."""
    federation = train(*build(rounds=1, privacy=private()))
    path = federation.server / EVALUATION
    body = json.loads(path.read_text())
    body["scores"]["genuine"][0] += 1.0
    path.write_text(json.dumps(body) + "\n")
    with pytest.raises(AuditFailed, match="not signed by the coordinator"):
        verdict(federation, "org-1")


def test_a_crash_of_the_coordinator_costs_nothing_twice(build: Build) -> None:
    """The record was lost after everybody had answered: asked again, the same sum, no charge."""
    experiment, world = build(rounds=1, privacy=private())
    federation = train(experiment, world)
    path = federation.server / EVALUATION
    before = path.read_bytes()
    path.unlink()
    train(experiment, world)
    assert path.read_bytes() == before
    assert kinds(federation, "org-2").count("release") == 1


def test_a_crash_of_an_organisation_over_counts_and_leaves_it_out(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between charge and reply: the others' figures are summed, and its budget is spent."""

    def die(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    calls = iter([die, keepers.noised_scores, keepers.noised_scores])

    def first_dies(*given: object, **more: object) -> object:
        return next(calls)(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(keepers, "noised_scores", first_dies)
    federation = train(*build(rounds=1, privacy=private()))
    record = load_evaluation(federation.server)
    assert record is not None
    (name,) = record.left_out
    assert "RuntimeError" in record.left_out[name]
    assert "killed" not in record.left_out[name]
    assert verdict(federation, name) == (pytest.approx(8.0, rel=0.02), 1)


def test_the_command_reports_figures_beside_the_true_ones(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--evaluation-noise`: result.json and the page hold what was reported; null is said why."""
    monkeypatch.setattr("veilface_common.score_histograms._CLEAR_SUM", 0.0)  # so few people
    out = tmp_path / "run"
    arguments = (
        "run --data drawn:60x3 --organisations 2 --arms federated --preset smoke --rounds 1 "
        "--engine inprocess --privacy identity --epsilon 8 --public drawn:8x3 --seeded "
        "--set privacy.steps=1 --set privacy.evaluation-share=0.6 --evaluation-noise 2"
    )
    assert main([*arguments.split(), "--out", str(out), "--cache", str(cache)]) == 0
    (arm,) = load_result(out).arms
    written = json.loads((out / "result.json").read_text())["arms"][0]
    record = load_evaluation(out / "server")
    assert record is not None
    assert arm.people < 48, "those held out are not trained on"
    assert written["privacy"]["steps"] == 1
    assert written["privacy"]["epsilon"] == pytest.approx(8.0, rel=0.02)
    page = (out / "report.html").read_text()
    if arm.reported is None:
        assert "reported figures say nothing" in page
        assert written["reported"] is None
    else:
        assert isinstance(arm.reported, Reported)
        assert written["reported"]["eer"] == arm.reported.eer
        assert arm.reported.organisations == 2
        assert "as the organisations report them" in page
        assert "as reported" in capsys.readouterr().out


def test_figures_without_privacy_are_refused(tmp_path: Path) -> None:
    """Nothing could be charged: the command says so before anything is read."""
    base = ["run", "--data", "drawn:24x3", "--preset", "smoke", "--engine", "inprocess"]
    code = main([*base, "--evaluation-noise", "2", "--out", str(tmp_path / "run")])
    assert code == 2
