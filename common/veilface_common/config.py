"""The settings of a federation: frozen dataclasses, parsed once from Flower's flat dict.

Presets live in `presets`; vary one with `dataclasses.replace`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from veilface_common.errors import ConfigError

ModelName = Literal["tiny", "base", "classic"]
StrategyName = Literal["fedavg", "fedavgm", "fedadam", "fedprox"]
OptimizerName = Literal["sgd", "adamw"]
Precision = Literal["auto", "fp32", "bf16"]
UpdatePrecision = Literal["fp32", "fp16", "int8"]
Device = Literal["auto", "cpu", "cuda", "mps"]
PrivacyUnit = Literal["none", "identity", "image"]
PrivateMethod = Literal["gradient", "whitening"]
PrivateHeadName = Literal["leave-one-out", "fixed", "trained"]
TrainedPart = Literal["all", "scales", "projection", "track"]
OpenlyTrained = Literal["all", "track"]
TrackName = Literal["none", "gru"]
LightName = Literal["plain", "evened"]
Scalar = bool | int | float | str

MODEL_PIXELS: Mapping[ModelName, int] = {"tiny": 64, "base": 112, "classic": 64}


def _check(condition: bool, setting: str, got: object, expected: str) -> None:  # noqa: FBT001 -- reads as an assertion
    if not condition:
        raise ConfigError(f"expected {setting} {expected}, got {got!r}")


def _check_range(setting: str, value: float, low: float, high: float) -> None:
    _check(low <= value <= high, setting, value, f"in [{low:g}, {high:g}]")  # and so no NaN


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network embeds a face; `dimension` is the length of a template."""

    name: ModelName = "tiny"
    dimension: int = 128
    track: TrackName = "none"  # what weighs the frames of a track; see `models.track`
    light: LightName = "plain"  # as it is, or evened out in each picture; see `models.cnn`

    def __post_init__(self) -> None:
        _check_range("model.dimension", self.dimension, 2, 4096)

    @property
    def pixels(self) -> int:
        """Side of the square image that the network looks at."""
        return MODEL_PIXELS[self.name]


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How much a training photograph is varied; every strength 0 leaves it as it is."""

    flip: bool = True
    shift: float = 0.08  # largest translation, as a share of the side
    scale: float = 0.12  # largest zoom in or out, as a share
    rotation_degrees: float = 8.0
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    grey: float = 0.1  # probability of dropping colour
    blur: float = 0.1  # probability of a slight blur
    erase: float = 0.3  # probability of covering a rectangle
    light: float = 0.0  # probability of each hardship; see `hardship` (client) for how hard
    cover: float = 0.0
    lens: float = 0.0
    grain: float = 0.0

    def __post_init__(self) -> None:
        _check_range("augmentation.shift", self.shift, 0, 0.5)
        _check_range("augmentation.scale", self.scale, 0, 0.9)
        _check_range("augmentation.rotation-degrees", self.rotation_degrees, 0, 180)
        colours = ("brightness", "contrast", "saturation")
        for name in (*colours, "grey", "blur", "erase", "light", "cover", "lens", "grain"):
            _check_range(f"augmentation.{name}", getattr(self, name), 0, 1)

    @property
    def is_hard(self) -> bool:
        """Whether photographs can come to grief as those of a bad camera do."""
        return max(self.light, self.cover, self.lens, self.grain) > 0

    @property
    def calm(self) -> AugmentationConfig:
        """The same without hardships, turned no further than heads are in ordinary photographs."""
        degrees = min(self.rotation_degrees, AugmentationConfig.rotation_degrees)
        return dataclasses.replace(
            self, rotation_degrees=degrees, light=0.0, cover=0.0, lens=0.0, grain=0.0
        )


UNVARIED = AugmentationConfig(
    flip=False,
    shift=0,
    scale=0,
    rotation_degrees=0,
    brightness=0,
    contrast=0,
    saturation=0,
    grey=0,
    blur=0,
    erase=0,
)


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The cosine-margin softmax (CosFace) that the embedding is trained against."""

    scale: float = 16.0
    margin: float = 0.2
    learning_rate_factor: float = 1.0  # the head's rate, relative to the network's

    def __post_init__(self) -> None:
        _check_range("head.scale", self.scale, 0.1, 1000)
        _check_range("head.margin", self.margin, 0, 1)
        _check_range("head.learning-rate-factor", self.learning_rate_factor, 0, 1000)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What an organisation does in one round."""

    local_epochs: float = 1.0  # passes over its photographs in a round
    min_photos: int = 2  # people with fewer are in no batch; see `training.trainable_people`
    batch_size: int = 32  # of many steps the average over organisations keeps more than of few
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 0.001  # the peak; see `learning_rate_at`
    warmup: float = 0.05  # share of the rounds in which the rate rises
    momentum: float = 0.9  # of sgd
    weight_decay: float = 0.05  # adamw's; about 5e-4 for sgd
    max_gradient_norm: float = 5.0
    proximal: float = 0.0  # FedProx's mu
    consistency: float = 0.0  # of a calm and a hard view of each photograph; 0: one view of it
    trained: OpenlyTrained = "all"  # what embeds a face, or only what weighs the frames of a track

    def __post_init__(self) -> None:
        _check_range("training.local-epochs", self.local_epochs, 1e-3, 1000)
        _check_range("training.min-photos", self.min_photos, 1, 1_000_000)
        _check_range("training.batch-size", self.batch_size, 1, 65536)
        _check_range("training.learning-rate", self.learning_rate, 0, 100)
        _check_range("training.warmup", self.warmup, 0, 1)
        _check_range("training.momentum", self.momentum, 0, 0.9999)
        _check_range("training.weight-decay", self.weight_decay, 0, 10)
        _check_range("training.max-gradient-norm", self.max_gradient_norm, 1e-6, 1e9)
        _check_range("training.proximal", self.proximal, 0, 1e6)
        _check_range("training.consistency", self.consistency, 0, 1e6)

    def learning_rate_at(self, progress: float) -> float:
        """Return the rate at `progress` in [0, 1] of the whole run: linear rise, cosine fall."""
        return self.learning_rate * self.share_at(progress)

    def share_at(self, progress: float) -> float:
        """Return the share of a peak rate at `progress`."""
        if progress < self.warmup:
            return 0.1 + 0.9 * progress / self.warmup
        fall = (progress - self.warmup) / max(1.0 - self.warmup, 1e-9)
        return 0.5 * (1.0 + math.cos(math.pi * min(fall, 1.0)))


@dataclass(frozen=True, kw_only=True)
class FederationConfig:
    """What the coordinator decides."""

    rounds: int = 20
    strategy: StrategyName = "fedavg"
    server_learning_rate: float = 1.0
    server_momentum: float = 0.5
    fraction: float = 1.0  # share of the organisations asked in a round
    min_replies: int = 1
    weights: str = ""  # declared weights, "name=2,other=1"; empty: equal
    max_update_norm: float = 1e3
    update_precision: UpdatePrecision = "fp32"  # in which an update travels; see `updates`
    timeout_seconds: float = 3600.0  # of a round
    away_seconds: float = 300.0  # after which an organisation that is away is not waited for
    keep_every: int = 0  # keep the model of every n-th round; 0: the last alone

    def __post_init__(self) -> None:
        _check_range("federation.rounds", self.rounds, 1, 100_000)
        _check_range("federation.server-learning-rate", self.server_learning_rate, 1e-6, 100)
        _check_range("federation.server-momentum", self.server_momentum, 0, 0.9999)
        _check_range("federation.fraction", self.fraction, 1e-6, 1)
        _check_range("federation.min-replies", self.min_replies, 1, 1_000_000)
        _check_range("federation.max-update-norm", self.max_update_norm, 1e-9, 1e12)
        _check_range("federation.timeout-seconds", self.timeout_seconds, 1, 1e7)
        _check_range("federation.away-seconds", self.away_seconds, 0, 1e7)
        _check_range("federation.keep-every", self.keep_every, 0, 100_000)
        self.declared_weights()

    def declared_weights(self) -> dict[str, float]:
        """Return the declared weight of each named organisation.

        Raises:
            ConfigError: an entry is not NAME=POSITIVE NUMBER.
        """
        weights = {}
        for entry in filter(None, self.weights.split(",")):
            name, _, number = entry.partition("=")
            try:
                weights[name.strip()] = float(number)
            except ValueError:
                raise ConfigError(
                    f"expected federation.weights as NAME=NUMBER,..., got {entry!r}"
                ) from None
            _check_range("federation.weights", weights[name.strip()], 1e-6, 1e9)
        return weights


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """How a round is trained when its update must not tell of one unit; see `private` (client).

    A request: each organisation's own policy decides what of it is done. What the unit's gradient
    could not be bounded for has no setting here: batch statistics, losses over pairs or batches, a
    head that is trained outside the mechanism.
    """

    unit: PrivacyUnit = "none"  # whose data a round is to hide: a person's, or one photograph
    method: PrivateMethod = "gradient"  # what is released: sums of gradients, or of scatters
    rounds: int = 0  # of private training; 0: as many as the federation has
    sample_rate: float = 0.1  # probability with which a step takes a unit
    noise_multiplier: float = 1.0  # standard deviation of the noise / max_gradient_norm
    max_gradient_norm: float = 1.0  # to which the gradient of a unit is clipped
    steps: int = 10  # in a round
    optimizer: OptimizerName = "sgd"
    learning_rate: float = 0.1  # the peak; it rises and falls as that of training does
    momentum: float = 0.0  # of sgd
    images_per_unit: int = 8  # at most, drawn again in each step
    views: int = 1  # augmented copies of each image; they cost time and no privacy
    head: PrivateHeadName = "leave-one-out"
    rows: int = 1024  # directions of a fixed or trained head: declared, not counted
    trained: TrainedPart = "all"  # fewer numbers take less noise
    public_weight: float = 1.0  # of the gradient of public faces beside the private one
    average: float = 0.0  # decay of the moving average of the weights; 0: the last ones
    whitening: float = 1.0  # strength of a round's whitening; 1: all the way
    evaluation_noise: float = 0.0  # of the figures released at the end; 0: none leave
    evaluation_share: float = 0.2  # of the people: held out for them, never trained on

    def __post_init__(self) -> None:
        _check_range("privacy.sample-rate", self.sample_rate, 1e-6, 1)
        _check_range("privacy.noise-multiplier", self.noise_multiplier, 0.1, 1e6)
        _check_range("privacy.max-gradient-norm", self.max_gradient_norm, 1e-6, 1e6)
        _check_range("privacy.steps", self.steps, 1, 1_000_000)
        _check_range("privacy.learning-rate", self.learning_rate, 0, 1e6)
        _check_range("privacy.momentum", self.momentum, 0, 0.9999)
        _check_range("privacy.images-per-unit", self.images_per_unit, 1, 1000)
        _check_range("privacy.views", self.views, 1, 100)
        _check_range("privacy.rows", self.rows, 2, 1_000_000)
        _check_range("privacy.public-weight", self.public_weight, 0, 1e6)
        _check_range("privacy.average", self.average, 0, 0.9999)
        _check_range("privacy.rounds", self.rounds, 0, 100_000)
        _check_range("privacy.whitening", self.whitening, 0, 10)
        if self.evaluation_noise:
            _check_range("privacy.evaluation-noise", self.evaluation_noise, 0.1, 1e6)
        _check_range("privacy.evaluation-share", self.evaluation_share, 0.01, 0.9)
        if self.method == "whitening":
            one = "identity: a single photograph has no scatter"
            _check(self.unit != "image", "privacy.unit of whitening", self.unit, one)
            _check(self.steps == 1, "privacy.steps of whitening", self.steps, "1")

    @property
    def releases_figures(self) -> bool:
        """Whether organisations are asked for noised figures after the last round."""
        return self.unit != "none" and self.evaluation_noise > 0


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that both sides of a federation agree on before it starts."""

    seed: int = 0
    run: str = ""  # a name of its own, hex; empty in a simulation, where the settings name it
    initial: str = ""  # SHA-256 of the model that the first round starts from; empty: drawn
    device: Device = "auto"
    precision: Precision = "auto"
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)

    def __post_init__(self) -> None:
        _check_range("seed", self.seed, 0, 2**31 - 1)
        is_name = re.fullmatch(r"(?:[0-9a-f]{16})?", self.run) is not None
        _check(is_name, "run", self.run, "16 hex digits, or nothing")
        weighs = "track" in (self.training.trained, self.privacy.trained)
        _check(
            not weighs or self.model.track != "none",
            "model.track",
            self.model.track,
            "gru, as tracks are trained on",
        )

    def learning_rate_in(self, round_number: int) -> float:
        """Return the organisations' learning rate in the middle of a round, counted from 1."""
        share = self.training.share_at((round_number - 0.5) / self.federation.rounds)
        private = self.privacy.unit != "none"
        return share * (self.privacy.learning_rate if private else self.training.learning_rate)

    @property
    def digest(self) -> str:
        """SHA-256 of all settings, hex: it names a run."""
        return hashlib.sha256(json.dumps(to_flat(self), sort_keys=True).encode()).hexdigest()


