"""An audit of a run: it takes the run's plan, and its figures stand in the run's report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from veilface_client.private_plan import PrivacyPlan
from veilface_common import tensors
from veilface_common.budget.accountant import epsilon
from veilface_common.budget.events import total_steps
from veilface_common.config import ModelConfig, PrivacyConfig, RunConfig
from veilface_common.errors import ArtifactError, ConfigError
from veilface_common.models import build
from veilface_common.models.weights import read_weights
from veilface_common.presets import WHITENING
from veilface_server.checkpoint import save_initial
from veilface_simulations.auditing import command
from veilface_simulations.auditing.audit import audit
from veilface_simulations.auditing.bound import measure
from veilface_simulations.auditing.faults import FAULTS
from veilface_simulations.auditing.membership import attack
from veilface_simulations.auditing.of_run import target_of_run
from veilface_simulations.auditing.record import (
    FILE_NAME,
    Audited,
    Check,
    Claimed,
    Record,
    load_record,
    save_record,
)
from veilface_simulations.cli import main
from veilface_simulations.examples import load_examples, save_examples
from veilface_simulations.experiment import Experiment, save_experiment
from veilface_simulations.report import Example, render
from veilface_simulations.results import ArmPrivacy, Result, load_result, save_result
from veilface_simulations.run_report import write_run_report

MakeResult = Callable[..., Result]
PICTURES = [Example(title="One person, low score", left=b"left", right=b"right")]
GRADIENT = PrivacyConfig(
    unit="image",
    sample_rate=0.5,
    noise_multiplier=1.5,
    steps=2,
    rounds=2,
    head="fixed",
    rows=16,
    trained="projection",
)
SMALL = RunConfig(seed=3, model=ModelConfig(dimension=32))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def quietly(what: str, so_far: int, total: int) -> None:
    assert 0 < so_far <= total, what


def put_run(folder: Path, config: RunConfig, result: Result, claimed: float = 1.5) -> Path:
    """Write what a run leaves that an audit reads; nobody trained."""
    folder.mkdir()
    experiment = Experiment(data="drawn:9x9", config=config, arms=("federated",))
    privacy = experiment.config.privacy
    if experiment.is_private:
        spent = ArmPrivacy(
            unit=privacy.unit,
            epsilon=claimed,
            delta=experiment.delta,
            noise_multiplier=privacy.noise_multiplier,
            sample_rate=privacy.sample_rate,
            steps=privacy.rounds * privacy.steps,
        )
        arms = (replace(result.arms[0], privacy=spent), *result.arms[1:])
        result = replace(result, arms=arms)
    save_experiment(folder, experiment, "veilface-sim run")
    save_result(result, folder / "result.json")
    save_examples(PICTURES, folder)
    return folder


@pytest.fixture
def gradient_run(tmp_path: Path, made_up: MakeResult) -> Path:
    config = replace(SMALL, privacy=GRADIENT)
    return put_run(tmp_path / "gradient", config, made_up())


@pytest.fixture
def whitening_run(tmp_path: Path, made_up: MakeResult) -> Path:
    weights = read_weights(build(SMALL.model, 8))
    config = replace(
        SMALL,
        privacy=replace(WHITENING, unit="identity"),
        initial=hashlib.sha256(tensors.to_bytes(weights)).hexdigest(),
    )
    folder = put_run(tmp_path / "whitening", config, made_up(), claimed=8.0)
    save_initial(folder / "server", weights)
    return folder


def test_the_plan_is_the_runs(gradient_run: Path) -> None:
    """Unit, head, model, clipping, sampling and noise; the first steps; the rounds' rates."""
    target = target_of_run(gradient_run, canaries=20, steps=3)
    plan, config = target.subject.plan, target.subject.config
    assert (plan.unit, plan.sample_rate, plan.max_gradient_norm) == ("image", 0.5, 1.0)
    assert config.privacy.head == "fixed"
    assert config.model == SMALL.model
    written = json.loads((gradient_run / "run.json").read_text())["config"]
    assert plan.noise_multiplier == written["privacy.noise-multiplier"]
    assert (target.plan.steps, target.planned_steps, target.run_epsilon) == (3, 4, 1.5)
    first, second, third = target.plan.learning_rates
    assert first == second != third
    assert target_of_run(gradient_run, canaries=20).plan.steps == 4


