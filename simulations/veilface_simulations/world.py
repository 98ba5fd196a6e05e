"""The world of an experiment: whose faces there are, who holds them, whom nobody trains on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from veilface_client.account import create_account
from veilface_client.data import Faces, check_evaluable, check_trainable, load_faces
from veilface_client.identity import make_identity, trust_coordinator
from veilface_client.images import canvas_pixels
from veilface_client.organisation import Organisation, save_organisation
from veilface_client.training import trainable_people
from veilface_common.artifact import load_model
from veilface_common.budget.policy import Policy
from veilface_common.errors import ConfigError
from veilface_common.models.weights import read_weights
from veilface_common.tensors import Tensors
from veilface_server.checkpoint import save_initial, server_key
from veilface_simulations.experiment import ArmName, Experiment
from veilface_simulations.partition import hold_out, split
from veilface_simulations.sources import Purpose, open_any

Progress = Callable[[str, int, int], None]  # (what is read, photographs done, of how many)
EVERYONE = "everyone"


@dataclass(frozen=True, kw_only=True)
class Federation:
    """One arm of an experiment: organisations that train together, or one that trains alone."""

    arm: ArmName
    organisation: str | None  # the one that trains alone
    members: dict[str, tuple[int, ...]]  # organisation -> its people
    folder: Path

    @property
    def organisations(self) -> Path:
        """The folder of the organisations' folders."""
        return self.folder / "organisations"

    @property
    def server(self) -> Path:
        """The coordinator's folder."""
        return self.folder / "server"


@dataclass(frozen=True, kw_only=True)
class World:
    """Faces to train on, faces to evaluate on, and every arm of the experiment."""

    faces: Faces
    evaluation: Faces
    federations: tuple[Federation, ...]
    warnings: tuple[str, ...]


def build_world(experiment: Experiment, folder: Path, cache: Path, progress: Progress) -> World:
    """Read the faces, hold people out, and write every organisation's folder.

    Raises:
        DataError: the photographs cannot be used.
        ConfigError: too few people for so many organisations, or one source for both sides.
    """
    faces = _load(experiment, experiment.data, "train", cache, progress)
    check_trainable(faces)
    people, evaluation, warnings = _evaluation(experiment, faces, cache, progress)
    check_evaluable(evaluation)
    partition = split(
        people,
        experiment.organisations,
        experiment.seed,
        skew=experiment.skew,
        shared=experiment.shared,
    )
    federations = _federations(experiment, partition.organisations, tuple(people), folder)
    public = _public(experiment, (faces, evaluation), cache, progress)
    initial = None if experiment.initial is None else _weights(Path(experiment.initial))
    for federation in federations:
        if initial is not None:
            save_initial(federation.server, initial)
        settle(experiment, federation, faces, public)
    warnings += _untrained(experiment, faces.of_people(people))
    return World(
        faces=faces,
        evaluation=evaluation,
        federations=federations,
        warnings=tuple(dict.fromkeys((*faces.warnings, *evaluation.warnings, *warnings))),
    )


def settle(
    experiment: Experiment, federation: Federation, faces: Faces, public: Faces | None
) -> None:
    """Write the folders of an arm's organisations.

    In a private arm each organisation keeps an account: its policy allows what the experiment asks
    for, and it declares the average organisation's size, which is everybody's to know.
    """
    is_private = experiment.is_private and federation.arm == "federated"
    coordinator = server_key(federation.server).public
    held = faces.of_people([person for own in federation.members.values() for person in own])
    count = len(federation.members)
    for name, members in federation.members.items():
        folder = federation.organisations / name
        if is_private:
            create_account(
                folder,
                name,
                faces.of_people(members),
                _policy(experiment),
                people_declared=max(1, round(len(held.person_names) / count)),
                images_declared=max(1, round(len(held) / count)),
            )
        make_identity(folder)
        trust_coordinator(folder, "simulation", coordinator)
        settings = Organisation(
            name=name,
            faces=faces.path.resolve(),
            people=members,
            public_faces=public.path.resolve() if public and is_private else None,
            seeded=experiment.seeded,
            keeps_account=is_private,
        )
        save_organisation(folder, settings)  # last: without it nobody trains here


def check_sources(experiment: Experiment) -> None:
    """Do nothing if the sources are there; they are not read yet.

    Raises:
        ConfigError: a source is of an unknown kind.
        DataError: a folder is not there or holds no people.
    """
    canvas = canvas_pixels(experiment.config.model.pixels)
    if experiment.needs_public_faces:
        open_any(experiment.public, seed=experiment.seed, purpose="public", pixels=canvas)
    open_any(experiment.data, seed=experiment.seed, purpose="train", pixels=canvas)
    if experiment.evaluate_on is not None:
        open_any(experiment.evaluate_on, seed=experiment.seed, purpose="evaluate", pixels=canvas)


