"""The audit: its bound is right, the shipped step passes, and every planted fault is caught."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from math import comb, exp
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from veilface_client.noise import SeededNoise
from veilface_client.private import NoisyOptimizer
from veilface_client.units import Coins
from veilface_common.budget.events import UNITS, Unit
from veilface_simulations.auditing import command, inversion, mechanism
from veilface_simulations.auditing.audit import Audit, Settings, audit, target_at_defaults
from veilface_simulations.auditing.bound import lower_bound, measure, probability
from veilface_simulations.auditing.canaries import Evidence, Run, run_canaries
from veilface_simulations.auditing.faults import FAULTS, SHIPPED, NaiveNoise
from veilface_simulations.auditing.floating import check_floating_point, undone
from veilface_simulations.auditing.inversion import attack_a_face, likeness
from veilface_simulations.auditing.mechanism import (
    check_noise,
    check_processes,
    check_run,
    check_sampling,
    check_sensitivity,
    step_at_defaults,
)
from veilface_simulations.auditing.membership import attack
from veilface_simulations.auditing.record import Check, load_record, to_json
from veilface_simulations.cli import main

DELTA = 1e-5
SMALL = Settings(canaries=160, epsilon=1.0)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def done(what: str, so_far: int, total: int) -> None:
    assert 0 < so_far <= total, what


def slow_probability(
    canaries: int, guesses: int, correct: int, epsilon: float, delta: float
) -> float:
    """The theorem as it is written, with exact sums."""
    right = Fraction(exp(epsilon) / (1 + exp(epsilon)))

    def at_least(count: int) -> Fraction:
        return sum(
            (
                comb(guesses, k) * right**k * (1 - right) ** (guesses - k)
                for k in range(max(0, count), guesses + 1)
            ),
            Fraction(0),
        )

    steps = [(at_least(correct - i) - at_least(correct)) / i for i in range(1, correct + 1)]
    return min(1.0, float(at_least(correct) + 2 * canaries * Fraction(delta) * max(steps)))


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct"), [(20, 20, 20), (40, 10, 7), (30, 30, 24)]
)
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("delta", [0.0, 1e-3])
def test_the_probability_equals_exact_sums(
    canaries: int, guesses: int, correct: int, epsilon: float, delta: float
) -> None:
    found = probability(canaries, guesses, correct, epsilon=epsilon, delta=delta)
    slow = slow_probability(canaries, guesses, correct, epsilon, delta)
    assert found == pytest.approx(slow, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("canaries", "expected"), [(50, 2.78), (100, 3.49), (300, 4.59), (1000, 5.78), (3000, 6.83)]
)
def test_the_most_that_canaries_can_show(canaries: int, expected: float) -> None:
    """All guesses right, at 95%."""
    found = lower_bound(canaries, canaries, canaries, delta=DELTA)
    assert found == pytest.approx(expected, abs=0.01)


def test_the_bound_is_the_epsilon_at_which_the_doubt_is_reached() -> None:
    """Just below the bound the guesses are too good to be true; just above they are not."""
    found = lower_bound(200, 100, 80, delta=DELTA, doubt=0.05)
    assert probability(200, 100, 80, epsilon=found - 1e-6, delta=DELTA) < 0.05
    assert probability(200, 100, 80, epsilon=found + 1e-6, delta=DELTA) >= 0.05
    assert lower_bound(200, 100, 50, delta=DELTA) == 0.0


def test_randomised_coins_are_rarely_accused() -> None:
    """The sharpest mechanism of epsilon 1 is called worse than it is in at most 1 of 20 runs."""
    random = np.random.default_rng(4)
    accused = 0
    for _ in range(200):
        coins = random.random(200) < 0.5
        kept = random.random(200) < exp(1) / (1 + exp(1))
        scores = np.where(coins == kept, 1.0, -1.0) * random.uniform(1, 2, 200)
        accused += measure(scores, coins, 0.0).epsilon > 1.0
    assert accused <= 10


def test_the_surest_guesses_are_counted() -> None:
    """Where only the surest scores are right, the eighth proves more than all of them."""
    random = np.random.default_rng(2)
    coins = random.random(400) < 0.5
    signs = np.where(coins, 1.0, -1.0)
    scores = np.where(np.arange(400) < 50, 9.0 * signs, random.choice([-1.0, 1.0], 400))
    found = measure(scores, coins, DELTA)
    assert (found.guesses, found.correct) == (50, 50)
    assert 0 < found.epsilon < found.resolving_power < 4.9


def test_whom_a_round_takes_counts_as_noise() -> None:
    """Scores at q < 1 are the best linear guess under the whole covariance of the update."""
    random = np.random.default_rng(5)
    gradients = random.normal(size=(6, 30)).astype(np.float32)
    rate, evidence = 0.3, Evidence(6, 0.3)
    gram, told = np.zeros((6, 6)), np.zeros(6)
    for _ in range(2):
        update = gradients[:3].astype(float).sum(0) + random.normal(size=30)
        level = evidence.add(gradients, update, 1.0)
        covariance = level**2 * np.eye(30) + rate * (1 - rate) / 2 * gradients.T @ gradients
        seen = rate * gradients @ np.linalg.inv(covariance)  # [6, 30]
        gram += rate * seen @ gradients.T
        told += seen @ update
    size = max(0.5, 2 * told.sum() / gram.sum())
    slow = np.linalg.solve(gram + 4 / size**2 * np.eye(6), told - size / 2 * gram.sum(1))
    assert evidence.scores() == pytest.approx(slow, rel=1e-4, abs=1e-6)


def synthetic(noise: float, size: float = 1.0) -> tuple[Evidence, NDArray[np.bool_], float]:
    """Return the evidence of one round over 60 canaries whose gradients are alike."""
    random = np.random.default_rng(6)
    gradients = random.normal(size=(60, 4000)) + 2 * random.normal(size=4000)
    gradients /= np.linalg.norm(gradients, axis=1, keepdims=True)
    coins = random.random(60) < 0.5
    update = size * gradients[coins].sum(0) + noise * random.normal(size=4000)
    evidence = Evidence(60, 1.0)
    level = evidence.add(gradients.astype(np.float32), update, 1.0)
    return evidence, coins, level


def test_without_noise_every_coin_is_read() -> None:
    """However alike the gradients are."""
    evidence, coins, _ = synthetic(0.0)
    assert ((evidence.scores() > 0) == coins).all()


@pytest.mark.parametrize("size", [1.0, 10.0])
def test_the_level_of_the_noise_is_read_off_the_update(size: float) -> None:
    """Whoever is in it, and however large what they give."""
    _, _, level = synthetic(0.3, size)
    assert level == pytest.approx(0.3, rel=0.05)


def test_membership_is_found_where_losses_tell_and_not_where_they_do_not() -> None:
    coins = np.arange(400) % 2 == 0
    told = attack(np.where(coins, 1.0, 0.0), coins, epsilon=1.0, delta=DELTA)
    assert (told.auc, told.tpr_at_fpr_1e_2) == (1.0, 1.0)
    random = attack(np.random.default_rng(0).random(400), coins, epsilon=1.0, delta=DELTA)
    assert random.auc == pytest.approx(0.5, abs=0.1)
    assert random.tpr_at_fpr_1e_2 < 0.05
    assert random.allowed_at_fpr_1e_2 == pytest.approx(0.0272, abs=1e-4)


def failed(checks: Iterable[Check]) -> set[str]:
    return {check.name for check in checks if not check.passed}


@pytest.mark.parametrize("fault", ["noise-off", "noise-once"])
def test_missing_noise_is_caught_by_its_variance(fault: str) -> None:
    checks = list(check_noise(step_at_defaults(FAULTS[fault], "identity", "fixed", seed=0)))
    assert failed(checks) == {"variance of the noise"}


def test_noise_used_twice_is_caught_by_its_correlation() -> None:
    """Its variance is right in each round."""
    subject = step_at_defaults(FAULTS["noise-repeated"], "identity", "fixed", seed=0)
    assert failed(list(check_noise(subject))) == {"independence of rounds"}


@pytest.mark.parametrize("fault", ["clip-after-sum", "head-outside"])
@pytest.mark.parametrize("unit", UNITS)
def test_what_is_not_bounded_is_caught_by_the_sensitivity(fault: str, unit: Unit) -> None:
    subject = step_at_defaults(FAULTS[fault], unit, "leave-one-out", seed=0)
    assert not check_sensitivity(subject).passed


def test_coins_that_take_everybody_are_caught_by_counting() -> None:
    assert check_sampling(SHIPPED, 0.1).passed
    assert not check_sampling(FAULTS["everybody-taken"], 0.1).passed


def test_the_same_coins_in_every_step_are_caught_by_counting() -> None:
    """Each step alone takes as many as it should."""

    class Stuck(Coins):
        def takes(self, step: int, unit: bytes, rate: float) -> bool:  # noqa: ARG002 -- the fault
            return super().takes(0, unit, rate)

    stuck = replace(SHIPPED, coins=lambda _: Stuck(bytes(32)))
    assert not check_sampling(stuck, 0.1).passed


def test_gaps_of_floating_point_are_caught() -> None:
    """A naive transform is solved for nearly every pair at the right guess; ours is not."""
    noised = 2.0**-10 + NaiveNoise(0).standard(20_000)
    assert undone(noised, 2.0**-10)[0] > 0.99
    assert undone(noised, -(2.0**-10))[0] < 0.2
    assert not check_floating_point(FAULTS["noise-naive"]).passed
    found = check_floating_point(SHIPPED)
    assert found.passed, found.detail


def test_a_sum_rounded_before_its_noise_is_added_is_caught_by_its_low_bits() -> None:
    """As where both are float32: the grid of the sum shows through."""

    class Rounded(NoisyOptimizer):
        def add_noise(self) -> None:
            for parameter in self.params:
                drawn = torch.from_numpy(self._noise.standard(parameter.numel())).float()
                parameter.grad = parameter.summed_grad + drawn * self._deviation
                parameter.summed_grad = None

    assert not check_floating_point(replace(SHIPPED, mechanism=Rounded)).passed


def test_a_process_that_inherits_the_noise_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would be, had a fork not taken a new key."""
    drawn = SeededNoise(1).standard(1000)
    monkeypatch.setattr(mechanism, "drawn_in_processes", lambda: [drawn, drawn[::-1], drawn])
    assert not check_processes().passed


