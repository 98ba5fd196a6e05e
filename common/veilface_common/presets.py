"""Settings to begin from; vary one with `dataclasses.replace`, or from a command line by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from veilface_common.config import (
    AugmentationConfig,
    FederationConfig,
    HeadConfig,
    ModelConfig,
    PrivacyConfig,
    PrivacyUnit,
    RunConfig,
    Scalar,
    TrainingConfig,
    from_flat,
    to_flat,
)
from veilface_common.errors import ConfigError

# A model that was trained elsewhere is turned by one release of every organisation: docs/adr/0009.
WHITENING = PrivacyConfig(
    method="whitening", sample_rate=1.0, steps=1, rounds=1, max_gradient_norm=0.1
)
_BASE = RunConfig(
    training=TrainingConfig(local_epochs=4.0),
    federation=FederationConfig(strategy="fedavgm", rounds=12, keep_every=2),
)
PRESETS: Mapping[str, RunConfig] = {
    # A few minutes on two cores: the demonstration on drawn people.
    "demo": replace(
        _BASE,
        training=TrainingConfig(batch_size=16, local_epochs=2.0),
        federation=replace(_BASE.federation, rounds=6, keep_every=1),
    ),
    # A few thousand real photographs; what it reaches stands in the README.
    "faces": _BASE,
    # The network of the founding article, as a reference row.
    "classic": replace(_BASE, model=ModelConfig(name="classic")),
    # The larger network at 112 px, for pictures sharp enough and machines fast enough.
    "base": replace(_BASE, model=ModelConfig(name="base")),
    # As "faces", for bad light and poor cameras: docs/robustness.md has what it gains and costs.
    "robust": replace(
        _BASE,
        model=ModelConfig(light="evened"),
        augmentation=AugmentationConfig(
            rotation_degrees=28.0, light=0.4, cover=0.6, lens=0.4, grain=0.3
        ),
        training=replace(_BASE.training, consistency=4.0),
    ),
    # What weighs the frames of a track, for a model that embeds already (--init): docs/tracks.md.
    "tracks": replace(
        _BASE,
        model=ModelConfig(track="gru"),
        training=TrainingConfig(trained="track", local_epochs=50.0, learning_rate=0.003),
        federation=replace(_BASE.federation, rounds=2, keep_every=1),
        privacy=PrivacyConfig(
            trained="track",
            sample_rate=0.5,
            steps=40,
            rounds=1,
            max_gradient_norm=0.1,
            learning_rate=3.0,
            images_per_unit=6,
        ),
    ),
    # Cheapest, only for tests: it shows that everything runs and learns nothing worth having.
    "smoke": replace(
        _BASE,
        head=HeadConfig(scale=16.0, margin=0.0),
        training=TrainingConfig(batch_size=32),
        federation=FederationConfig(rounds=2, keep_every=1),
    ),
}
USUAL_PRESET = "faces"


def preset(name: str) -> RunConfig:
    """Return a preset by its name. Raises ConfigError when there is none."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}", hint="known: " + ", ".join(PRESETS))
    return PRESETS[name]


def configured(
    start: RunConfig,
    *,
    unit: PrivacyUnit,
    initial: tuple[str, ModelConfig] | None,
    rounds: int | None,
    settings: Mapping[str, Scalar],
    overrides: Sequence[str],
) -> RunConfig:
    """Return `start`, a preset, with what a command line sets in its place.

    Args:
        start: the preset.
        unit: of privacy.
        initial: digest and network of the model to begin from, if there is one; private training
            of people then turns it by one release, unless the preset trains on tracks.
        rounds: of the federation; None: the preset's.
        settings: by name, such as the seed.
        overrides: KEY=VALUE, which come last.

    Raises:
        ConfigError: an override is not KEY=VALUE, or a setting cannot be used.
    """
    flat = dict(to_flat(start)) | dict(settings)
    flat["privacy.unit"] = unit
    if initial is not None:
        digest, model = initial
        if model.track == "none":  # it can be given what weighs frames
            model = replace(model, track=start.model.track)
        flat |= {"initial": digest, **to_flat(model, "model.")}
        if unit == "identity" and start.privacy.trained != "track":
            flat |= to_flat(replace(WHITENING, unit="identity"), "privacy.")
    if rounds is not None:
        flat["federation.rounds"] = rounds
    for entry in overrides:
        key, equals, value = entry.partition("=")
        if not equals:
            raise ConfigError(f"expected --set KEY=VALUE, got {entry!r}")
        flat[key] = value
    config = from_flat(RunConfig, flat)
    if initial is None and "track" in (config.training.trained, config.privacy.trained):
        raise ConfigError(
            "expected a model that embeds faces already to train on tracks, got none",
            hint="--init MODEL",
        )
    return config
