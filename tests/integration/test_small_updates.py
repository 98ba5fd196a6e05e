"""A federation whose updates travel in fewer bits, and one whose updates do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from veilface_client import keeper, replies
from veilface_common import models, tensors
from veilface_common.budget.calibration import calibrated
from veilface_common.config import PrivacyConfig
from veilface_common.models.weights import read_weights
from veilface_common.tensors import Tensors
from veilface_server import rounds as coordinator
from veilface_server.checkpoint import load_records, load_state
from veilface_simulations.experiment import Experiment
from veilface_simulations.inprocess import run_in_process
from veilface_simulations.world import World

Build = Callable[..., tuple[Experiment, World]]
PLAN = PrivacyConfig(unit="identity", steps=2, sample_rate=0.5, trained="projection")


def train(experiment: Experiment, world: World) -> Tensors:
    """Return the model after the last round, in each of which everybody took part."""
    federation = world.federations[0]
    folders = {name: federation.organisations / name for name in federation.members}
    run_in_process(experiment.config, folders, federation.server, 1)
    records = load_records(federation.server)
    assert [record.accepted for record in records] == [("org-1", "org-2", "org-3")] * len(records)
    state = load_state(federation.server, experiment.config)
    assert state is not None
    return state.model


def distance(one: Tensors, other: Tensors) -> float:
    return tensors.norm({name: value - other[name] for name, value in one.items()})


@pytest.mark.parametrize(("precision", "error"), [("fp16", 0.001), ("int8", 0.02)])
def test_fewer_bits_lead_to_almost_the_same_model(
    build: Build, precision: str, error: float
) -> None:
    """After a round, off by a small share of the way that the round went; and off at all."""
    experiment, world = build("whole", rounds=1)
    start = read_weights(models.build(experiment.config.model, experiment.config.seed))
    whole = train(experiment, world)
    small = train(*build("small", rounds=1, update_precision=precision))
    assert 0 < distance(whole, small) < error * distance(whole, start)


def test_whole_updates_are_what_they_always_were(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit the model of arrays that are written down and read, with nothing in between."""
    by_default, asked_for = train(*build("one")), train(*build("two", update_precision="fp32"))
    monkeypatch.setattr(keeper, "encode_update", lambda update, _: tensors.to_bytes(update))
    monkeypatch.setattr(coordinator, "decode_update", lambda sent, *_: tensors.from_bytes(sent))
    plain = train(*build("three"))
    assert tensors.to_bytes(by_default) == tensors.to_bytes(asked_for) == tensors.to_bytes(plain)


def test_a_private_update_is_kept_as_it_travelled(build: Build) -> None:
    """In 8 bits: the reply that would be sent again is small too, and the others' as well."""
    privacy = calibrated(PLAN, rounds=2, epsilon=8.0, delta=1e-5)
    experiment, world = build(privacy=privacy, update_precision="int8")
    model = train(experiment, world)
    assert all(np.isfinite(value).all() for value in model.values())
    organisations = world.federations[0].organisations
    for name in world.federations[0].members:
        kept = (organisations / name / replies.FILE).stat().st_size
        assert kept < 0.27 * len(tensors.to_bytes(model))