def test_an_update_that_was_not_charged_is_caught() -> None:
    run = Run(
        included=np.array([True]),
        scores=np.zeros(1),
        loss_drops=np.zeros(1),
        levels=(1.0, 1.0),
        unexplained=10_000,
        contribution=1.0,
        sample_rate=0.5,
        offered=100,
        taken=50,
        sent=2,
        charged=1,
        claimed=1.0,
    )
    assert failed(check_run(run)) == {"ledger"}
    assert failed(check_run(replace(run, charged=2, taken=100))) == {"sampling of the run"}


@pytest.fixture(scope="module")
def honest() -> Audit:
    torch.set_num_threads(1)
    return audit(target_at_defaults(SMALL), done)


def test_the_shipped_step_passes(honest: Audit) -> None:
    """Every exact test holds and the bound stays below the claim, which is the ledger's."""
    found = honest.record
    assert found.passed, to_json(found)
    assert found.measured.epsilon < found.claimed.epsilon <= SMALL.epsilon
    assert found.claimed.epsilon > 0.95 * SMALL.epsilon
    assert (honest.run.charged, honest.run.sent) == (2, 2)
    assert 1.2 * SMALL.epsilon < found.measured.resolving_power  # or it could not fail
    assert found.could_refute


def test_the_shipped_step_hides_photographs_too() -> None:
    settings = replace(SMALL, canaries=40, unit="image")
    run = canaries_of(settings)
    assert measure(run.scores, run.included, DELTA).epsilon < run.claimed
    assert not failed(check_run(run))


