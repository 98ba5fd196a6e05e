"""What a run is released as: figures from signed records, and nothing that they do not say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.common.robustness_parts import measured
from tests.server.test_rounds import honest

from veilface_common import tensors
from veilface_common.artifact import load_manifest, load_model
from veilface_common.budget.accountant import epsilon
from veilface_common.budget.entries import Head
from veilface_common.budget.events import Mechanism
from veilface_common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from veilface_common.errors import ArtifactError, ConfigError, FederationError, SignatureError
from veilface_common.models.weights import read_weights
from veilface_common.protocol import EvaluateReply, EvaluateRequest, TrainReply, TrainRequest
from veilface_common.release import Contribution, Release, verify_manifest, verify_weights
from veilface_common.score_histograms import BINS, ScoreHistograms
from veilface_server import checkpoint, evaluation
from veilface_server.cli import main
from veilface_server.home import Settings, create_home
from veilface_server.release import Ended, draft_of, release_run
from veilface_server.rounds import Answers, run_rounds
from veilface_server.runs import change_run, create_run

PLAN = PrivacyConfig(unit="identity", sample_rate=0.2, noise_multiplier=1.5, steps=4)
STEP = Mechanism(sample_rate=0.2, noise_multiplier=1.5)
FIGURES = Mechanism(sample_rate=1.0, noise_multiplier=2.0)
RUN = "0123456789abcdef"
MADE = "2026-03-01T12:00:00+00:00"


def settings(private: PrivacyConfig = PLAN, rounds: int = 3) -> RunConfig:
    return RunConfig(
        seed=1,
        model=ModelConfig(name="classic", dimension=2),
        federation=FederationConfig(rounds=rounds),
        privacy=private,
    )


class Village:
    """Members with ledgers; `refuses[name]` are rounds in which the budget refuses."""

    def __init__(self, **refuses: Sequence[int]) -> None:
        self.refuses = refuses
        self.entries = dict.fromkeys(refuses, 2)

    def names(self) -> Sequence[str]:
        return sorted(self.refuses)

    def absent(self) -> dict[str, str]:
        return {}

    def train(self, names: Sequence[str], request: TrainRequest) -> Answers:
        return {name: self._trained(name, request) for name in names}

    def evaluate(self, names: Sequence[str], request: EvaluateRequest) -> evaluation.Answers:
        rising = tuple(100.0 * (place > 45) for place in range(BINS))
        scores = ScoreHistograms(genuine=rising, impostor=rising[::-1])
        reply = EvaluateReply(organisation="", round=request.round, scores=scores)
        return {
            name: replace(reply, organisation=name, ledger_head=self._paid(name)) for name in names
        }

    def _trained(self, name: str, request: TrainRequest) -> TrainReply:
        if request.round in self.refuses[name]:
            return TrainReply(organisation=name, round=request.round, update=b"", refusal="spent")
        return replace(honest(name, request), ledger_head=self._paid(name))

    def _paid(self, name: str) -> Head:
        self.entries[name] += 2
        return Head(sequence=self.entries[name], hash=f"{self.entries[name]:064x}")


def ended(folder: Path, village: Village, config: RunConfig) -> tuple[Path, Ended]:
    """Return the coordinator's folder, and a run in it that has ended."""
    home = folder / "coordinator"
    run = home / "runs" / RUN
    run.mkdir(parents=True)
    (home / "server.json").write_text("{}")
    run_rounds(village, config, run)
    return home, Ended(folder=run, config=config, federation="valley", delta=1e-5, licence="ours")


def released(home: Path, run: Ended) -> Release:
    """Return the next release, verified as an organisation verifies it."""
    folder = release_run(home, run, MADE)
    key = checkpoint.server_key(run.folder).public
    found = verify_manifest((folder / "manifest.json").read_bytes(), {key.fingerprint: key}, {})
    verify_weights(found, (folder / "model.safetensors").read_bytes())
    return found


def by_name(found: Release) -> dict[str, Contribution]:
    return {one.name: one for one in found.organisations}


def test_a_release_is_the_run_s_last_model(tmp_path: Path) -> None:
    """Signed by the coordinator, its weights those of the checkpoint, numbered from 1."""
    config = settings()
    home, run = ended(tmp_path, Village(a=(), b=()), config)
    found = released(home, run)
    network, manifest = load_model(home / "releases" / "0001")
    state = checkpoint.load_state(run.folder, config)
    assert state is not None
    assert tensors.to_bytes(read_weights(network)) == tensors.to_bytes(state.model)
    assert manifest.release == found
    assert (found.sequence, found.rounds, found.settings) == (1, 3, config.digest)
    assert (found.federation, found.licence, found.parent) == ("valley", "ours", None)
    assert found.software["veilface"]
    assert released(home, run).sequence == 2
    assert sorted(path.name for path in (home / "releases").iterdir()) == ["0001", "0002"]


