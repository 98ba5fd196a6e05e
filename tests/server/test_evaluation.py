"""The final figures: asked for once, summed in a fixed order, signed, without those at fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.test_rounds import honest

from veilface_common import typed_json
from veilface_common.budget.entries import Head, canonical
from veilface_common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from veilface_common.errors import (
    ArtifactError,
    FederationError,
    ProtocolError,
    SignatureError,
    VeilfaceError,
)
from veilface_common.protocol import EvaluateReply, EvaluateRequest, TrainRequest
from veilface_common.score_histograms import BINS, ScoreHistograms, deviation_of
from veilface_server.checkpoint import load_records, server_key
from veilface_server.evaluation import EVALUATION, Answers, load_evaluation
from veilface_server.rounds import Answers as TrainAnswers
from veilface_server.rounds import run_rounds

Behaviour = Callable[[str, EvaluateRequest], EvaluateReply | VeilfaceError]
HEAD = Head(sequence=9, hash="ab" * 32)
CONFIG = RunConfig(
    seed=1,
    model=ModelConfig(name="classic", dimension=2),
    federation=FederationConfig(rounds=2),
    privacy=PrivacyConfig(unit="identity", evaluation_noise=2.0),
)


def measured(name: str, request: EvaluateRequest) -> EvaluateReply:
    """Reply with histograms that depend on the name."""
    weight = 0.1 + 0.3 * len(name) + ord(name[0]) / 7
    scores = ScoreHistograms(genuine=(weight,) * BINS, impostor=(-weight / 3,) * BINS)
    return EvaluateReply(organisation=name, round=request.round, scores=scores, ledger_head=HEAD)


def refuses(name: str, request: EvaluateRequest) -> EvaluateReply:
    return EvaluateReply(organisation=name, round=request.round, scores=None, refusal="all spent")


class Village:
    """Members that train honestly, and answer for figures as each of them does."""

    def __init__(self, **behaviours: Behaviour) -> None:
        self.behaviours = behaviours
        self.asked: list[EvaluateRequest] = []

    def names(self) -> Sequence[str]:
        return sorted(self.behaviours)

    def absent(self) -> dict[str, str]:
        return {}

    def train(self, names: Sequence[str], request: TrainRequest) -> TrainAnswers:
        head = Head(sequence=2 + request.round, hash="cd" * 32)
        return {name: replace(honest(name, request), ledger_head=head) for name in names}

    def evaluate(self, names: Sequence[str], request: EvaluateRequest) -> Answers:
        self.asked.append(request)
        return {name: self.behaviours[name](name, request) for name in reversed(names)}


def test_the_final_model_is_measured_once(tmp_path: Path) -> None:
    """After the last round, with its weights; a resumed run asks nobody again."""
    village = Village(a=measured, bb=measured)
    run_rounds(village, CONFIG, tmp_path)
    run_rounds(village, CONFIG, tmp_path)
    (request,) = village.asked
    record = load_evaluation(tmp_path)
    assert record is not None
    assert (request.round, record.round, record.accepted) == (2, 2, ("a", "bb"))
    assert record.model_sha256 == load_records(tmp_path)[-1].model_sha256
    assert record.deviation == deviation_of("identity", 2.0, 2)
    parts = [measured(name, request).scores for name in ("a", "bb")]
    assert record.scores is not None
    assert record.scores.genuine[0] == sum(part.genuine[0] for part in parts if part)
    assert record.ledger_heads == {"a": HEAD, "bb": HEAD}


@pytest.mark.parametrize("privacy", [PrivacyConfig(), PrivacyConfig(unit="identity")])
def test_nobody_is_asked_unless_the_settings_say_so(tmp_path: Path, privacy: PrivacyConfig) -> None:
    """By default no figure leaves."""
    village = Village(a=measured)
    run_rounds(village, replace(CONFIG, privacy=privacy), tmp_path)
    assert village.asked == []
    assert not (tmp_path / EVALUATION).exists()


def test_the_record_is_signed_for_what_it_is(tmp_path: Path) -> None:
    """Under the server's key and its own purpose; a changed bin no longer verifies."""
    run_rounds(Village(a=measured), CONFIG, tmp_path)
    record = load_evaluation(tmp_path)
    assert record is not None
    body = typed_json.to_json(record)
    signature = bytes.fromhex(body.pop("signature"))
    key = server_key(tmp_path).public
    key.verify("evaluation-record", canonical(body).encode(), signature)
    with pytest.raises(SignatureError):
        key.verify("round-record", canonical(body).encode(), signature)
    body["scores"]["genuine"][3] += 1
    with pytest.raises(SignatureError):
        key.verify("evaluation-record", canonical(body).encode(), signature)