def canaries_of(settings: Settings) -> Run:
    target = target_at_defaults(settings)
    with tempfile.TemporaryDirectory() as folder:
        return run_canaries(
            target.subject, target.plan, Path(folder), lambda *at: done("canaries", *at)
        )


@pytest.mark.parametrize(
    ("fault", "canaries"), [("noise-off", 40), ("noise-once", 40), ("clip-after-sum", 160)]
)
def test_canaries_refute_the_claim_of_a_broken_step(fault: str, canaries: int) -> None:
    """Without any exact test: what is measured is above what is claimed."""
    run = canaries_of(replace(SMALL, broken=fault, canaries=canaries))
    assert measure(run.scores, run.included, DELTA).epsilon > run.claimed


def test_canaries_see_whether_a_claim_rests_on_coins() -> None:
    """A step charged for 1 in 100 that takes 1 in 100 passes; one that takes everybody does not."""
    rare = replace(SMALL, epsilon=0.5, sample_rate=0.01)
    run = canaries_of(replace(rare, canaries=40))
    assert measure(run.scores, run.included, DELTA).epsilon < run.claimed
    assert not failed(check_run(run))
    run = canaries_of(replace(rare, broken="everybody-taken"))
    assert measure(run.scores, run.included, DELTA).epsilon > run.claimed
    assert failed(check_run(run)) == {"sampling of the run"}