def test_it_starts_from_the_runs_model(whitening_run: Path) -> None:
    """Not from weights that are drawn."""
    network = target_of_run(whitening_run, canaries=20).subject.start()
    expected = read_weights(build(SMALL.model, 8))
    found = read_weights(network)
    assert all((found[name] == expected[name]).all() for name in expected)


def test_the_report_shows_claim_bound_and_resolving_power(
    whitening_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--run writes audit.json and the report; a second audit replaces the first."""
    before = (whitening_run / "result.json").read_bytes()
    assert main(["audit", "--run", str(whitening_run), "--canaries", "24", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((whitening_run / FILE_NAME).read_text()) == printed
    assert printed["audited"] | {"method": "whitening", "steps": 1} == printed["audited"]
    page = (whitening_run / "report.html").read_text()
    for text in (
        "<b>PASS</b>: nothing that was measured contradicts",
        "8.000 at most",
        f"{printed['claimed']['epsilon']:.3f} at most, at delta 1e-05",
        f"{printed['measured']['epsilon']:.3f} at least, 95% sure",
        f"24 canaries can never show more than {printed['measured']['resolving_power']:.2f}",
        f"AUC {printed['membership']['auc']:.3f}",
        "beyond so few canaries",
        PICTURES[0].title,
    ):
        assert text in page
    first = load_record(whitening_run)
    assert first is not None
    second = replace(first, measured=replace(first.measured, canaries=20))
    monkeypatch.setattr(command, "audit", lambda *_: SimpleNamespace(record=second))
    assert main(["audit", "--run", str(whitening_run)]) == 0
    assert "audited: 1 of 1 steps" in capsys.readouterr().out
    page = (whitening_run / "report.html").read_text()
    assert "20 canaries can never" in page
    assert "24 canaries" not in page
    assert (whitening_run / "result.json").read_bytes() == before


def made_record(audited: Audited) -> Record:
    """A record of an audit that found nothing."""
    measured = measure(np.tile([1.0, -1.0], 50), np.arange(100) < 50, 1e-5)
    half = np.arange(100) % 2 == 0
    return Record(
        audited=audited,
        claimed=Claimed(epsilon=0.75, delta=1e-5, unit="image"),
        measured=measured,
        membership=attack(np.arange(100.0), half, epsilon=0.75, delta=1e-5),
        contribution=0.5,
        checks=(Check(name="the ledger", passed=True, detail="<one> step"),),
    )


@pytest.fixture
def found(gradient_run: Path) -> Record:
    del gradient_run
    return made_record(
        Audited(
            method="gradient",
            head="fixed",
            trained="projection",
            model="tiny",
            sample_rate=0.5,
            noise_multiplier=1.5,
            max_gradient_norm=1.0,
            steps=1,
            planned_steps=4,
            run_epsilon=1.5,
        )
    )


def test_few_steps_are_held_against_their_own_claim(gradient_run: Path) -> None:
    """One step of four claims less than the run does, and is told apart from it."""
    record = audit(target_of_run(gradient_run, canaries=20, steps=1), quietly).record
    assert record.passed, record.checks
    assert (record.audited.steps, record.audited.planned_steps) == (1, 4)
    private = PrivacyPlan(
        unit="image",
        sample_rate=0.5,
        noise_multiplier=1.5,
        max_gradient_norm=1.0,
        steps=1,
        units_declared=1,
    )
    assert record.claimed.epsilon == pytest.approx(cost(private, 1e-5))
    assert cost(replace(private, steps=4), 1e-5) > 1.5 * record.claimed.epsilon


def cost(plan: PrivacyPlan, delta: float) -> float:
    return epsilon(total_steps([plan.event]), delta).charged


def test_the_page_says_how_much_was_audited(
    found: Record, gradient_run: Path, made_up: MakeResult
) -> None:
    """Both claims stand there; a record of no run is not taken for one of this."""
    result = load_result(gradient_run)
    page = render(result, audit=found)
    assert "1 of 4 steps of training" in page
    assert "1.500 at most, for all" in page
    assert "0.750 at most, at delta" in page
    unaudited = render(result)
    of_no_run = replace(found, audited=replace(found.audited, run_epsilon=None))
    assert render(result, audit=of_no_run) == unaudited
    assert "veilface-sim audit --run DIR" in unaudited
    assert "audit --run" not in render(made_up())


def test_what_fails_is_said_in_the_report(found: Record, gradient_run: Path) -> None:
    failing = replace(found, checks=(replace(found.checks[0], passed=False),))
    page = render(load_result(gradient_run), audit=failing)
    assert "<b>FAIL</b>: the claim does not hold" in page
    assert "0 of 1 passed; the ledger: &lt;one&gt; step" in page


@pytest.mark.parametrize("kind", ["gradient_run", "whitening_run"])
def test_a_broken_plan_is_caught(kind: str, request: pytest.FixtureRequest) -> None:
    """A run's own step without its noise fails, by either method."""
    folder = request.getfixturevalue(kind)
    target = target_of_run(folder, canaries=20, steps=1, fault=FAULTS["noise-off"])
    record = audit(target, quietly).record
    failed = {check.name for check in record.checks if not check.passed}
    assert {"noise of the run", "floating point"} < failed
    assert not record.passed


def test_a_report_that_is_written_again_keeps_its_audit(found: Record, gradient_run: Path) -> None:
    """As at the end of a resumed run: with the figures and the pictures."""
    save_record(found, gradient_run)
    write_run_report(load_result(gradient_run), gradient_run)
    assert load_record(gradient_run) == found
    assert load_examples(gradient_run) == PICTURES
    page = (gradient_run / "report.html").read_text()
    assert "1 of 4 steps of training" in page
    assert PICTURES[0].title in page


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        (["--break", "noise-off"], "leave --run out"),
        (["--epsilon", "1"], "--canaries, --steps and --seed"),
        (["--out", "elsewhere"], "--canaries, --steps and --seed"),
        (["--steps", "5"], "at most the 4 steps"),
        (["--canaries", "5"], "at least 20 canaries"),
        (["--canaries", "100000"], "canaries for"),
    ],
)
def test_what_is_not_the_runs_is_refused_and_nothing_written(
    gradient_run: Path, option: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(gradient_run.iterdir())
    assert main(["audit", "--run", str(gradient_run), *option]) == 2
    assert hint in capsys.readouterr().err
    assert sorted(gradient_run.iterdir()) == before


def test_a_planted_fault_is_not_written_into_a_run(
    gradient_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--out does not lead there either."""
    assert main(["audit", "--break", "noise-off", "--out", str(gradient_run)]) == 2
    assert f"--run {gradient_run}" in capsys.readouterr().err
    assert load_record(gradient_run) is None


def test_a_run_that_is_not_private_or_has_not_ended_is_refused(
    tmp_path: Path, gradient_run: Path, made_up: MakeResult
) -> None:
    openly = put_run(tmp_path / "openly", SMALL, made_up())
    with pytest.raises(ConfigError, match="trained privately"):
        target_of_run(openly)
    (gradient_run / "result.json").unlink()
    with pytest.raises(ArtifactError, match="expected a result"):
        target_of_run(gradient_run)


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 1}', '{"schema": 2}'])
def test_a_damaged_audit_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(ArtifactError):
        load_record(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 1, "examples": [{"title": "x"}]}'])
def test_damaged_pictures_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "examples.json").write_text(text)
    with pytest.raises(ArtifactError):
        load_examples(tmp_path)
