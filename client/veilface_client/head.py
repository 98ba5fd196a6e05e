"""What the embedding is trained against. It knows the people by number, so it never leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from veilface_common.config import HeadConfig


class Head(Protocol):
    """Judges embeddings during a round; an `nn.Module` that is forgotten when the round ends.

    That it has a row per person is the cosine head's own affair: ask for the loss, nothing else.
    """

    def start(self, embeddings: Tensor, labels: Tensor) -> None:
        """Take a position towards the round's network: [N, D] of all faces; people [N]."""
        ...

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each example: [B, D], unit length; people [B] -> [B].

        The loss of one example depends on no other example of the batch, which private training
        needs: no mining, no statistics of the batch.
        """
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:  # noqa: FBT001, FBT002 -- nn.Module's signature
        """Return what the optimiser trains; may be empty."""
        ...

    def to(self, device: torch.device) -> Any:
        """Move to the device."""
        ...


class CosineMarginHead(nn.Module):
    """Softmax over scaled cosines, the own person's lowered by a margin (Wang et al. 2018, eq. 4).

    L_i = -log( e^{s(cos_y - m)} / (e^{s(cos_y - m)} + sum_{j != y} e^{s cos_j}) ), with cos_j the
    cosine between the embedding and row j. `weight` is [people, D]; a row is nearly a template of
    its person: to be kept as the faces are kept.

    At the start of each round a row is the mean of its person's embeddings by the round's network
    (Qi et al. 2018, section 3.2), seen from the mean of all: an untrained network looks one way
    whatever it sees (cosines above 0.95). The rows of the round before would fit the network that
    this organisation sent, not the one that the federation made of it; and even where both are the
    same, as in pooled training, starting anew learns faster. docs/adr/0006 has the figures.
    """

    def __init__(
        self, config: HeadConfig, people: int, dimension: int, generator: Generator
    ) -> None:
        super().__init__()
        self.scale = config.scale
        self.margin = config.margin
        self.weight = nn.Parameter(
            functional.normalize(torch.randn(people, dimension, generator=generator))
        )

    @torch.no_grad()
    def start(self, embeddings: Tensor, labels: Tensor) -> None:
        """Put each row at the mean of its person's faces; a person without one keeps its draw."""
        centred = functional.normalize(embeddings - embeddings.mean(0))
        sums = torch.zeros_like(self.weight).index_add_(0, labels, centred)
        found = torch.bincount(labels, minlength=len(self.weight)) > 0
        self.weight[found] = functional.normalize(sums[found])

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """[B, D], [B] -> [B]."""
        # One expression over `weight`: nn.Linear divided by the norms afterwards makes Opacus
        # return wrong per-example gradients without a word.
        cosines = functional.linear(
            functional.normalize(embeddings.float()), functional.normalize(self.weight)
        )  # [B, D] -> [B, people]
        own = functional.one_hot(labels, len(self.weight)).to(cosines)
        return functional.cross_entropy(
            self.scale * (cosines - self.margin * own), labels, reduction="none"
        )