def test_epsilon_is_exact_after_partial_participation(tmp_path: Path) -> None:
    """Each organisation's is of the rounds in which its update was accepted, and no others."""
    home, run = ended(tmp_path, Village(a=(), b=(2,), c=(1, 2, 3)), settings())
    found = released(home, run)
    told = by_name(found)
    assert (found.unit, found.delta) == ("identity", 1e-5)
    assert {name: one.rounds for name, one in told.items()} == {"a": 3, "b": 2}  # c gave nothing
    assert told["a"].epsilon == epsilon({STEP: 12}, 1e-5).charged
    assert told["b"].epsilon == epsilon({STEP: 8}, 1e-5).charged < told["a"].epsilon
    assert told["a"].ledger == Head(sequence=8, hash=f"{8:064x}")
    assert told["b"].ledger == Head(sequence=6, hash=f"{6:064x}")


def test_figures_are_counted_and_told(tmp_path: Path) -> None:
    """One more step of another mechanism, and the error rate that the histograms give."""
    home, run = ended(
        tmp_path, Village(a=(), b=(1,)), settings(replace(PLAN, evaluation_noise=2.0))
    )
    found = released(home, run)
    told = by_name(found)
    assert told["a"].epsilon == epsilon({STEP: 12, FIGURES: 1}, 1e-5).charged
    assert told["b"].epsilon == epsilon({STEP: 8, FIGURES: 1}, 1e-5).charged
    assert told["a"].figures
    assert found.evaluation is not None
    assert found.evaluation.organisations == 2
    assert 0 <= found.evaluation.low <= found.evaluation.eer <= found.evaluation.high < 0.1


@pytest.mark.parametrize(("entry", "steps"), [(8, 12), (10, 16)])
def test_a_round_that_was_repeated(entry: int, steps: int, tmp_path: Path) -> None:
    """Answered twice with one entry it is paid for once; with two entries, twice."""
    home, run = ended(tmp_path, Village(a=()), settings())
    last = checkpoint.load_records(run.folder)[-1]
    paid = {"a": {"sequence": entry, "hash": f"{entry:064x}"}}
    last = replace(last, ledger_heads=paid).signed(checkpoint.server_key(run.folder))
    state = checkpoint.load_state(run.folder, run.config)
    assert state is not None
    checkpoint.save_round(run.folder, state, last, run.config, keep=False)
    told = by_name(released(home, run))["a"]
    assert (told.rounds, told.epsilon) == (3, epsilon({STEP: steps}, 1e-5).charged)


def test_without_privacy_nothing_is_bounded(tmp_path: Path) -> None:
    """No epsilon is not an epsilon of 0."""
    home, run = ended(tmp_path, Village(a=()), settings(PrivacyConfig()))
    found = released(home, run)
    assert found.unit == "none"
    assert [(one.epsilon, one.charges) for one in found.organisations] == [(None, ())]


def test_a_model_that_was_started_from_is_the_parent(tmp_path: Path) -> None:
    """Its digest is that of a release's weights: who trained on whose work can be followed."""
    home, run = ended(tmp_path, Village(a=()), settings(PrivacyConfig()))
    first = released(home, run)
    config = replace(settings(PrivacyConfig()), initial=first.sha256, seed=2)
    folder = home / "runs" / RUN[::-1]
    weights = (home / "releases" / "0001" / "model.safetensors").read_bytes()
    checkpoint.save_initial(folder, tensors.from_bytes(weights))
    run_rounds(Village(a=()), config, folder)
    assert released(home, replace(run, folder=folder, config=config)).parent == first.sha256


def test_a_run_that_goes_on_is_not_released(tmp_path: Path) -> None:
    """Nor one of other settings."""
    home, run = ended(tmp_path, Village(a=()), settings(rounds=2))
    with pytest.raises(ConfigError, match="other settings"):
        release_run(home, replace(run, config=settings(rounds=3)), MADE)
    (run.folder / checkpoint.CHECKPOINT).unlink()
    with pytest.raises(FederationError, match="has ended"):
        release_run(home, run, MADE)
    assert list((home / "releases").iterdir()) == []


def test_altered_records_are_not_released(tmp_path: Path) -> None:
    """Who edits the plan, leaves a round out or puts other figures there gets no signature."""
    config = settings(replace(PLAN, evaluation_noise=2.0))
    home, run = ended(tmp_path, Village(a=()), config)
    records, figures = run.folder / checkpoint.RECORDS, run.folder / evaluation.EVALUATION
    kept, told = records.read_text(), figures.read_text()
    records.write_text(kept.replace('"noise-multiplier": 1.5', '"noise-multiplier": 9.5', 1))
    with pytest.raises(SignatureError, match="round 1"):
        release_run(home, run, MADE)
    records.write_text("".join(kept.splitlines(keepends=True)[1:]))
    with pytest.raises(ArtifactError, match="each of 3 rounds"):
        release_run(home, run, MADE)
    records.write_text(kept)
    figures.write_text(told.replace("100.0", "900.0", 1))
    with pytest.raises(SignatureError, match="figures"):
        release_run(home, run, MADE)


