"""The organisation's side of the boundary: it holds the faces and decides what is released.

Nothing but `Description` and `TrainReply` leaves: a name, and trained weights minus received ones.
Counts, losses, labels and the head stay here.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from veilface_client import training
from veilface_client.data import Faces, check_trainable, open_faces
from veilface_client.head import CosineMarginHead
from veilface_client.history import LocalRound, save_round
from veilface_client.organisation import load_organisation
from veilface_common import models, tensors
from veilface_common.config import RunConfig
from veilface_common.models.weights import load_weights, read_weights
from veilface_common.protocol import Description, TrainReply, TrainRequest

_HEAD_STREAM, _ROUND_STREAM = "head", "round"


class Keeper:
    """One organisation's faces, and the two things it does for a federation."""

    def __init__(self, name: str, faces: Faces, folder: Path) -> None:
        self._name = name
        self._faces = faces
        self._folder = folder

    @classmethod
    def open(cls, folder: Path) -> Keeper:
        """Return the keeper of the organisation in `folder`.

        Raises:
            ArtifactError: the folder holds no organisation.
            DataError: its faces cannot be read.
        """
        organisation = load_organisation(folder)
        faces = open_faces(organisation.faces).of_people(organisation.people)
        return cls(organisation.name, faces, folder)

    def describe(self) -> Description:
        """Return the name under which the organisation takes part."""
        return Description(organisation=self._name)

    def train(self, request: TrainRequest) -> TrainReply:
        """Train the received model on the organisation's faces and return what changed.

        The same request gives the same reply, bit for bit, however often it comes.

        Raises:
            DataError: its faces do not show two people.
            ProtocolError: the model is not the one that the configuration names.
            TrainingDiverged: the loss left the finite numbers.
        """
        torch.set_num_threads(1)  # one thread for each organisation: several train side by side
        started = time.monotonic()
        received = tensors.from_bytes(request.model)
        network = models.build(request.config.model, seed=0)
        load_weights(network, received)
        chosen = training.trainable_people(self._faces.people, request.config.training.min_photos)
        faces = self._faces.of_people(chosen.tolist())
        check_trainable(faces)
        summary = self._fit(network, faces, request)
        entry = LocalRound(
            round=request.round,
            loss=summary.mean_loss,
            images=summary.images,
            seconds=round(time.monotonic() - started, 3),
        )
        save_round(self._folder, entry)
        trained = read_weights(network)
        update = {name: trained[name] - received[name] for name in received}
        return TrainReply(
            organisation=self._name, round=request.round, update=tensors.to_bytes(update)
        )

    def _fit(
        self, network: nn.Module, faces: Faces, request: TrainRequest
    ) -> training.TrainingSummary:
        config = request.config
        plan = config.training
        if config.federation.strategy != "fedprox":
            plan = replace(plan, proximal=0.0)
        return training.train(
            network,
            self._head(config, len(faces.person_names)),
            faces,
            faces.people,
            replace(config, training=plan),
            learning_rate=config.learning_rate_in(request.round),
            seed=self._seed(config, _ROUND_STREAM, request.round),
        )

    def _head(self, config: RunConfig, people: int) -> CosineMarginHead:
        generator = torch.Generator().manual_seed(self._seed(config, _HEAD_STREAM, 0))
        return CosineMarginHead(config.head, people, config.model.dimension, generator)

    def _seed(self, config: RunConfig, stream: str, number: int) -> int:
        """Return a seed that follows from the run's seed, the organisation and the round."""
        text = f"{config.seed}/{self._name}/{stream}/{number}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