T = TypeVar("T")


def to_flat(config: Any, prefix: str = "") -> dict[str, Scalar]:
    """Return a configuration as Flower's run configuration holds it: dotted keys, scalars.

    Equal configurations give the same text: a float is one there, though 1 was written for it.
    """
    flat: dict[str, Scalar] = {}
    types = typing.get_type_hints(type(config))
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        key = prefix + entry.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            flat |= to_flat(value, key + ".")
        elif types[entry.name] is float:
            flat[key] = float(value) + 0.0  # which has no -0.0
        else:
            flat[key] = value
    return flat


def from_flat(kind: type[T], flat: Mapping[str, object]) -> T:
    """Return the configuration that `to_flat` wrote; keys left out keep their defaults.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of its range.
    """
    known, settings = _collect(kind, flat, "")
    unknown = sorted(set(flat) - known)
    if unknown:
        raise ConfigError(
            f"unknown setting {unknown[0]!r}", hint="known: " + ", ".join(sorted(known))
        )
    return kind(**settings)


def _collect(
    kind: Any, flat: Mapping[str, object], prefix: str
) -> tuple[set[str], dict[str, object]]:
    known: set[str] = set()
    settings: dict[str, object] = {}
    types = typing.get_type_hints(kind)
    for entry in dataclasses.fields(kind):
        key = prefix + entry.name.replace("_", "-")
        wanted = types[entry.name]
        if dataclasses.is_dataclass(wanted):
            below, nested = _collect(wanted, flat, key + ".")
            known |= below
            settings[entry.name] = typing.cast("Any", wanted)(**nested)
        else:
            known.add(key)
            if key in flat:
                settings[entry.name] = _typed(key, wanted, flat[key])
    return known, settings


def _typed(key: str, wanted: Any, value: object) -> object:
    """Return `value` as the wanted type: text from a command line is read, nothing is guessed."""
    choices = typing.get_args(wanted)
    if choices:
        _check(value in choices, key, value, "one of " + ", ".join(map(str, choices)))
        return value
    if wanted is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        if wanted is float and isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
        if wanted is int and isinstance(value, str):
            return int(value)
    except (ValueError, OverflowError):
        pass
    _check(type(value) is wanted, key, value, f"as {wanted.__name__}")
    return value
