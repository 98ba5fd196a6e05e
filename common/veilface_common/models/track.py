"""One weight for each frame of a track, by a recurrent network over frozen embeddings.

The track's template is the direction of the weighted sum of its frames' embeddings. The network
says how much each frame counts and nothing else, so a template stays among those that the frames
span: a recurrent network that is free to put out any vector learns its training people by heart
(REAN, Gong et al. 2019, section 1; docs/tracks.md has what was seen here). Of the embeddings it is
told how far they agree, not where they point, so it has nobody to know by heart either, and is
small enough to be trained in private.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

QUALITIES = 9  # numbers beside each embedding; `track_template.NAMES` (client) has their names
HIDDEN = 8  # more was not better, and noise in private training grows with it
_AGREEMENT = 4.0  # brings cosines, which lie close together, to the size of the other inputs


class TrackWeights(nn.Module):
    """A gated recurrent unit over the frames of a track (Cho et al. 2014, eqs. 5 to 8).

    What it sees of a frame: its qualities and the cosine of its embedding to the direction of all
    frames' sum, and how far each of these is from its mean over the track. An absent frame leaves
    the state as it was, so where padding stands, and how much of it, changes nothing.
    """

    def __init__(self, qualities: int = QUALITIES, hidden: int = HIDDEN) -> None:
        super().__init__()
        inputs = 2 * (qualities + 1)
        self.cell = nn.GRUCell(inputs, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, embeddings: Tensor, qualities: Tensor, present: Tensor) -> Tensor:
        """[B, T, D], [B, T, Q], bool [B, T] -> [B, D], unit length."""
        weights = self.weights(embeddings, qualities, present)
        seen = torch.where(present[:, :, None], embeddings, 0.0)
        return functional.normalize(torch.einsum("bt,btd->bd", weights, seen))

    def weights(self, embeddings: Tensor, qualities: Tensor, present: Tensor) -> Tensor:
        """[B, T, D], [B, T, Q], bool [B, T], true somewhere in each row -> [B, T], of sum 1.

        Where a frame is absent, its weight is 0 and what stands in its place is not looked at.
        """
        frames = _inputs(embeddings, qualities, present)  # [B, T, 2 (Q + 1)]
        state = frames.new_zeros(len(frames), self.cell.hidden_size)
        states = []
        for time in range(frames.shape[1]):
            moved = self.cell(frames[:, time], state)  # [B, H]
            state = torch.where(present[:, time, None], moved, state)
            states.append(state)
        scores = self.score(torch.stack(states, 1)).squeeze(2)  # [B, T, H] -> [B, T]
        weights: Tensor = scores.masked_fill(~present, -math.inf).softmax(1)
        return weights


def _inputs(embeddings: Tensor, qualities: Tensor, present: Tensor) -> Tensor:
    there = present[:, :, None]
    seen = torch.where(there, embeddings, 0.0)
    direction = functional.normalize(seen.sum(1))  # [B, D]
    agreement = _AGREEMENT * torch.einsum("btd,bd->bt", seen, direction)
    told = torch.cat([torch.where(there, qualities, 0.0), agreement[:, :, None]], 2)
    mean = told.sum(1, keepdim=True) / there.sum(1, keepdim=True)
    return torch.cat([told, told - mean], 2)


def initialise(track: TrackWeights, generator: Generator) -> None:
    """Draw the weights, biases zero: frames start with nearly equal weights."""
    for parameter in track.parameters():
        is_matrix = parameter.dim() > 1
        deviation = 1 / math.sqrt(parameter.shape[-1]) if is_matrix else 0.0
        with torch.no_grad():
            parameter.normal_(0, 1, generator=generator).mul_(deviation)
