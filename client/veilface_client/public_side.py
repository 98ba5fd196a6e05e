"""Public people trained on beside the private ones: they cost no privacy and hold the space open.

The private loss (`private_heads.LeaveOneOutHead`) asks that a person's photographs agree and differ
from the rows of public people. Rows that stand still, or are only embedded anew, let the network
collapse (seen); so the public people are trained on in every step, rows and network together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from veilface_client.data import Faces
from veilface_client.head import CosineMarginHead
from veilface_client.training import (
    Chosen,
    autocast,
    choose_device,
    choose_precision,
    embed,
    load_canvases,
    make_optimizer,
)
from veilface_client.transform import Augmentation
from veilface_common.config import RunConfig

START_PHOTOGRAPHS = 4  # of a person: where a row starts; it is trained from there


class PublicClasses:
    """Public faces with a cosine-margin head of their own, started at the people's means."""

    def __init__(
        self,
        network: nn.Module,
        faces: Faces,
        config: RunConfig,
        *,
        learning_rate: float,
        generator: Generator,
    ) -> None:
        """Embed some `faces` of each person by the round's network, and start the rows there."""
        self._network, self._faces, self._config = network, faces, config
        self._device = choose_device(config.device)
        self._people = torch.from_numpy(faces.people).to(self._device)
        self._head = CosineMarginHead(
            config.head, len(faces.person_names), config.model.dimension, generator
        ).to(self._device)
        some = _some_of_each(faces.people, generator)
        seen = embed(
            network,
            Chosen(faces, some),
            pixels=config.model.pixels,
            device=config.device,
            precision=config.precision,
        )
        self._head.start(torch.from_numpy(seen).to(self._device), self._people[some])
        rate = learning_rate * config.head.learning_rate_factor
        rows = [{"params": list(self._head.parameters())}]
        self._optimizer = make_optimizer(rows, config.training, rate)
        self._augment = Augmentation(config.augmentation, config.model.pixels, generator)
        self._batches = self._shuffled(generator)

    def rows(self) -> Tensor:
        """Return the direction of each public person: [people, D]."""
        return functional.normalize(self._head.weight.detach())

    def gradients(self, inside: Sequence[nn.Parameter]) -> Sequence[Tensor]:
        """Return the gradients of the next batch, and move the rows; zeros where unused."""
        rows = next(self._batches)
        faces = self._augment(load_canvases(self._faces, rows.numpy(), self._device))
        with autocast(self._device, choose_precision(self._config.precision, self._device)):
            embeddings = self._network(faces.contiguous(memory_format=torch.channels_last))
        loss = self._head.loss(embeddings, self._people[rows.to(self._device)]).mean()
        of_head = list(self._head.parameters())
        found = torch.autograd.grad(loss, [*inside, *of_head], materialize_grads=True)
        for parameter, gradient in zip(of_head, found[len(inside) :], strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        return found[: len(inside)]

    def _shuffled(self, generator: Generator) -> Iterator[Tensor]:
        """Yield the rows of each batch, one shuffled pass after another, without an end."""
        size = min(self._config.training.batch_size, len(self._faces))
        while True:
            order = torch.randperm(len(self._faces), generator=generator)
            for first in range(0, len(order) - size + 1, size):
                yield order[first : first + size]


def _some_of_each(people: NDArray[np.int64], generator: Generator) -> NDArray[np.int64]:
    """Return the numbers of at most `START_PHOTOGRAPHS` faces of each person."""
    order = torch.randperm(len(people), generator=generator).numpy()
    by_person = order[np.argsort(people[order], kind="stable")]
    counts = np.bincount(people)
    place = np.arange(len(people)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_person[place < START_PHOTOGRAPHS])
