"""What a coordinator may try, by name: each is refused, told why, audited, and costs nothing.

docs/threats.md is the table of these. Attacks that come as code are those of the node's tests.
"""

from __future__ import annotations

import json
import socket
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.client.door_parts import (
    BUDGET,
    COORDINATOR,
    NAMES,
    NEW,
    OTHER,
    STRANGER,
    Clock,
    ask,
    kinds,
    ledger_of,
    model,
    organisation,
    reasons,
    sealed,
    to_evaluate,
    to_train,
)
from tests.client.test_account import CONFIG

from veilface_client.door import Door
from veilface_client.keeper_socket import listening
from veilface_client.replies import EVALUATION
from veilface_client.replies import FILE as REPLY
from veilface_common import protocol, tensors, wire
from veilface_common.config import ModelConfig, PrivacyConfig, RunConfig
from veilface_common.errors import RequestRefused
from veilface_common.protocol import DescribeRequest, EvaluateReply, Reply, Request, TrainReply
from veilface_common.tensors import Tensors
from veilface_common.wire import Envelope

QUICK = replace(CONFIG, privacy=replace(CONFIG.privacy, steps=1))
ASKING = replace(QUICK, privacy=replace(QUICK.privacy, evaluation_noise=6.0, evaluation_share=0.5))


def private(**changes: object) -> RunConfig:
    return replace(QUICK, privacy=replace(QUICK.privacy, **changes))  # type: ignore[arg-type]


def verify_nothing_happened(folder: Path, reason: str, before: int = 2) -> None:
    """Do nothing if the auditor reads why, nothing was charged since, and nothing is kept to send.

    Args:
        folder: the organisation's.
        reason: a part of the newest refusal in the ledger.
        before: how many entries there were before the attack.
    """
    assert reason in reasons(folder)[-1]
    assert set(kinds(folder)[before:]) == {"refuse"}
    if before == len(NEW):
        assert not ledger_of(folder).steps
        assert not (folder / REPLY).exists()
        assert not (folder / EVALUATION).exists()


def refused(reply: Reply, reason: str) -> None:
    """Do nothing if the signed reply says why, and holds nothing else."""
    assert reason in reply.refusal
    assert reply.ledger_head is None
    assert not (reply.update if isinstance(reply, TrainReply) else reply.scores)


def turned_away(door: Door, envelope: Envelope, reason: str) -> None:
    with pytest.raises(RequestRefused, match=reason):
        door.answer(envelope)


def test_the_same_round_twice(tmp_path: Path) -> None:
    """The same answer, bit for bit, and one charge: two looks at one round are one."""
    door = organisation(tmp_path)
    one, two = ask(door, to_train(config=QUICK)), ask(door, to_train(config=QUICK))
    assert one == two
    assert kinds(tmp_path) == [*NEW, "reserve", "settle"]


def test_the_same_round_with_another_model(tmp_path: Path) -> None:
    """A difference of two answers in one round is what a differencing attack is made of."""
    door = organisation(tmp_path)
    ask(door, to_train(config=QUICK))
    other = to_train(config=QUICK, weights=model(seed=4))
    refused(ask(door, other), "another request for round 1")
    verify_nothing_happened(tmp_path, "from another model", before=4)


def test_an_older_round(tmp_path: Path) -> None:
    """Recorded and shown again, or out of order; with the model of then, or another."""
    door = organisation(tmp_path)
    ask(door, to_train(2, QUICK))
    for weights in (model(), model(seed=4)):
        refused(ask(door, to_train(1, QUICK, weights)), "replayed, or out of order")
    verify_nothing_happened(tmp_path, "replayed", before=4)


ASKED_TOO_MUCH: dict[str, tuple[RunConfig, str]] = {
    "sigma below the policy": (private(noise_multiplier=0.99), "noise_multiplier at least 1"),
    "10,000 steps": (private(steps=10_000), "steps at most 1000"),
    "everybody in every step": (private(sample_rate=1.0), "sample_rate at most 0.5"),
    "a photograph as the unit": (private(unit="image"), "unit identity"),
    "more than the budget": (private(sample_rate=0.5, steps=1000), "epsilon at most 30"),
    "without privacy": (replace(QUICK, privacy=PrivacyConfig()), "without privacy"),
}


@pytest.mark.parametrize("attack", ASKED_TOO_MUCH)
def test_more_than_the_policy_allows(tmp_path: Path, attack: str) -> None:
    """What the coordinator asks for is a request: the organisation's own file decides."""
    config, reason = ASKED_TOO_MUCH[attack]
    refused(ask(organisation(tmp_path), to_train(config=config)), reason)
    verify_nothing_happened(tmp_path, reason)


