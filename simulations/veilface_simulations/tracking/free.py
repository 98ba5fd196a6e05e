"""The network that REAN warns of: a recurrent network that is free to put out any template.

It is trained here for comparison and never shipped: it learns its people by heart.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = 64  # in each direction


class FreeTemplate(nn.Module):
    """An LSTM both ways over embeddings and qualities, and a projection of its mean state."""

    def __init__(self, dimension: int, qualities: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dimension + qualities, HIDDEN, batch_first=True, bidirectional=True)
        self.project = nn.Linear(2 * HIDDEN, dimension)

    def forward(self, embeddings: Tensor, qualities: Tensor, present: Tensor) -> Tensor:
        """[B, T, D], [B, T, Q], bool [B, T] (padding at the end) -> [B, D], unit length."""
        lengths = present.sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(
            torch.cat([embeddings, qualities], 2), lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return functional.normalize(self.project(states.sum(1) / lengths[:, None]))
