"""A federation small enough for every test: 20 drawn people, 3 organisations, a few rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from veilface_common.config import PrivacyConfig
from veilface_common.presets import preset
from veilface_simulations.cli import main
from veilface_simulations.experiment import Experiment
from veilface_simulations.world import World, build_world

Build = Callable[..., tuple[Experiment, World]]


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Return the folder of a run that gave a model good enough to tell drawn people apart."""
    folder = tmp_path_factory.mktemp("small") / "run"
    run = ["run", "--data", "drawn:100x6", "--arms", "central", "--rounds", "3", "--seed", "1"]
    run += ["--engine", "inprocess", "--cache", str(cache)]
    assert main([*run, "--out", str(folder)]) == 0
    return folder


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
