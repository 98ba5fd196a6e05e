"""Every arm of an experiment measured on the same people, whom nobody trained on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veilface_client.account import KEY, LEDGER, PUBLIC_KEY
from veilface_client.data import Faces
from veilface_client.evaluation import embed_faces
from veilface_client.history import load_history
from veilface_client.keeper import Keeper
from veilface_client.training import trainable_people
from veilface_common import models
from veilface_common.artifact import load_model
from veilface_common.budget.history import read_history
from veilface_common.budget.ledger import Ledger
from veilface_common.config import ModelConfig
from veilface_common.crypto.signing import load_signing_key, load_verify_key
from veilface_common.errors import DataError, FederationError
from veilface_common.lfw_pairs import Pair, PairsFigures, evaluate_pairs, parse_pairs
from veilface_common.metrics import (
    Figures,
    equal_error_rate,
    evaluate,
    pair_scores,
    worst_pairs,
)
from veilface_common.models.weights import load_weights
from veilface_common.score_histograms import Reported, estimate
from veilface_common.tensors import Tensors
from veilface_common.thresholds import Impostors, impostors_of
from veilface_server.checkpoint import kept_models, load_records, load_state
from veilface_server.evaluation import load_evaluation
from veilface_simulations.experiment import Experiment
from veilface_simulations.report import Example
from veilface_simulations.results import Arm, ArmPrivacy, CurvePoint
from veilface_simulations.training import arm_config
from veilface_simulations.world import Federation, World

CURVE_PEOPLE = 250  # people with a second photograph, for the points of a learning curve
_SHOWN_PIXELS = 96
_CURVE_SEED = 3


def measure_arm(
    experiment: Experiment, world: World, federation: Federation, pairs: tuple[Pair, ...]
) -> Arm:
    """Return an arm's figures after its last round.

    Raises:
        FederationError: the arm has not ended.
    """
    model = experiment.config.model
    templates = embed_with(final_weights(experiment, federation), model, world.evaluation)
    held = world.faces.of_people(_trained_on(experiment, federation))
    privacy = _privacy(federation)
    least = 1 if privacy else experiment.config.training.min_photos
    trained = held.of_people(trainable_people(held.people, least).tolist())
    records = load_records(federation.server)
    return Arm(
        arm=federation.arm,
        organisation=federation.organisation,
        privacy=privacy,
        people=len(trained.person_names),
        images=len(trained),
        seconds=round(sum(record.seconds for record in records), 3),
        figures=evaluate(templates, world.evaluation.people, seed=experiment.seed),
        pairs=pairs_figures(templates, world.evaluation, pairs),
        reported=_reported(federation, experiment.seed),
        curve=_curve(model, federation, world.evaluation),
        loss=_losses(federation),
    )


def impostors(experiment: Experiment, world: World, federation: Federation) -> Impostors | None:
    """Return how alike strangers look to an arm's model: what an organisation begins to decide by.

    Raises:
        FederationError: the arm has not ended.
    """
    weights, model = final_weights(experiment, federation), experiment.config.model
    templates = embed_with(weights, model, world.evaluation)
    _, people = np.unique(world.evaluation.people, return_inverse=True)
    scores = pair_scores(templates, people, np.random.default_rng(experiment.seed)).impostor
    return impostors_of(scores, int(people.max()) + 1)


def measure_initial(experiment: Experiment, world: World) -> Figures | None:
    """Return the figures of the model that training starts from; None where it is drawn.

    Raises:
        ArtifactError: it cannot be read any more.
    """
    if experiment.initial is None:
        return None
    network, manifest = load_model(Path(experiment.initial))
    templates = embed_faces(network, manifest.model, world.evaluation)
    return evaluate(templates, world.evaluation.people, seed=experiment.seed)


def final_weights(experiment: Experiment, federation: Federation) -> Tensors:
    """Return the model after an arm's last round.

    Raises:
        FederationError: the arm has not ended.
    """
    config = arm_config(experiment, federation)
    ended = load_state(federation.server, config)
    if ended is None or ended.round < config.federation.rounds:
        raise FederationError(f"the {federation.arm} arm has not reached its last round")
    return ended.model


def embed_with(weights: Tensors, model: ModelConfig, faces: Faces) -> NDArray[np.float32]:
    """Return the templates that a model with these weights gives: [N, D]."""
    network = models.build(model, seed=0)
    load_weights(network, weights)
    return embed_faces(network, model, faces)


def load_pairs(path: str | None) -> tuple[Pair, ...]:
    """Return the verification pairs of a file in LFW's format; none where no file is given.

    Raises:
        DataError: the file cannot be read.
    """
    if path is None:
        return ()
    try:
        return parse_pairs(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"expected a pairs file at {path}", hint="pairs.txt as LFW publishes it"
        ) from error


def pairs_figures(
    templates: NDArray[np.float32], faces: Faces, pairs: tuple[Pair, ...]
) -> PairsFigures | None:
    """Return the accuracy of LFW's protocol on these faces; None without pairs of them."""
    if not pairs:
        return None
    number = {PurePath(name).stem: row for row, name in enumerate(faces.photo_names)}
    return evaluate_pairs(templates, number, pairs)


