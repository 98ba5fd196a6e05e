"""What the embedding is trained against. It knows the people by number, so it never leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from veilface_common.config import HeadConfig


class Head(Protocol):
    """Judges embeddings during training; an `nn.Module` that the organisation keeps between rounds.

    That it has a row per person is the cosine head's own affair: ask for the loss, nothing else.
    """

    def is_started(self) -> bool:
        """Return whether `start` was called, now or in the round that the state comes from."""
        ...

    def start(self, embeddings: Tensor, labels: Tensor) -> None:
        """Take a position towards a network not met before: [N, D] of all faces; people [N]."""
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

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return what a later round needs."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> Any:
        """Continue from an earlier round."""
        ...


class CosineMarginHead(nn.Module):
    """Softmax over scaled cosines, the own person's lowered by a margin (Wang et al. 2018, eq. 4).

    L_i = -log( e^{s(cos_y - m)} / (e^{s(cos_y - m)} + sum_{j != y} e^{s cos_j}) ), with cos_j the
    cosine between the embedding and row j. `weight` is [people, D]; a row is nearly a template of
    its person: to be kept as the faces are kept.

    A row starts as the mean of its person's embeddings (Qi et al. 2018, section 3.2), seen from the
    mean of all: an untrained network looks one way whatever it sees (cosines above 0.95). Rows that
    are drawn first turn the network's own sense of likeness into noise: measured on LFW, after 6
    passes EER 0.35 on new people instead of 0.25.
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
        self.register_buffer("started", torch.zeros(1))  # 1 once the rows stand for people
        self.started: Tensor

    def is_started(self) -> bool:
        """Return whether the rows stand for people."""
        return bool(self.started)

    @torch.no_grad()
    def start(self, embeddings: Tensor, labels: Tensor) -> None:
        """Put each row at the mean of its person's faces; a person without one keeps its draw."""
        centred = functional.normalize(embeddings - embeddings.mean(0))
        sums = torch.zeros_like(self.weight).index_add_(0, labels, centred)
        found = torch.bincount(labels, minlength=len(self.weight)) > 0
        self.weight[found] = functional.normalize(sums[found])
        self.started.fill_(1)

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
