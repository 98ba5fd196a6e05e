"""A federation small enough for every test: 20 drawn people, 3 organisations, a few rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from veilface_common.config import PrivacyConfig
from veilface_common.presets import preset
from veilface_simulations.experiment import Experiment
from veilface_simulations.world import World, build_world

Build = Callable[..., tuple[Experiment, World]]


@pytest.fixture
def build(tmp_path: Path, cache: Path) -> Build:
    """Return a function that builds the world of a small experiment in a folder of its own."""

    def make(
        name: str = "run",
        rounds: int = 2,
        privacy: PrivacyConfig = PrivacyConfig(),  # noqa: B008 -- frozen
        epsilon: float = 8.0,
        **settings: object,
    ) -> tuple[Experiment, World]:
        config = replace(preset("smoke"), seed=5, privacy=privacy)
        config = replace(
            config,
            federation=replace(config.federation, rounds=rounds, keep_every=0, **settings),
        )
        experiment = Experiment(
            data="drawn:20x4",
            config=config,
            organisations=3,
            arms=("federated",),
            preset="smoke",
            epsilon=epsilon,
            public="drawn:8x3",
            seeded=True,
        )
        folder = tmp_path / name
        folder.mkdir()
        return experiment, build_world(experiment, folder, cache, lambda *_: None)

    return make
