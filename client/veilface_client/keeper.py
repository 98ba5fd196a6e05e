"""The organisation's side of the boundary: it holds the faces and decides what is released.

Nothing but `TrainReply` and `EvaluateReply` leaves: trained weights minus received ones, noised
histograms of scores, and the head of the organisation's ledger. Counts, losses, labels and the head
stay here. An organisation with an account (`account`) trains privately, within its policy, or not
at all; one without releases no figures. Who may ask is for the `door`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from veilface_client import training
from veilface_client.account import Account, open_account
from veilface_client.data import Faces, check_trainable, open_faces
from veilface_client.head import CosineMarginHead
from veilface_client.history import LocalRound, save_round
from veilface_client.noise import Noise, SecureNoise, SeededNoise
from veilface_client.noised_scores import held_out, noised_scores, slots_for
from veilface_client.organisation import Organisation, load_organisation
from veilface_client.private_heads import make_head
from veilface_client.private_plan import PrivacyPlan, PrivateSummary, Secrets
from veilface_client.replies import (
    load_evaluation,
    load_reply,
    save_evaluation,
    save_reply,
)
from veilface_client.track_training import train_tracks
from veilface_client.units import Coins, units_of
from veilface_client.whitening import whiten_private
from veilface_common import models, tensors
from veilface_common.budget.ledger import Reservation
from veilface_common.config import RunConfig
from veilface_common.errors import LedgerError, ProtocolError, RequestRefused
from veilface_common.models.weights import load_weights, read_weights
from veilface_common.protocol import (
    EvaluateReply,
    EvaluateRequest,
    TrainReply,
    TrainRequest,
)
from veilface_common.updates import encode_update

if TYPE_CHECKING:
    from veilface_client.public_side import PublicClasses

_HEAD_STREAM, _ROUND_STREAM = "head", "round"
_PUBLIC_STREAM, _SECRET_STREAM = "public", "secret"
_FIGURES_STREAM, _CHOICE_STREAM = "figures", "held-out"


@dataclass(kw_only=True)
class Seen:
    """What training saw; it is for the organisation alone."""

    loss: float = 0.0
    images: int = 0


class Keeper:
    """One organisation's faces, and the two things it does for a federation."""

    def __init__(self, organisation: Organisation, faces: Faces, folder: Path) -> None:
        self._organisation = organisation
        self._name = organisation.name
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
        return cls(organisation, faces, folder)

    def train(self, request: TrainRequest) -> TrainReply:
        """Train the received model on the organisation's faces and return what changed.

        The same request gives the same reply, bit for bit, however often it comes; of private
        training as long as it is the newest that was answered.

        Raises:
            DataError: its faces do not show two people, or it has no public ones and needs some.
            RequestRefused: the model is not the one that the configuration names, or not finite.
            TrainingDiverged: the loss left the finite numbers.
            BudgetExceeded: the organisation's policy does not allow what is asked for.
            LedgerError: its ledger cannot be written or trusted; nothing was trained.
        """
        torch.set_num_threads(1)  # one thread for each organisation: several train side by side
        account = open_account(self._folder, self._faces)
        if account is not None:
            return self._train_privately(request, account)
        if request.config.privacy.unit != "none":
            raise LedgerError("expected an account that private training is charged to, got none")
        return self._train_openly(request)

    def evaluate(self, request: EvaluateRequest) -> EvaluateReply:
        """Return noised histograms of how the received model scores people it was not trained on.

        They are charged before they are computed. The same request gives the same reply, and costs
        nothing again, as long as it is the newest that was answered.

        Raises:
            RequestRefused: the model is not the one that the configuration names, or not finite.
            BudgetExceeded: the policy does not allow it, or it is asked for without noise.
            LedgerError: there is no account that could be charged, or none that can be trusted.
        """
        torch.set_num_threads(1)  # as in training
        account = open_account(self._folder, self._faces)
        if account is None:
            raise LedgerError("expected an account that figures are charged to, got none")
        before = load_evaluation(self._folder, request)
        if before is not None:
            return before
        network, _ = _received(request)
        config = request.config
        noise = self._noise(config, _FIGURES_STREAM, request.round)
        charge = account.release(request, noise.origin)
        secret, share = self._choice(config, account), config.privacy.evaluation_share
        scores = noised_scores(
            network,
            self._faces.of_people(held_out(self._faces.person_names, secret, share)),
            config,
            charge,
            slots=slots_for(account.ledger.registration.people_declared, share),
            secret=secret,
            noise=noise,
        )
        reply = EvaluateReply(
            organisation=self._name, round=request.round, scores=scores, ledger_head=charge.head
        )
        save_evaluation(self._folder, request, reply)
        return reply

    def trained_people(self, config: RunConfig) -> list[int]:
        """Return who of the organisation's people is trained on; it stays at home.

        Raises:
            LedgerError: its account cannot be trusted.
        """
        account = open_account(self._folder, self._faces)
        if account is None:
            return list(range(len(self._faces.person_names)))
        return self._trained_people(config, account)

    def _trained_people(self, config: RunConfig, account: Account) -> list[int]:
        names, private = self._faces.person_names, config.privacy
        secret = self._choice(config, account)
        gone = held_out(names, secret, private.evaluation_share) if private.releases_figures else []
        return sorted(set(range(len(names))) - set(gone))

    def _train_openly(self, request: TrainRequest) -> TrainReply:
        network, received = _received(request)
        faces = self._faces
        check_trainable(faces)
        chosen = training.trainable_people(faces.people, request.config.training.min_photos)
        rows = np.flatnonzero(np.isin(faces.people, chosen))
        with self._watched(request) as seen:
            summary = self._fit(network, rows, request)
            seen.loss, seen.images = summary.mean_loss, summary.images
        return TrainReply(
            organisation=self._name,
            round=request.round,
            update=_update(network, received, request.config),
        )

    def _train_privately(self, request: TrainRequest, account: Account) -> TrainReply:
        """Charge, train, keep the reply, settle: in this order, so that a crash over-counts."""
        plan = account.plan(request)
        before = load_reply(self._folder, request)
        if before is not None:
            account.ledger.settle_sent(request.digest)
            return before
        network, received = _received(request)
        secrets = self._secrets(request)
        train = self._method(network, request, account, plan, secrets)
        reservation = account.reserve(request, plan, secrets.noise.origin)
        settle = partial(account.ledger.settle, reservation)
        try:
            with self._watched(request) as seen:
                summary = train(reservation)
                seen.loss, seen.images = summary.mean_loss, summary.images
        except OSError:  # a full disk: as after a crash, it begins again on this charge
            raise
        except Exception:
            settle({"outcome": "failed"})
            raise
        reply = TrainReply(
            organisation=self._name,
            round=request.round,
            update=_update(network, received, request.config),
            ledger_head=reservation.head,
        )
        save_reply(self._folder, request, reply)
        settle({"outcome": "sent"})
        return reply

    def _method(
        self,
        network: nn.Module,
        request: TrainRequest,
        account: Account,
        plan: PrivacyPlan,
        secrets: Secrets,
    ) -> Callable[[Reservation], PrivateSummary]:
        """Return what is done once it is paid for; what is missing is said before."""
        config = request.config
        units = units_of(plan.unit, self._faces.of_people(self._trained_people(config, account)))
        if config.privacy.method == "whitening":
            return lambda paid: whiten_private(network, units, config, plan, paid, secrets=secrets)
        from veilface_client.private import train_private  # noqa: PLC0415 -- brings Opacus

        public = self._public(network, request)
        head = make_head(config, account.secret, public)
        return lambda paid: train_private(
            network,
            head,
            units,
            config,
            plan,
            paid,
            secrets=secrets,
            learning_rate=config.learning_rate_in(request.round),
            # Embeddings that are frozen need nobody trained beside to keep them apart.
            public=None if config.privacy.trained == "track" else public,
        )

    def _public(self, network: nn.Module, request: TrainRequest) -> PublicClasses | None:
        if self._organisation.public_faces is None:
            return None
        from veilface_client.public_side import PublicClasses  # noqa: PLC0415 -- brings torchvision

        seed = self._seed(request.config, _PUBLIC_STREAM, request.round)
        return PublicClasses(
            network,
            open_faces(self._organisation.public_faces),
            request.config,
            learning_rate=request.config.learning_rate_in(request.round),
            generator=torch.Generator().manual_seed(seed),
        )

    def _secrets(self, request: TrainRequest) -> Secrets:
        """Return the round's coins and noise: nobody's to predict, but in a seeded simulation."""
        config, number = request.config, request.round
        noise = self._noise(config, _SECRET_STREAM, number)
        if not self._organisation.seeded:
            return Secrets(coins=Coins(token_bytes(32)), noise=noise)
        seed = self._seed(config, _SECRET_STREAM, number)
        return Secrets(coins=Coins(seed.to_bytes(32, "big")), noise=noise)

    def _noise(self, config: RunConfig, stream: str, number: int) -> Noise:
        if self._organisation.seeded:
            return SeededNoise(self._seed(config, stream, number))
        return SecureNoise()

    def _choice(self, config: RunConfig, account: Account) -> bytes:
        """Return what keys the choice of people held out: the same in all rounds."""
        if self._organisation.seeded:
            return self._seed(config, _CHOICE_STREAM, 0).to_bytes(32, "big")
        return account.secret

    @contextmanager
    def _watched(self, request: TrainRequest) -> Iterator[Seen]:
        """Write down, at home, what the training inside saw and how long it took."""
        started, seen = time.monotonic(), Seen()
        yield seen
        entry = LocalRound(
            round=request.round,
            loss=seen.loss,
            images=seen.images,
            seconds=round(time.monotonic() - started, 3),
        )
        save_round(self._folder, entry)

    def _fit(
        self, network: nn.Module, rows: NDArray[np.int64], request: TrainRequest
    ) -> training.TrainingSummary:
        config = request.config
        plan = config.training
        if config.federation.strategy != "fedprox":
            plan = replace(plan, proximal=0.0)
        train = train_tracks if plan.trained == "track" else training.train
        return train(
            network,
            self._head(config, len(self._faces.person_names)),
            self._faces,
            self._faces.people,
            replace(config, training=plan),
            learning_rate=config.learning_rate_in(request.round),
            seed=self._seed(config, _ROUND_STREAM, request.round),
            rows=rows,
        )

    def _head(self, config: RunConfig, people: int) -> CosineMarginHead:
        generator = torch.Generator().manual_seed(self._seed(config, _HEAD_STREAM, 0))
        return CosineMarginHead(config.head, people, config.model.dimension, generator)

    def _seed(self, config: RunConfig, stream: str, number: int) -> int:
        """Return a seed that follows from the run's seed, the organisation and the round."""
        text = f"{config.seed}/{self._name}/{stream}/{number}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _received(request: TrainRequest | EvaluateRequest) -> tuple[nn.Module, tensors.Tensors]:
    """Return the model that came, and its weights as they came.

    It is looked at before anything is charged: names, shapes, float32, finite.
    """
    network = models.build(request.config.model, seed=0)
    try:
        received = tensors.from_bytes(request.model)
        load_weights(network, received)
    except ProtocolError as error:  # of the coordinator's own arrays: it may be told
        raise RequestRefused(f"the request's model: {error}") from None
    return network, received


def _update(network: nn.Module, received: tensors.Tensors, config: RunConfig) -> bytes:
    trained = read_weights(network)
    changed = {name: trained[name] - received[name] for name in received}
    return encode_update(changed, config.federation.update_precision)
