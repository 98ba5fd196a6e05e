"""What a round releases of its units, by either method, and how hard each unit is for a model.

gradient     clipped gradients, summed and noised; hard is what the head judges with a large loss
whitening    clipped scatters, summed and noised; hard is a person whose photographs lie apart

Of whitening the attacker gets the noised sum itself, which tells more than the weights that are
computed from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from veilface_client.noise import SeededNoise
from veilface_client.private_plan import ROUNDING, PrivateSummary, Secrets
from veilface_client.training import Chosen, embed
from veilface_client.unit_gradients import unit_gradients
from veilface_client.units import Units, Views
from veilface_client.whitening import clipped_scatter, noised_scatter, whiten_private
from veilface_common.budget.ledger import Reservation
from veilface_simulations.auditing.subject import Released, Subject, coins, parameters, release


class Method(Protocol):
    """Rounds of one private step, and what the auditor computes for itself."""

    def size(self) -> int:
        """Return how many numbers a round releases."""
        ...

    def contributions(
        self, network: nn.Module, units: Units, step: int
    ) -> Iterator[NDArray[np.float32]]:
        """Yield what each unit gives to a round, clipped: [size]."""
        ...

    def release(
        self, network: nn.Module, units: Units, paid: Reservation, *, seed: int, step: int
    ) -> Released:
        """Take a round on `network`, in place, with the noise of a seed."""
        ...

    def losses(self, network: nn.Module, units: Units, step: int) -> Iterator[float]:
        """Yield how hard each unit is for the network."""
        ...


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """Rounds of gradient descent, at a learning rate each."""

    subject: Subject
    learning_rates: tuple[float, ...]

    def size(self) -> int:
        """Return how many numbers are trained."""
        network = self.subject.start()
        head, _ = self.subject.judge(network)
        return sum(parameter.numel() for parameter in parameters(self.subject, network, head))

    def contributions(
        self, network: nn.Module, units: Units, step: int
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the clipped gradient of each unit."""
        subject = self.subject
        head, _ = subject.judge(network)
        inside = parameters(subject, network, head)
        views = Views(units, subject.config, coins(step), torch.device("cpu"))
        limit = subject.plan.max_gradient_norm * (1 - ROUNDING)
        for unit in range(len(units.names)):
            seen = views.of([unit], 0)
            _, gradients = unit_gradients(network, head, seen, inside, subject.config)
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            yield (flat * min(1.0, limit / (float(flat.norm()) + 1e-6))).numpy()

    def release(
        self, network: nn.Module, units: Units, paid: Reservation, *, seed: int, step: int
    ) -> Released:
        """Take a round and read the noised sum off the weights."""
        return release(
            self.subject,
            network,
            units,
            paid,
            noise=SeededNoise(seed),
            step=step,
            learning_rate=self.learning_rates[step],
        )

    @torch.no_grad()
    def losses(self, network: nn.Module, units: Units, step: int) -> Iterator[float]:
        """Yield the loss of each unit, augmented as in no round."""
        head, _ = self.subject.judge(network)
        views = Views(units, self.subject.config, coins(step), torch.device("cpu"))
        for unit in range(len(units.names)):
            seen = views.of([unit], 0)
            _, photographs, copies = seen.faces.shape[:3]
            flat = seen.faces.flatten(0, 2).contiguous(memory_format=torch.channels_last)
            yield float(head.loss(network(flat).view(photographs, copies, -1), seen.names[0]))


@dataclass(frozen=True, kw_only=True)
class Scatters:
    """Rounds of whitening."""

    subject: Subject

    def size(self) -> int:
        """Return how many numbers a scatter is."""
        dimension = self.subject.config.model.dimension
        return dimension * (dimension + 1) // 2

    def contributions(
        self,
        network: nn.Module,
        units: Units,
        step: int,  # noqa: ARG002 -- nothing is augmented
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the clipped scatter of each unit."""
        for embeddings in self._embedded(network, units):
            scatter = clipped_scatter(embeddings, self.subject.plan.max_gradient_norm)
            yield np.zeros(self.size(), np.float32) if scatter is None else scatter.astype("f4")

    def release(
        self, network: nn.Module, units: Units, paid: Reservation, *, seed: int, step: int
    ) -> Released:
        """Take a round, and the same once more for the sum that its weights come from."""
        subject = self.subject
        summary = PrivateSummary()
        seen = noised_scatter(
            network, units, subject.config, subject.plan, self._secrets(seed, step), summary
        )
        whiten_private(
            network,
            units,
            subject.config,
            subject.plan,
            paid,
            secrets=self._secrets(seed, step),
        )
        return Released(update=seen, taken=summary.taken)

    def losses(
        self,
        network: nn.Module,
        units: Units,
        step: int,  # noqa: ARG002 -- nothing is augmented
    ) -> Iterator[float]:
        """Yield the mean squared distance of each unit's photographs from their middle."""
        for embeddings in self._embedded(network, units):
            yield float(embeddings.var(0).sum())

    def _secrets(self, seed: int, step: int) -> Secrets:
        fault = self.subject.fault
        return Secrets(coins=fault.coins(coins(step)), noise=fault.noise(SeededNoise(seed), step))

    def _embedded(self, network: nn.Module, units: Units) -> Iterator[NDArray[np.float32]]:
        config = self.subject.config
        for rows in units.rows:
            yield embed(
                network,
                Chosen(units.canvases, rows),
                pixels=config.model.pixels,
                device=config.device,
                precision=config.precision,
            )