def worst_mistakes(experiment: Experiment, world: World, federation: Federation) -> list[Example]:
    """Return a model's worst mistakes as pictures; none unless the people are drawn."""
    if not (experiment.evaluate_on or experiment.data).startswith("drawn:"):
        return []
    faces = world.evaluation
    templates = embed_with(final_weights(experiment, federation), experiment.config.model, faces)
    shown = []
    for genuine, what in ((True, "One person, low score"), (False, "Two people, high score")):
        for left, right, score in worst_pairs(templates, faces.people, genuine=genuine, count=4):
            title = f"{what}: cosine {score:.2f}"
            shown.append(Example(title=title, left=_png(faces, left), right=_png(faces, right)))
    return shown


def _trained_on(experiment: Experiment, federation: Federation) -> list[int]:
    """Return whom an arm trains on: without those whom an organisation holds out for figures."""
    config = arm_config(experiment, federation)
    people: list[int] = []
    for name, own in federation.members.items():
        trained: Sequence[int] = range(len(own))
        if config.privacy.releases_figures:
            trained = Keeper.open(federation.organisations / name).trained_people(config)
        people += [own[number] for number in trained]
    return people


def _reported(federation: Federation, seed: int) -> Reported | None:
    record = load_evaluation(federation.server)
    if record is None or record.scores is None:
        return None
    return estimate(record.scores, record.deviation, len(record.accepted), seed)


def _privacy(federation: Federation) -> ArmPrivacy | None:
    """Return what the arm's ledgers say; None where the organisations keep none."""
    found = []
    for name in federation.members:
        folder = federation.organisations / name
        if not (folder / LEDGER).exists():
            continue
        ledger = Ledger(folder / LEDGER, load_signing_key(folder / KEY))
        history = read_history(folder / LEDGER, load_verify_key(folder / PUBLIC_KEY))
        # Private training has one mechanism from its first round to its last.
        mechanism = history.reserved[0].event.mechanism if history.reserved else None
        found.append(
            ArmPrivacy(
                unit=ledger.policy.unit,
                epsilon=ledger.spent().charged,
                delta=ledger.policy.delta,
                noise_multiplier=0.0 if mechanism is None else mechanism.noise_multiplier,
                sample_rate=0.0 if mechanism is None else mechanism.sample_rate,
                steps=sum(charge.event.steps for charge in history.reserved),
            )
        )
    return max(found, key=lambda privacy: privacy.epsilon, default=None)


def _losses(federation: Federation) -> tuple[float | None, ...]:
    """Return each round's mean loss over the organisations: a simulation sees all of them."""
    rounds: dict[int, list[float]] = {}
    for name in federation.members:
        for entry in load_history(federation.organisations / name):
            rounds.setdefault(entry.round, []).append(entry.loss)
    last = max(rounds, default=0)
    return tuple(
        float(np.mean(rounds[number])) if number in rounds else None
        for number in range(1, last + 1)
    )


def _curve(model: ModelConfig, federation: Federation, faces: Faces) -> tuple[CurvePoint, ...]:
    some = _people_for_curve(faces)
    points = []
    for round_number, weights in kept_models(federation.server):
        templates = embed_with(weights, model, some)
        scores = pair_scores(templates, some.people, np.random.default_rng(_CURVE_SEED))
        eer, _ = equal_error_rate(scores.genuine, scores.impostor)
        points.append(CurvePoint(round=round_number, eer=eer))
    return tuple(points)


def _people_for_curve(faces: Faces) -> Faces:
    paired = np.flatnonzero(faces.photographs_per_person() >= 2)
    chosen = np.random.default_rng(_CURVE_SEED).permutation(paired)[:CURVE_PEOPLE]
    return faces.of_people(sorted(chosen.tolist()))


def _png(faces: Faces, face: int) -> bytes:
    picture = np.ascontiguousarray(faces[np.array([face])][0].transpose(1, 2, 0))  # [P, P, 3]
    content = io.BytesIO()
    Image.fromarray(picture).resize((_SHOWN_PIXELS, _SHOWN_PIXELS)).save(content, "PNG")
    return content.getvalue()
