"""Settings: parsed once, refused clearly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from veilface_common.config import (
    AugmentationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
    TrainingConfig,
    from_flat,
    to_flat,
)
from veilface_common.errors import ConfigError


def test_flat_and_back_is_the_same() -> None:
    """Flower's flat dictionary loses nothing."""
    config = replace(RunConfig(seed=3), model=ModelConfig(name="base"))
    assert from_flat(RunConfig, to_flat(config)) == config


def test_text_from_a_command_line_is_read() -> None:
    """Numbers and truth values arrive as text."""
    flat = {"seed": "7", "training.learning-rate": "0.5", "augmentation.flip": "false"}
    config = from_flat(RunConfig, flat)
    assert (config.seed, config.training.learning_rate, config.augmentation.flip) == (7, 0.5, False)


@pytest.mark.parametrize(
    "flat",
    [
        {"sead": 1},
        {"seed": "many"},
        {"seed": 1.5},
        {"seed": True},
        {"seed": -1},
        {"model.name": "huge"},
        {"training.learning-rate": "nan"},
        {"federation.rounds": 0},
        {"federation.weights": "a=b"},
        {"federation.weights": "a=-1"},
        {"augmentation.flip": "maybe"},
        {"augmentation.grain": 1.1},
        {"model.light": "dim"},
        {"training.consistency": -1},
        {"privacy.evaluation-noise": 0.05},
        {"privacy.evaluation-noise": -1},
        {"privacy.evaluation-share": 1.0},
        {"privacy.evaluation-share": 0.0},
    ],
)
def test_a_bad_setting_is_refused(flat: dict[str, object]) -> None:
    """Unknown keys, wrong types and numbers out of range never become a run."""
    with pytest.raises(ConfigError):
        from_flat(RunConfig, flat)


def test_the_learning_rate_rises_and_falls() -> None:
    """Linear warm-up from a tenth, then a cosine to zero."""
    config = TrainingConfig(learning_rate=1.0, warmup=0.1)
    assert config.learning_rate_at(0.0) == pytest.approx(0.1)
    assert config.learning_rate_at(0.1) == pytest.approx(1.0)
    assert config.learning_rate_at(0.55) == pytest.approx(0.5)
    assert config.learning_rate_at(1.0) == pytest.approx(0.0)


def test_declared_weights_are_read() -> None:
    """NAME=NUMBER pairs, separated by commas."""
    config = FederationConfig(weights="org-1=2, org-2=0.5")
    assert config.declared_weights() == {"org-1": 2.0, "org-2": 0.5}


def test_figures_are_released_only_with_privacy_and_noise() -> None:
    """Nothing leaves by default, and nothing without a unit to account for."""
    assert not PrivacyConfig().releases_figures
    assert not PrivacyConfig(unit="identity").releases_figures
    assert not PrivacyConfig(evaluation_noise=1.0).releases_figures
    assert PrivacyConfig(unit="image", evaluation_noise=1.0).releases_figures


def test_a_calm_view_is_that_of_the_same_recipe_without_hardships() -> None:
    """All else stays, and it is turned no further than the usual recipe turns."""
    hard = AugmentationConfig(rotation_degrees=25, shift=0.1, light=0.4, cover=1, lens=0.4, grain=1)
    assert hard.is_hard
    assert hard.calm == AugmentationConfig(shift=0.1)
    assert not hard.calm.is_hard
    assert AugmentationConfig(rotation_degrees=3).calm == AugmentationConfig(rotation_degrees=3)


def test_equal_settings_have_one_digest() -> None:
    """1 for 1.0, or -0.0 for 0.0, in Python or after a journey: the run is the same."""
    whole = RunConfig(privacy=PrivacyConfig(max_gradient_norm=1, momentum=-0.0))
    assert whole == RunConfig(privacy=PrivacyConfig(max_gradient_norm=1.0, momentum=0.0))
    assert whole.digest == RunConfig(privacy=PrivacyConfig(max_gradient_norm=1.0)).digest
    assert whole.digest == from_flat(RunConfig, to_flat(whole)).digest
