"""The round loop against organisations made of a few lines: honest, broken, silent, hostile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from veilface_common import tensors
from veilface_common.config import FederationConfig, ModelConfig, RunConfig
from veilface_common.errors import (
    ArtifactError,
    ConfigError,
    FederationError,
    ProtocolError,
    VeilfaceError,
)
from veilface_common.protocol import EvaluateRequest, TrainReply, TrainRequest
from veilface_server import checkpoint, evaluation
from veilface_server.rounds import Answers, run_rounds, sample_organisations

Behaviour = Callable[[str, TrainRequest], TrainReply | VeilfaceError]


def config(**settings: object) -> RunConfig:
    model = ModelConfig(name="classic", dimension=2)
    return RunConfig(seed=1, model=model, federation=FederationConfig(**{"rounds": 3, **settings}))


def honest(name: str, request: TrainRequest) -> TrainReply:
    """Reply with an update that depends on the name, the round and the model."""
    model = tensors.from_bytes(request.model)
    generator = np.random.default_rng((sum(name.encode()), request.round))
    update = {
        key: (0.01 * generator.standard_normal(value.shape) - 0.1 * value).astype(np.float32)
        for key, value in model.items()
    }
    return TrainReply(organisation=name, round=request.round, update=tensors.to_bytes(update))


def altered(change: Callable[[tensors.Tensors], tensors.Tensors]) -> Behaviour:
    def behave(name: str, request: TrainRequest) -> TrainReply:
        reply = honest(name, request)
        return replace(reply, update=tensors.to_bytes(change(tensors.from_bytes(reply.update))))

    return behave


class Village:
    """Members in memory, in the order in which their replies happen to arrive."""

    def __init__(self, **behaviours: Behaviour) -> None:
        self.behaviours = behaviours
        self.asked: list[Sequence[str]] = []

    def names(self) -> Sequence[str]:
        return sorted(self.behaviours)

    def absent(self) -> dict[str, str]:
        return {}

    def train(self, names: Sequence[str], request: TrainRequest) -> Answers:
        self.asked.append(names)
        order = names if request.round % 2 else list(reversed(names))
        return {name: self.behaviours[name](name, request) for name in order}

    def evaluate(self, names: Sequence[str], request: EvaluateRequest) -> evaluation.Answers:
        raise AssertionError(f"no figures are asked for, but {names} are asked after {request}")


BROKEN: dict[str, tuple[Behaviour, str]] = {
    "raises": (lambda *_: ProtocolError("failed: disk on fire"), "disk on fire"),
    "hangs": (lambda *_: FederationError("no reply within 5 s"), "no reply"),
    "sends_nan": (altered(lambda u: {k: v * np.float32("nan") for k, v in u.items()}), "finite"),
    "sends_infinity": (altered(lambda u: {k: v + np.float32("inf") for k, v in u.items()}), "fin"),
    "sends_too_much": (altered(lambda u: {k: v + 100 for k, v in u.items()}), "norm at most"),
    "leaves_an_array_out": (altered(lambda u: dict(list(u.items())[1:])), "arrays"),
    "sends_another_shape": (altered(lambda u: {k: v.ravel()[:1] for k, v in u.items()}), "shape"),
    "sends_rubbish": (lambda n, r: TrainReply(organisation=n, round=r.round, update=b"x"), "safet"),
    "replays_a_round": (lambda n, r: replace(honest(n, r), round=r.round + 1), "round"),
    "speaks_for_another": (lambda _, r: honest("a", r), "expected a reply of"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_organisation_at_fault_is_named_and_left_out(kind: str, tmp_path: Path) -> None:
    """The round goes on with the others, and gives what it would give without the one."""
    behaviour, reason = BROKEN[kind]
    village = Village(a=honest, b=honest, z=behaviour)
    state = run_rounds(village, config(), tmp_path / "broken")
    records = checkpoint.load_records(tmp_path / "broken")
    assert [record.accepted for record in records] == [("a", "b")] * 3
    assert all(reason in record.left_out["z"] for record in records)
    alone = run_rounds(Village(a=honest, b=honest), config(), tmp_path / "alone")
    assert tensors.to_bytes(state.model) == tensors.to_bytes(alone.model)


def test_too_few_replies_end_the_run_and_keep_the_last_good_model(tmp_path: Path) -> None:
    """The error names who failed and why; the checkpoint is that of the round before."""

    def fails_later(name: str, request: TrainRequest) -> TrainReply | VeilfaceError:
        return honest(name, request) if request.round < 3 else ProtocolError("failed: no disk")

    settings = config(min_replies=2)
    with pytest.raises(FederationError, match=r"round 3.*got 1.*b: failed: no disk"):
        run_rounds(Village(a=honest, b=fails_later), settings, tmp_path)
    state = checkpoint.load_state(tmp_path, settings)
    assert state is not None
    assert state.round == 2


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "fedadam"])
@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_stopped_run_resumes_as_if_it_had_not_stopped(
    strategy: str, stop_after: int, tmp_path: Path
) -> None:
    """The same model, bit for bit, also for algorithms that carry moments from round to round."""

    class PowerCutError(Exception):
        pass

    def cut(name: str, request: TrainRequest) -> TrainReply:
        if request.round > stop_after:
            raise PowerCutError
        return honest(name, request)

    settings = config(strategy=strategy, server_learning_rate=0.5)
    with pytest.raises(PowerCutError):
        run_rounds(Village(a=cut, b=cut), settings, tmp_path / "cut")
    resumed = run_rounds(Village(a=honest, b=honest), settings, tmp_path / "cut")
    unbroken = run_rounds(Village(a=honest, b=honest), settings, tmp_path / "unbroken")
    assert tensors.to_bytes(resumed.model) == tensors.to_bytes(unbroken.model)
    assert len(checkpoint.load_records(tmp_path / "cut")) == 3


def test_a_finished_run_asks_nobody_again(tmp_path: Path) -> None:
    """Resuming after the last round changes nothing."""
    village = Village(a=honest)
    run_rounds(village, config(), tmp_path)
    run_rounds(village, config(), tmp_path)
    assert len(village.asked) == 3


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    """A run is not continued with another seed by accident."""
    run_rounds(Village(a=honest), config(), tmp_path)
    with pytest.raises(ConfigError, match="other settings"):
        run_rounds(Village(a=honest), replace(config(), seed=2), tmp_path)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100])
def test_a_damaged_checkpoint_is_refused(damage: bytes, tmp_path: Path) -> None:
    """A torn or foreign file is an error, never a fresh start in silence."""
    run_rounds(Village(a=honest), config(), tmp_path)
    (tmp_path / checkpoint.CHECKPOINT).write_bytes(damage)
    with pytest.raises(ArtifactError, match="damaged"):
        run_rounds(Village(a=honest), config(), tmp_path)


def test_a_share_of_the_organisations_is_drawn_anew_each_round() -> None:
    """Who is asked follows from (seed, round) alone, and changes with both."""
    names = [f"org-{i}" for i in range(10)]
    half = FederationConfig(fraction=0.5)
    rounds = [tuple(sample_organisations(names, half, 1, n)) for n in range(1, 6)]
    assert all(len(chosen) == 5 for chosen in rounds)
    assert len(set(rounds)) > 1
    assert tuple(sample_organisations(list(reversed(names)), half, 1, 1)) == rounds[0]


def test_a_weight_for_a_stranger_is_refused(tmp_path: Path) -> None:
    """A typing error in a declared weight must not become equal weights."""
    with pytest.raises(ConfigError, match="no member"):
        run_rounds(Village(a=honest), config(weights="b=2"), tmp_path)


def test_kept_models_are_those_of_the_rounds_asked_for(tmp_path: Path) -> None:
    """Every second round and the last one."""
    run_rounds(Village(a=honest), config(keep_every=2), tmp_path)
    kept = sorted(path.stem for path in (tmp_path / checkpoint.MODELS).iterdir())
    assert kept == ["00002", "00003"]


def test_rules_that_refuse_for_now_do_not_use_up_the_rounds(tmp_path: Path) -> None:
    """All refuse at noon: the run stops, and goes on at night; a spent budget would end it."""

    def refuses(name: str, request: TrainRequest, *, by_rules: bool) -> TrainReply:
        reply = TrainReply(organisation=name, round=request.round, update=b"")
        return replace(reply, refusal="not at noon", by_rules=by_rules)

    for_now, for_good = partial(refuses, by_rules=True), partial(refuses, by_rules=False)
    with pytest.raises(FederationError, match=r"round 1.*a: not at noon"):
        run_rounds(Village(a=for_now), config(), tmp_path / "now")
    assert run_rounds(Village(a=honest), config(), tmp_path / "now").round == 3
    run_rounds(Village(a=for_good), config(), tmp_path / "good")
    assert [r.accepted for r in checkpoint.load_records(tmp_path / "good")] == [(), (), ()]


def test_a_weighted_organisation_may_be_away(tmp_path: Path) -> None:
    """A member whose node is gone for a round is no typing error: the run goes on without it."""

    class Lonely(Village):
        def absent(self) -> dict[str, str]:
            return {"b": "is away"}

    run_rounds(Lonely(a=honest), config(weights="b=2"), tmp_path)
    records = checkpoint.load_records(tmp_path)
    assert [record.left_out for record in records] == [{"b": "is away"}] * 3


class Emptying(Village):
    """Members of whom some are away by now."""

    def __init__(self, *away: str, **behaviours: Behaviour) -> None:
        super().__init__(**behaviours)
        self.away = away

    def names(self) -> Sequence[str]:
        return sorted(set(self.behaviours) - set(self.away))


def test_a_round_that_a_crash_cut_off_is_asked_for_as_before(tmp_path: Path) -> None:
    """Whoever has answered takes that request alone: it names all who were asked, there or not."""
    digests: list[str] = []

    def dies(name: str, request: TrainRequest) -> TrainReply:
        digests.append(request.digest)
        raise KeyboardInterrupt(name)

    def notes(name: str, request: TrainRequest) -> TrainReply:
        digests.append(request.digest)
        return honest(name, request)

    with pytest.raises(KeyboardInterrupt):
        run_rounds(Village(a=dies, b=dies, c=dies), config(rounds=1), tmp_path)
    late = Emptying("c", a=notes, b=notes, c=notes, d=notes)
    run_rounds(late, config(rounds=1), tmp_path)
    assert (len(digests), len(set(digests))) == (3, 1)
    assert late.asked == [["a", "b"]]
    assert checkpoint.load_records(tmp_path)[0].left_out == {"c": "is away"}


def test_a_request_that_all_rules_refused_may_name_others(tmp_path: Path) -> None:
    """Two are too few for everybody: once a third has joined, the round names three."""
    named: list[tuple[str, ...]] = []

    def careful(name: str, request: TrainRequest) -> TrainReply:
        named.append(request.participants)
        if len(request.participants) > 2:
            return honest(name, request)
        reply = TrainReply(organisation=name, round=request.round, update=b"")
        return replace(reply, refusal="too few", by_rules=True)

    with pytest.raises(FederationError):
        run_rounds(Village(a=careful, b=careful), config(rounds=1), tmp_path)
    run_rounds(Village(a=careful, b=careful, c=careful), config(rounds=1), tmp_path)
    assert named[-1] == ("a", "b", "c")