def header_of(change: Callable[[dict[str, object]], object]) -> Envelope:
    """Return a request whose header the coordinator itself altered before it signed."""
    envelope = sealed(to_train(config=QUICK, weights=b""))
    header = json.loads(envelope.header)
    change(header)
    altered = replace(envelope, header=json.dumps(header))
    return replace(altered, signature=COORDINATOR.sign("request", altered.signed_bytes))


BEYOND_THE_PROTOCOL: dict[str, tuple[Callable[[dict[str, object]], object], str]] = {
    "sigma 0": (
        lambda h: h["config"].update({"privacy.noise-multiplier": 0.0}),
        "noise-multiplier",
    ),  # type: ignore[attr-defined]
    "sigma that is no number": (
        lambda h: h["config"].update({"privacy.noise-multiplier": float("nan")}),  # type: ignore[attr-defined]
        "noise-multiplier",
    ),
    "no clipping": (
        lambda h: h["config"].update({"privacy.max-gradient-norm": float("inf")}),  # type: ignore[attr-defined]
        "max-gradient-norm",
    ),
    "a setting that turns noise off": (
        lambda h: h["config"].update({"privacy.noise": False}),  # type: ignore[attr-defined]
        "unknown setting",
    ),
    "another run's settings": (
        lambda h: h["config"].update({"seed": 8}),
        "the settings of the run",
    ),  # type: ignore[attr-defined]
    "a round after the last": (lambda h: h.update({"round": 4}), "a round up to 3"),
    "a fifth kind of request": (lambda h: h.update({"kind": "export"}), "describe, train or"),
}


@pytest.mark.parametrize("attack", BEYOND_THE_PROTOCOL)
def test_beyond_the_protocol(tmp_path: Path, attack: str) -> None:
    """Signed by a coordinator that is known and allowed: the protocol has no words for it."""
    change, reason = BEYOND_THE_PROTOCOL[attack]
    turned_away(organisation(tmp_path), header_of(change), reason)
    verify_nothing_happened(tmp_path, reason)


def tampered() -> dict[str, tuple[Envelope, str]]:
    whole, other = (
        sealed(to_train(config=QUICK)),
        sealed(to_train(config=QUICK, weights=model(seed=4))),
    )
    known = "a coordinator that is known"
    return {
        "for another organisation": (
            sealed(to_train(config=QUICK), to="org-2"),
            "one to another organisation",
        ),
        "unsigned": (replace(whole, signature=b""), known),
        "signed by a stranger": (sealed(to_train(config=QUICK), STRANGER), known),
        "signed as something else": (
            replace(whole, signature=COORDINATOR.sign("release", whole.signed_bytes)),
            known,
        ),
        "header altered": (
            replace(whole, header=whole.header.replace('"round": 1', '"round": 2')),
            known,
        ),
        "tensors swapped": (replace(whole, tensors=other.tensors), known),
    }


@pytest.mark.parametrize("attack", tampered())
def test_not_as_it_was_signed(tmp_path: Path, attack: str) -> None:
    """Whoever carries a request cannot redirect it, alter it, or write one."""
    envelope, reason = tampered()[attack]
    turned_away(organisation(tmp_path), envelope, reason)
    verify_nothing_happened(tmp_path, reason)


def test_a_known_coordinator_that_the_policy_does_not_list(tmp_path: Path) -> None:
    """Its key is known from another federation; these faces are not for that one."""
    listed = f'coordinators = ["{COORDINATOR.public.fingerprint}"]'
    door = organisation(tmp_path, rules=listed)
    reason = f"other coordinators than {OTHER.public.fingerprint}"
    refused(ask(door, to_train(config=QUICK), OTHER), reason)
    verify_nothing_happened(tmp_path, reason)


def test_outside_the_rules(tmp_path: Path) -> None:
    """Another network, by day, with too few others, too large: each by its own rule."""
    clock = Clock()
    rules = (
        'models = ["tiny/8"]\nhours = "20:00-06:00"\nmin_participants = 3\nmax_model_megabytes = 1'
    )
    door = organisation(tmp_path, rules=rules, now=clock)
    base = replace(QUICK, model=ModelConfig(name="base", dimension=8))
    lonely = replace(to_train(config=QUICK, weights=b""), participants=NAMES[:2])
    large = to_train(config=QUICK, weights=bytes(300 << 20))
    refused(ask(door, to_train(config=QUICK, weights=b"")), "at 20:00-06:00, not at 12:00")
    clock.now += timedelta(hours=12)
    refused(ask(door, to_train(config=base, weights=b"")), "models tiny/8, got base/8")
    refused(ask(door, lonely), "wants 3 organisations in a round, got 2")
    refused(ask(door, large), "models of 1 MiB")
    verify_nothing_happened(tmp_path, "models of 1 MiB")
    assert len(reasons(tmp_path)) == 4


def altered(change: Callable[[Tensors], Tensors]) -> bytes:
    return tensors.to_bytes(change(tensors.from_bytes(model())))