def test_another_model_than_the_recorded_one_is_not_released(tmp_path: Path) -> None:
    """The checkpoint's model is that of the last signed record."""
    home, run = ended(tmp_path, Village(a=()), settings())
    state = checkpoint.load_state(run.folder, run.config)
    assert state is not None
    other = replace(state, model={name: 2 * value for name, value in state.model.items()})
    last = checkpoint.load_records(run.folder)[-1]
    checkpoint.save_round(run.folder, other, last, run.config, keep=False)
    with pytest.raises(ArtifactError, match="last round's record"):
        release_run(home, run, MADE)


def test_a_crash_leaves_no_half_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a crash left is neither a release nor in the way of the next."""
    home, run = ended(tmp_path, Village(a=()), settings())

    class PowerCutError(Exception):
        pass

    def cut(*_: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", cut)
        with pytest.raises(PowerCutError):
            release_run(home, run, MADE)
    assert [path.name for path in (home / "releases").iterdir()] == [".0001.new"]
    assert released(home, run).sequence == 1
    assert [path.name for path in (home / "releases").iterdir()] == ["0001"]
    assert json.loads((home / "releases/0001/manifest.json").read_bytes())["schema"] == 2
    assert load_manifest(home / "releases/0001").release is not None


def test_the_command_releases_the_newest_finished_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what was written down: the federation's name, the run's settings and delta."""
    home = create_home(
        tmp_path / "server",
        Settings(name="valley", address="127.0.0.1:8443", listen="127.0.0.1:8443"),
        datetime(2026, 3, 1, tzinfo=UTC),
    )
    command = ["--home", str(home.folder), "release", "--licence", "ours", "--json"]
    assert main(command) == 2
    assert "has finished" in capsys.readouterr().err
    config = replace(settings(rounds=1), run=RUN)
    create_run(home, config, epsilon=8.0, delta=1e-6, now=datetime(2026, 3, 1, tzinfo=UTC))
    run_rounds(Village(a=(), b=()), config, home.runs / RUN)
    change_run(home, RUN, lambda run: replace(run, state="finished"))
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["federation"], told["delta"], told["licence"]) == ("valley", 1e-6, "ours")
    assert [one["name"] for one in told["organisations"]] == ["a", "b"]
    assert told["organisations"][0]["epsilon"] == epsilon({STEP: 4}, 1e-6).charged
    assert main(["--home", str(home.folder), "release", RUN]) == 0
    assert "release 2: " in capsys.readouterr().out


def test_a_release_with_robustness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A draft is measured, then released with the table; that of another model is refused."""
    home = create_home(
        tmp_path / "server",
        Settings(name="valley", address="127.0.0.1:8443", listen="127.0.0.1:8443"),
        datetime(2026, 3, 1, tzinfo=UTC),
    )
    config = replace(settings(rounds=1), run=RUN)
    create_run(home, config, epsilon=8.0, delta=1e-6, now=datetime(2026, 3, 1, tzinfo=UTC))
    run_rounds(Village(a=()), config, home.runs / RUN)
    change_run(home, RUN, lambda run: replace(run, state="finished"))
    draft, table = tmp_path / "draft", tmp_path / "robustness.json"
    command = ["--home", str(home.folder), "release"]
    assert main([*command, "--draft", str(draft)]) == 0
    digest = load_manifest(draft).sha256
    assert digest[:16] in capsys.readouterr().out
    assert not list((home.folder / "releases").iterdir())
    assert main([*command, "--draft", str(draft)]) == 2  # what is there is not overwritten
    assert main([*command, "--draft", "x", "--robustness", str(table)]) == 2
    assert "got both" in capsys.readouterr().err
    assert main([*command, "--robustness", str(table)]) == 4
    table.write_text(json.dumps(measured("00" * 32)))
    assert main([*command, "--robustness", str(table)]) == 4
    assert "that are released, got that of 0000000000000000" in capsys.readouterr().err
    assert not list((home.folder / "releases").iterdir())
    table.write_text(json.dumps(measured(digest)))
    assert main([*command, "--robustness", str(table)]) == 0
    assert "robustness: right people accepted: 80.0% clean" in capsys.readouterr().out
    key = checkpoint.server_key(home.runs / RUN).public
    manifest = (home.folder / "releases/0001/manifest.json").read_bytes()
    found = verify_manifest(manifest, {key.fingerprint: key}, {}).robustness
    assert found is not None
    assert (found.sha256, found.clean.tar) == (digest, 0.8)


def test_no_draft_of_altered_records(tmp_path: Path) -> None:
    """What is measured is what would be released."""
    home, run = ended(tmp_path, Village(a=()), settings())
    records = run.folder / checkpoint.RECORDS
    records.write_text(records.read_text().replace('"noise-multiplier": 1.5', '"x": 9.5', 1))
    with pytest.raises(SignatureError, match="round 1"):
        draft_of(run, home / "draft")
    assert not (home / "draft").exists()