def test_the_command_says_what_was_found(
    honest: Audit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 and a verdict of pass; for people, a line for each test."""
    monkeypatch.setattr(command, "audit", lambda *_: honest)
    assert main(["audit", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["broken"], found["verdict"]) == (1, None, "pass")
    assert found["claimed"].keys() == {"epsilon", "delta", "unit"}
    assert found["measured"].keys() == {
        *("epsilon", "confidence", "canaries", "guesses", "correct", "resolving_power")
    }
    assert {check["passed"] for check in found["checks"]} == {True}
    assert {"auc", "tpr_at_fpr_1e_2"} <= found["membership"].keys()
    assert main(["audit"]) == 0
    text = capsys.readouterr().out
    assert text.count("\n") == 10 + len(honest.record.checks)
    assert "nothing contradicts the claim" in text


def test_a_broken_step_ends_with_its_own_code_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--break plants the fault; the page says so, loads nothing and shows a drawn face."""
    monkeypatch.setattr(inversion, "STEPS", 3)
    wanted = ["audit", "--canaries", "40", "--epsilon", "1", "--break", "noise-off", "--json"]
    assert main([*wanted, "--out", str(tmp_path / "audit")]) == command.CAUGHT == 1
    printed = json.loads(capsys.readouterr().out)
    assert (printed["broken"], printed["verdict"]) == ("noise-off", "fail")
    assert printed["measured"]["epsilon"] > printed["claimed"]["epsilon"]
    assert json.loads((tmp_path / "audit" / "audit.json").read_text()) == printed
    read = load_record(tmp_path / "audit")
    assert read is not None
    assert to_json(read) == printed
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert "planted on purpose" in page
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--canaries", "5"),
        ("--steps", "0"),
        ("--seed", "-1"),
        ("--break", "all"),
        ("--epsilon", "0"),
        ("--sample-rate", "2"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", *wrong]) in {2, 9}
    assert capsys.readouterr().err.startswith("veilface-sim: ")


@pytest.mark.bench
def test_a_bare_gradient_gives_the_face_away_and_a_private_update_does_not() -> None:
    """The positive control of the pictures, and the pictures."""
    found = attack_a_face(SHIPPED, 3.0, 0, lambda *at: done("steps", *at))
    assert likeness(found.bare, found.face) > 0.7
    assert abs(likeness(found.private, found.face)) < 0.3