BROKEN: dict[str, tuple[Behaviour, str]] = {
    "fails": (lambda *_: ProtocolError("failed: disk on fire"), "disk on fire"),
    "refuses": (refuses, "all spent"),
    "speaks_for_another": (lambda _, r: measured("a", r), "expected figures of 'z'"),
    "of_another_round": (lambda n, r: replace(measured(n, r), round=9), "after round 9"),
    "did_not_pay": (lambda n, r: replace(measured(n, r), ledger_head=None), "charged"),
    "paid_with_an_update": (
        lambda n, r: replace(measured(n, r), ledger_head=Head(sequence=4, hash="cd" * 32)),
        "a charge of its own",
    ),
    "turned_back": (
        lambda n, r: replace(measured(n, r), ledger_head=Head(sequence=3, hash="cd" * 32)),
        "older copy",
    ),
    "sends_none": (lambda n, r: replace(measured(n, r), scores=None), "histograms"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_organisation_at_fault_is_named_and_left_out(kind: str, tmp_path: Path) -> None:
    """The sum, and the noise that is said to be in it, are those of the others."""
    behaviour, reason = BROKEN[kind]
    run_rounds(Village(a=measured, b=measured, z=behaviour), CONFIG, tmp_path / "broken")
    run_rounds(Village(a=measured, b=measured), CONFIG, tmp_path / "alone")
    record, alone = load_evaluation(tmp_path / "broken"), load_evaluation(tmp_path / "alone")
    assert record is not None
    assert alone is not None
    assert reason in record.left_out["z"]
    assert (record.scores, record.deviation) == (alone.scores, alone.deviation)


def test_refusals_alone_end_in_a_record_without_figures(tmp_path: Path) -> None:
    """All budgets are spent: that is an answer, and nobody is asked for it again."""
    village = Village(a=refuses, b=refuses)
    run_rounds(village, CONFIG, tmp_path)
    run_rounds(village, CONFIG, tmp_path)
    record = load_evaluation(tmp_path)
    assert record is not None
    assert (record.scores, record.accepted, len(village.asked)) == (None, (), 1)


def test_rules_that_refuse_for_now_leave_the_figures_to_be_asked_for(tmp_path: Path) -> None:
    """At noon nobody gives any: a resumed run asks again, and nothing is written down for good."""

    def for_now(name: str, request: EvaluateRequest) -> EvaluateReply:
        return replace(refuses(name, request), by_rules=True)

    with pytest.raises(FederationError, match=r"evaluation.*a: all spent"):
        run_rounds(Village(a=for_now), CONFIG, tmp_path)
    mended = Village(a=measured)
    run_rounds(mended, CONFIG, tmp_path)
    assert len(mended.asked) == 1


def test_failures_alone_are_asked_again(tmp_path: Path) -> None:
    """The error names who and why; the trained model is kept, and a resumed run asks again."""
    broken = Village(a=BROKEN["fails"][0])
    with pytest.raises(FederationError, match=r"evaluation.*got 0.*a: failed: disk on fire"):
        run_rounds(broken, CONFIG, tmp_path)
    mended = Village(a=measured)
    run_rounds(mended, CONFIG, tmp_path)
    assert len(mended.asked) == 1
    assert len(load_records(tmp_path)) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"round": 1})])
def test_a_damaged_record_is_an_error(tmp_path: Path, content: str) -> None:
    """It is not taken for one that was never written: organisations would pay twice."""
    run_rounds(Village(a=measured), CONFIG, tmp_path)
    (tmp_path / EVALUATION).write_text(content)
    with pytest.raises(ArtifactError):
        run_rounds(Village(a=measured), CONFIG, tmp_path)
