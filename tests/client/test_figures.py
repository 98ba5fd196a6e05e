"""The keeper's figures: charged before they are computed, never twice, never without an account."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.client.private_parts import some_faces
from tests.client.test_account import CONFIG, keeper, kinds, request, start

from veilface_client import keeper as keepers
from veilface_client.account import KEY, LEDGER, open_account
from veilface_client.keeper import Keeper
from veilface_client.noised_scores import held_out
from veilface_client.replies import EVALUATION
from veilface_client.units import Units, units_of
from veilface_common import models, tensors
from veilface_common.budget.ledger import Ledger
from veilface_common.budget.policy import Policy
from veilface_common.budget.store import read_entries
from veilface_common.config import PrivacyConfig, RunConfig
from veilface_common.crypto.signing import load_signing_key
from veilface_common.errors import ArtifactError, BudgetExceeded, LedgerError
from veilface_common.models.weights import read_weights
from veilface_common.protocol import EvaluateRequest
from veilface_common.score_histograms import BINS, SENSITIVITY

ASKING = replace(
    CONFIG, privacy=replace(CONFIG.privacy, evaluation_noise=3.0, evaluation_share=0.5)
)


def asked(config: RunConfig = ASKING, seed: int = 3) -> EvaluateRequest:
    model = tensors.to_bytes(read_weights(models.build(config.model, seed=seed)))
    return EvaluateRequest(round=3, config=config, model=model)


def opened(folder: Path) -> Ledger:
    return Ledger(folder / LEDGER, load_signing_key(folder / KEY))


def test_figures_are_charged_and_their_head_travels(tmp_path: Path) -> None:
    """One entry, before them; the reply holds histograms of the right size and nothing else."""
    reply = start(tmp_path).evaluate(asked())
    assert kinds(tmp_path) == ["registered", "policy", "release"]
    paid = read_entries(tmp_path / LEDGER)[2]
    assert reply.ledger_head is not None
    assert (reply.ledger_head.sequence, reply.ledger_head.hash) == (3, paid.hash.hex())
    assert paid.content["event"] == {
        "mechanism": "poisson-subsampled-gaussian",
        "noise_multiplier": 3.0,
        "sample_rate": 1.0,
        "steps": 1,
        "unit": "identity",
    }
    assert paid.content["context"] == {
        "bins": BINS,
        "held_out_share": 0.5,
        "matchings": 16,
        "participants": 0,
        "random": "operating-system",
        "request": asked().digest,
        "round": 3,
        "rounds": 3,
        "run": ASKING.digest[:16],
        "sensitivity": SENSITIVITY["identity"],
        "what": "histograms of scores",
    }
    assert reply.scores is not None
    assert len(reply.scores.genuine) == len(reply.scores.impostor) == BINS
    assert (reply.organisation, reply.refusal) == ("org", "")


def test_figures_that_are_asked_for_again_cost_nothing(tmp_path: Path) -> None:
    """The same request gets the same histograms, also from a keeper that was started anew."""
    first = start(tmp_path).evaluate(asked())
    again = keeper(tmp_path, some_faces(4)).evaluate(asked())
    assert again == first
    assert kinds(tmp_path).count("release") == 1


def test_figures_of_another_model_are_charged(tmp_path: Path) -> None:
    """Noise is drawn anew and paid anew; a round's own reply stays what it was."""
    mine = start(tmp_path)
    trained = mine.train(request(config=ASKING))
    first, second = mine.evaluate(asked()), mine.evaluate(asked(seed=4))
    assert first.scores != second.scores
    assert kinds(tmp_path).count("release") == 2
    assert mine.train(request(config=ASKING)) == trained
    assert kinds(tmp_path).count("reserve") == 1


def test_a_crash_after_the_charge_only_over_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the reply: paid for, and paid again when it is asked for again."""
    mine = start(tmp_path)

    def die(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(keepers, "noised_scores", die)
        with pytest.raises(SystemExit):
            mine.evaluate(asked())
    once = opened(tmp_path).spent().charged
    assert once > 0
    mine.evaluate(asked())
    assert opened(tmp_path).spent().charged > once
    assert kinds(tmp_path)[2:] == ["release", "release"]


def test_nothing_is_computed_before_it_is_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that cannot be written: no figure is as much as looked at."""
    mine = start(tmp_path)
    monkeypatch.setattr(keepers, "noised_scores", lambda *_, **__: pytest.fail("computed"))

    def full(*_: object) -> None:
        raise LedgerError("cannot use the ledger: disk full")

    monkeypatch.setattr(Ledger, "release", full)
    with pytest.raises(LedgerError, match="disk full"):
        mine.evaluate(asked())


