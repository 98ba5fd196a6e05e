"""What a simulation is asked to do: frozen presets, one experiment, and its file for resuming."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, cast, get_args

from veilface_common.budget.calibration import calibrated
from veilface_common.config import (
    RunConfig,
    from_flat,
    to_flat,
)
from veilface_common.errors import ArtifactError, ConfigError, VeilfaceError
from veilface_common.files import write_atomically

ArmName = Literal["local", "federated", "plain", "central"]
Engine = Literal["flower", "inprocess"]
ARMS: tuple[ArmName, ...] = get_args(ArmName)  # plain: federated, without privacy
USUAL_ARMS: tuple[ArmName, ...] = ("local", "federated", "central")
PUBLIC_FACES = "drawn:300x8"  # what private training has beside it where nothing is named
ENGINES: tuple[Engine, ...] = get_args(Engine)
SETTINGS = "run.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One call of `veilface-sim run`, with every default filled in."""

    data: str
    config: RunConfig
    evaluate_on: str | None = None
    pairs: str | None = None  # LFW's pairs file
    organisations: int = 4
    arms: tuple[ArmName, ...] = USUAL_ARMS
    preset: str = "demo"
    engine: Engine = "flower"
    held_out: float = 0.2
    skew: float = 0.0
    shared: float = 0.0
    workers: int = 2
    epsilon: float = 8.0  # of private training: what every organisation's policy allows
    delta: float = 1e-5
    public: str = PUBLIC_FACES  # faces that are nobody's secret
    initial: str | None = None  # folder of the model that training starts from
    seeded: bool = False  # noise from the seed: the same again, and no protection at all

    def __post_init__(self) -> None:
        if "plain" in self.arms and not self.is_private:
            raise ConfigError(
                "expected the arm plain beside a private one, got no privacy",
                hint="--privacy identity, or leave the arm out",
            )
        if not 0 < self.epsilon <= 1000:
            raise ConfigError(f"expected epsilon in (0, 1000], got {self.epsilon:g}")
        if not 0 < self.delta <= 0.1:
            raise ConfigError(f"expected delta in (0, 0.1], got {self.delta:g}")
        if not self.arms or len(set(self.arms)) != len(self.arms) or set(self.arms) - set(ARMS):
            raise ConfigError(
                f"expected arms out of {', '.join(ARMS)}, got {','.join(self.arms) or 'none'}"
            )
        if self.engine not in ENGINES:
            raise ConfigError(f"expected engine out of {', '.join(ENGINES)}, got {self.engine!r}")
        if not 1 <= self.organisations <= 10_000:
            raise ConfigError(f"expected organisations in [1, 10000], got {self.organisations}")
        if not 1 <= self.workers <= 1024:
            raise ConfigError(f"expected workers in [1, 1024], got {self.workers}")

    @property
    def is_private(self) -> bool:
        """Whether the federated arm trains with differential privacy."""
        return self.config.privacy.unit != "none"

    @property
    def needs_public_faces(self) -> bool:
        """Whether private training has public people beside it."""
        private = self.config.privacy
        return self.is_private and private.method == "gradient" and private.head == "leave-one-out"

    @property
    def seed(self) -> int:
        """The seed from which everything that is drawn by chance follows."""
        return self.config.seed


def default_preset(data: str) -> str:
    """Return the preset for a source when none is named."""
    return "demo" if data.startswith("drawn:") else "faces"


def calibrate(experiment: Experiment) -> Experiment:
    """Return the experiment with the least noise that keeps its budget; as it is without privacy.

    Raises:
        BudgetError: no noise does.
    """
    if not experiment.is_private:
        return experiment
    config = experiment.config
    private = calibrated(
        config.privacy,
        rounds=config.privacy.rounds or config.federation.rounds,
        epsilon=experiment.epsilon,
        delta=experiment.delta,
    )
    return replace(experiment, config=replace(config, privacy=private))


def with_figures(experiment: Experiment, noise: float) -> Experiment:
    """Return the experiment in which organisations report scores with so much noise.

    Raises:
        ConfigError: nothing is private, or so little noise is not offered.
    """
    if not experiment.is_private or "federated" not in experiment.arms:
        raise ConfigError(
            "expected figures with noise of a private federation, got none",
            hint="--privacy identity; without privacy no figure leaves an organisation",
        )
    config = experiment.config
    private = replace(config.privacy, evaluation_noise=noise)
    return replace(experiment, config=replace(config, privacy=private))


def save_experiment(folder: Path, experiment: Experiment, command: str) -> None:
    """Write what is run into its folder, so that it can be resumed and repeated."""
    body = {key: value for key, value in asdict(experiment).items() if key != "config"}
    body |= {"schema": SCHEMA, "command": command, "config": to_flat(experiment.config)}
    write_atomically(folder / SETTINGS, (json.dumps(body, indent=2) + "\n").encode())


def load_experiment(folder: Path) -> tuple[Experiment, str]:
    """Return the experiment in a run's folder and the command that started it.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    path = folder / SETTINGS
    try:
        body = json.loads(path.read_bytes())
        _verify_schema(body.pop("schema"), path)
        command = str(body.pop("command"))
        config = from_flat(RunConfig, body.pop("config"))
        known = {entry.name for entry in fields(Experiment)}
        settings = {key: value for key, value in body.items() if key in known}
        settings["arms"] = cast("tuple[ArmName, ...]", tuple(settings["arms"]))
        return Experiment(config=config, **settings), command
    except OSError as error:
        raise ArtifactError(
            f"expected a run to resume in {folder}, got no {SETTINGS}",
            hint="name the folder that --out named",
        ) from error
    except ArtifactError:
        raise
    except (ValueError, KeyError, TypeError, VeilfaceError) as error:
        raise ArtifactError(f"expected a run's settings in {path}, got a damaged file") from error


def _verify_schema(got: object, path: Path) -> None:
    if got != SCHEMA:
        raise ArtifactError(f"expected schema {SCHEMA} in {path}, got {got!r}")