def filled(value: float) -> bytes:
    def change(weights: Tensors) -> Tensors:
        name = next(iter(weights))
        poisoned = weights[name].copy()
        poisoned.flat[0] = value
        return weights | {name: poisoned}

    return altered(change)


MODELS: dict[str, tuple[Callable[[], bytes], str]] = {
    "NaN": (lambda: filled(float("nan")), "finite numbers"),
    "infinity": (lambda: filled(float("inf")), "finite numbers"),
    "an array missing": (lambda: altered(lambda w: dict(list(w.items())[1:])), "arrays, differs"),
    "an array more": (
        lambda: altered(lambda w: w | {"trap": np.zeros(3, np.float32)}),
        "differs in 'trap'",
    ),
    "another shape": (lambda: altered(lambda w: {k: v.ravel() for k, v in w.items()}), "shape"),
    "float64": (
        lambda: tensors.to_bytes(
            {k: v.astype(np.float64) for k, v in tensors.from_bytes(model()).items()}
        ),
        "expected float32",
    ),
    "pickle": (lambda: b"\x80\x04\x95\x00\x00\x00\x00", "safetensors"),
    "nothing": (lambda: b"", "safetensors"),
}


@pytest.mark.parametrize("attack", MODELS)
@pytest.mark.parametrize("to", [to_train, to_evaluate])
def test_a_model_that_is_none(tmp_path: Path, attack: str, to: Callable[..., Request]) -> None:
    """It is looked at before anything is charged, and what is wrong with it is said."""
    make, reason = MODELS[attack]
    refused(ask(organisation(tmp_path), to(config=ASKING, weights=make())), reason)
    verify_nothing_happened(tmp_path, reason)


def test_a_model_of_10_gb(tmp_path: Path) -> None:
    """Declared, it is refused at once: its bytes are not waited for, no room is made for them."""
    door = organisation(tmp_path / "org")
    path = tmp_path / "k"
    with listening(path, door), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        tracemalloc.start()
        frame = wire._MAGIC + wire._LENGTHS.pack(wire.REQUEST, 2, 64, 10 * 10**9)
        connection.sendall(frame)
        kind, refusal = wire.read_frame(connection)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (kind, kinds(tmp_path / "org")) == (wire.REFUSED, NEW)
    assert "got 10000000000" in refusal.header
    assert most < 10 << 20


def test_figures_without_noise(tmp_path: Path) -> None:
    """No figure leaves unnoised, whatever the settings of the run say."""
    refused(ask(organisation(tmp_path), to_evaluate(QUICK)), "figures without noise")
    verify_nothing_happened(tmp_path, "figures without noise")


def test_figures_with_too_little_noise(tmp_path: Path) -> None:
    """The policy's least is that of figures as well."""
    little = replace(ASKING, privacy=replace(ASKING.privacy, evaluation_noise=0.5))
    refused(ask(organisation(tmp_path), to_evaluate(little)), "noise_multiplier at least 1")
    verify_nothing_happened(tmp_path, "noise_multiplier at least 1")


def test_figures_of_one_model_after_another(tmp_path: Path) -> None:
    """Figures of chosen models would be questions about people: a run ends with one."""
    door = organisation(tmp_path)
    first = ask(door, to_evaluate(ASKING))
    assert isinstance(first, EvaluateReply)
    assert first.scores is not None
    assert ask(door, to_evaluate(ASKING)) == first
    refused(ask(door, to_evaluate(ASKING, model(seed=4))), "a run ends once")
    refused(ask(door, to_train(3, ASKING)), "it has ended")
    verify_nothing_happened(tmp_path, "it has ended", before=3)
    assert kinds(tmp_path).count("release") == 1


def test_a_flood_of_questions_who_it_is(tmp_path: Path) -> None:
    """Hundreds cost no entry, no charge and little time each."""
    door = organisation(tmp_path)
    question = protocol.encode_request(DescribeRequest(), to="", key=COORDINATOR)
    began = time.process_time()
    for _ in range(300):
        door.answer(question)
    assert time.process_time() - began < 10
    assert kinds(tmp_path) == NEW


def test_a_budget_is_spent_once_for_all_coordinators_and_runs(tmp_path: Path) -> None:
    """New names, new runs and a second coordinator do not begin a new budget."""
    door = organisation(tmp_path, policy=replace(BUDGET, epsilon=12.0))
    for number in range(20):
        config = replace(CONFIG, run=f"{number:016x}")
        reply = ask(door, to_train(config=config), OTHER if number % 2 else COORDINATOR)
        if reply.refusal:
            break
    refused(reply, "expected epsilon at most 12")
    assert reasons(tmp_path) == [reply.refusal]
    assert ledger_of(tmp_path).spent().charged <= 12.0
