"""What weighs the frames of a track, trained together: in private, and charged once a round."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.test_private_federation import Build, train, verdict

from veilface_common import models, tensors
from veilface_common.artifact import load_model, save_model
from veilface_common.budget.calibration import calibrated
from veilface_common.config import ModelConfig, PrivacyConfig, TrainingConfig
from veilface_common.models.weights import read_weights
from veilface_server.checkpoint import load_state, save_initial
from veilface_simulations.experiment import Experiment

PLAN = PrivacyConfig(unit="identity", steps=3, sample_rate=0.5, trained="track", images_per_unit=2)


def tracked(experiment: Experiment, **settings: object) -> Experiment:
    """Return the experiment on tracks, beside a model that embeds already."""
    config = replace(experiment.config, model=ModelConfig(track="gru"), **settings)
    return replace(experiment, config=config)


def test_a_private_round_trains_what_weighs_frames_and_pays_once(build: Build) -> None:
    """From a model without it: the embeddings stay, and the auditor finds epsilon, no more."""
    privacy = calibrated(PLAN, rounds=2, epsilon=8.0, delta=1e-5)
    experiment, world = build(privacy=replace(privacy, trained="all"))
    start = read_weights(models.build(ModelConfig(), seed=9))
    digest = hashlib.sha256(tensors.to_bytes(start)).hexdigest()
    experiment = tracked(experiment, privacy=privacy, initial=digest)
    federation = world.federations[0]
    save_initial(federation.server, start)
    records = train(experiment, world)
    assert [len(record.accepted) for record in records] == [3, 3]
    for name in records[0].accepted:
        assert verdict(federation, name) == (pytest.approx(8.0, rel=0.02), 0)
    ended = load_state(federation.server, experiment.config)
    assert ended is not None
    assert all((ended.model[name] == start[name]).all() for name in start)
    drawn = read_weights(models.build(experiment.config.model, experiment.config.seed))
    trained = drawn.keys() - start.keys()
    assert trained
    assert all((ended.model[name] != drawn[name]).any() for name in trained)


def test_without_privacy_the_same_part_is_trained(build: Build, tmp_path: Path) -> None:
    """Two rounds, openly; what comes out is one model that carries both."""
    experiment, world = build()
    training = TrainingConfig(trained="track", local_epochs=2.0, batch_size=4)
    experiment = tracked(experiment, training=training)
    records = train(experiment, world)
    assert [len(record.accepted) for record in records] == [3, 3]
    ended = load_state(world.federations[0].server, experiment.config)
    assert ended is not None
    drawn = read_weights(models.build(experiment.config.model, experiment.config.seed))
    changed = {name.split(".")[0] for name in drawn if (ended.model[name] != drawn[name]).any()}
    assert changed == {"track"}
    save_model(tmp_path / "model", experiment.config.model, ended.model, {})
    assert models.track_of(load_model(tmp_path / "model")[0]) is not None


def test_other_training_is_not_disturbed_by_what_weighs_frames(build: Build) -> None:
    """FedProx, whose pull is on what is trained, beside a part that is not: that stays."""
    experiment, world = build(rounds=1, strategy="fedprox")
    training = TrainingConfig(proximal=0.1, local_epochs=0.5)
    experiment = tracked(experiment, training=training)
    (record,) = train(experiment, world)
    assert len(record.accepted) == 3
    ended = load_state(world.federations[0].server, experiment.config)
    assert ended is not None
    drawn = read_weights(models.build(experiment.config.model, experiment.config.seed))
    same = {name.split(".")[0] for name in drawn if (ended.model[name] == drawn[name]).all()}
    assert same == {"track"}