def test_figures_need_an_account(tmp_path: Path) -> None:
    """Without a ledger no figure leaves, whether privacy is asked for or not."""
    for privacy in (ASKING.privacy, PrivacyConfig()):
        with pytest.raises(LedgerError, match="account"):
            keeper(tmp_path, some_faces(4)).evaluate(asked(replace(ASKING, privacy=privacy)))


@pytest.mark.parametrize(
    ("privacy", "word"),
    [
        (CONFIG.privacy, "without noise"),
        (PrivacyConfig(evaluation_noise=3.0), "without noise"),
        (replace(ASKING.privacy, evaluation_noise=0.5), "noise_multiplier"),
        (replace(ASKING.privacy, unit="image"), "unit"),
    ],
)
def test_what_the_policy_does_not_allow_is_refused_and_written_down(
    tmp_path: Path, privacy: PrivacyConfig, word: str
) -> None:
    """No noise, too little of it, another unit: nothing is kept that could leave."""
    with pytest.raises(BudgetExceeded, match=word):
        start(tmp_path).evaluate(asked(replace(ASKING, privacy=privacy)))
    assert kinds(tmp_path)[2:] == ["refuse"]
    assert not (tmp_path / EVALUATION).exists()


def test_a_spent_budget_ends_figures_too(tmp_path: Path) -> None:
    """Releases of ever other models go on until the next one does not fit."""
    mine = start(tmp_path, Policy(epsilon=3.0, min_noise_multiplier=1.0))
    figures = (mine.evaluate(asked(seed=seed)) for seed in range(100))
    with pytest.raises(BudgetExceeded, match="expected epsilon at most 3"):
        list(figures)
    assert 2.0 < opened(tmp_path).spent().charged <= 3.0


def names_trained(folder: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    seen: list[bytes] = []

    def record(unit: str, faces: object) -> Units:
        units = units_of(unit, faces)  # type: ignore[arg-type]
        seen.extend(units.names)
        return units

    with monkeypatch.context() as patch:
        patch.setattr(keepers, "units_of", record)
        keeper(folder, some_faces(4)).train(request(config=config))
    return seen


def test_nobody_is_trained_on_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is held out is the same in every round, and in no unit of training."""
    start(tmp_path)
    faces = some_faces(4)
    account = open_account(tmp_path, faces)
    assert account is not None
    gone = {faces.person_names[i] for i in held_out(faces.person_names, account.secret, 0.5)}
    trained = names_trained(tmp_path, ASKING, monkeypatch)
    assert {name.decode() for name in trained} == set(faces.person_names) - gone
    assert len(names_trained(tmp_path, CONFIG, monkeypatch)) == 4
    measured: list[str] = []
    real = keepers.noised_scores

    def record(network: object, some: object, *rest: object, **more: object) -> object:
        measured.extend(some.person_names)  # type: ignore[attr-defined]
        return real(network, some, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(keepers, "noised_scores", record)
    keeper(tmp_path, faces).evaluate(asked())
    assert set(measured) == gone


def test_a_seeded_simulation_repeats_and_says_so(tmp_path: Path) -> None:
    """Choice, matching and noise follow from the seed, other noise than that of training."""
    start(tmp_path)
    seeded = keeper(tmp_path, some_faces(4), seeded=True)
    first = seeded.evaluate(asked())
    (tmp_path / EVALUATION).unlink()
    assert seeded.evaluate(asked()).scores == first.scores
    assert read_entries(tmp_path / LEDGER)[2].content["context"]["random"] == "seeded"


def test_unseeded_noise_differs(tmp_path: Path) -> None:
    """The same counts under two releases differ by noise that nobody can predict."""
    mine = start(tmp_path)
    first = mine.evaluate(asked())
    (tmp_path / EVALUATION).unlink()
    second = mine.evaluate(asked())
    assert first.scores is not None
    assert second.scores is not None
    apart = np.array(first.scores.genuine) - np.array(second.scores.genuine)
    assert (apart != 0).all()


@pytest.mark.parametrize("content", [b"", b"{", b"[]\n"])
def test_a_damaged_reply_is_an_error(tmp_path: Path, content: bytes) -> None:
    """A torn file is named; it is not paid for again in silence."""
    mine: Keeper = start(tmp_path)
    mine.evaluate(asked())
    whole = (tmp_path / EVALUATION).read_bytes()
    (tmp_path / EVALUATION).write_bytes(content)
    with pytest.raises(ArtifactError, match="newest reply"):
        mine.evaluate(asked())
    (tmp_path / EVALUATION).write_bytes(whole[:-20])
    with pytest.raises(ArtifactError):
        mine.evaluate(asked())