def load_for_evaluation(
    source: str, *, seed: int, pixels: int, cache: Path, progress: Progress
) -> Faces:
    """Return the faces of a source on which a model is measured.

    Raises:
        DataError: they hold no genuine or no impostor pair.
    """
    faces = _read(source, seed, "evaluate", pixels, cache, progress)
    check_evaluable(faces)
    return faces


def _load(
    experiment: Experiment, source: str, purpose: Purpose, cache: Path, progress: Progress
) -> Faces:
    pixels = experiment.config.model.pixels
    return _read(source, experiment.seed, purpose, pixels, cache, progress)


def _read(
    source: str, seed: int, purpose: Purpose, pixels: int, cache: Path, progress: Progress
) -> Faces:
    canvas = canvas_pixels(pixels)
    opened = open_any(source, seed=seed, purpose=purpose, pixels=canvas)
    return load_faces(
        opened,
        pixels=canvas,
        cache=cache,
        progress=lambda done, total: progress(source, done, total),
    )


def _evaluation(
    experiment: Experiment, faces: Faces, cache: Path, progress: Progress
) -> tuple[list[int], Faces, list[str]]:
    """Return (people to train on, faces to evaluate on, warnings): nobody is on both sides."""
    everybody = list(range(len(faces.person_names)))
    if experiment.evaluate_on is None:
        has_pair = faces.photographs_per_person() >= 2
        people, held = hold_out(np.asarray(has_pair), experiment.held_out, experiment.seed)
        return people, faces.of_people(held), []
    other = _load(experiment, experiment.evaluate_on, "evaluate", cache, progress)
    if other.path == faces.path:
        raise ConfigError(
            f"expected other people to evaluate on, got the training source {experiment.data!r}",
            hint="leave --evaluate-on out: a share of the people is then held out",
        )
    known = set(faces.person_names)
    strangers = [i for i, name in enumerate(other.person_names) if name not in known]
    both = len(other.person_names) - len(strangers)
    warnings = []
    if both:
        warnings.append(
            f"{both} people of {experiment.evaluate_on} carry a name that is trained on too; "
            "they are not evaluated on"
        )
    return everybody, other.of_people(strangers), warnings


def _public(
    experiment: Experiment, others: Sequence[Faces], cache: Path, progress: Progress
) -> Faces | None:
    """Return the faces that private training has beside it; None where it needs none.

    Raises:
        ConfigError: they show people who are trained or measured on as well.
    """
    if not experiment.needs_public_faces:
        return None
    faces = _load(experiment, experiment.public, "public", cache, progress)
    check_trainable(faces)
    known = {name for other in others for name in other.person_names}
    both = sum(name in known for name in faces.person_names)
    if both:
        raise ConfigError(
            f"expected public people who are nobody else here, got {both} who are",
            hint="name another source with --public",
        )
    return faces


def _weights(model: Path) -> Tensors:
    network, _ = load_model(model)
    return read_weights(network)


def _policy(experiment: Experiment) -> Policy:
    """Return the policy of an organisation that allows what is asked for, and no more."""
    private = experiment.config.privacy
    if private.unit == "none":
        raise ConfigError("expected a privacy unit, got none")
    least = private.noise_multiplier
    if private.releases_figures:
        least = min(least, private.evaluation_noise)
    return Policy(
        unit=private.unit,
        epsilon=experiment.epsilon,
        delta=experiment.delta,
        min_noise_multiplier=least,
        max_sample_rate=private.sample_rate,
        max_steps_per_round=private.steps,
    )


def _untrained(experiment: Experiment, faces: Faces) -> list[str]:
    """Return a warning that counts people whose photographs are in no batch."""
    least = experiment.config.training.min_photos
    count = len(faces.person_names) - len(trainable_people(faces.people, least))
    warning = f"{count:,} people with under {least} photographs are told from others, no more"
    return [warning] * (count > 0)


def _federations(
    experiment: Experiment,
    organisations: dict[str, tuple[int, ...]],
    people: tuple[int, ...],
    folder: Path,
) -> tuple[Federation, ...]:
    """Return the arms that were asked for; pooled and local ones are federations of one."""
    federations = []
    if "federated" in experiment.arms:
        federations.append(
            Federation(arm="federated", organisation=None, members=organisations, folder=folder)
        )
    if "plain" in experiment.arms:
        place = folder / "arms" / "plain"
        federations.append(
            Federation(arm="plain", organisation=None, members=organisations, folder=place)
        )
    if "central" in experiment.arms:
        place = folder / "arms" / "central"
        federations.append(
            Federation(arm="central", organisation=None, members={EVERYONE: people}, folder=place)
        )
    if "local" in experiment.arms:
        federations += [
            Federation(
                arm="local",
                organisation=name,
                members={name: members},
                folder=folder / "arms" / f"local-{name}",
            )
            for name, members in organisations.items()
        ]
    return tuple(federations)
