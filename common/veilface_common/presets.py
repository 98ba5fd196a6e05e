"""Settings to begin from; vary one with `dataclasses.replace`, or from a command line by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from veilface_common.config import (
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
            of people then turns it by one release.
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
        flat |= {"initial": digest, **to_flat(model, "model.")}
        if unit == "identity":
            flat |= to_flat(replace(WHITENING, unit="identity"), "privacy.")
    if rounds is not None:
        flat["federation.rounds"] = rounds
    for entry in overrides:
        key, equals, value = entry.partition("=")
        if not equals:
            raise ConfigError(f"expected --set KEY=VALUE, got {entry!r}")
        flat[key] = value
    return from_flat(RunConfig, flat)
