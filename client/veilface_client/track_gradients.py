"""The gradient of each unit by the network that weighs the frames of a track.

The embeddings are frozen, so a unit's frames are made once in a round, by its own coins and alone;
a step draws pseudo-tracks from them and takes one backward pass for each unit. The loss of a unit
is that of its tracks' templates, judged as photographs are: nothing in it comes from another unit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from veilface_client.private_heads import UnitHead
from veilface_client.pseudo_tracks import Frames, draw_tracks, make_frames
from veilface_client.units import UNITS_AT_ONCE, Coins, Units
from veilface_common.config import RunConfig
from veilface_common.models import TrackWeights

TRACKS = 16  # of a unit in a step: they cost time and no privacy
_MAKING = 2**31  # the "step" of the coins by which frames are made; no step has that number


class TrackGradients:
    """Gradients of units by the weights of frames; see `private.Gradients`."""

    def __init__(
        self,
        network: nn.Module,
        track: TrackWeights,
        head: UnitHead,
        units: Units,
        config: RunConfig,
        coins: Coins,
        inside: Sequence[nn.Parameter],
    ) -> None:
        self._network, self._track, self._head = network, track, head
        self._units, self._config, self._coins, self._inside = units, config, coins, inside
        self._frames: dict[int, Frames] = {}

    def chunks(self, sampled: Sequence[int]) -> list[list[int]]:
        """Return the units in parts that are in memory together; an empty one if there are none."""
        size = UNITS_AT_ONCE
        parts = [list(sampled[first : first + size]) for first in range(0, len(sampled), size)]
        return parts or [[]]

    def of(self, chunk: Sequence[int], step: int) -> tuple[Tensor, list[Tensor], int]:
        """Return losses [units], gradients [units, *shape] of each, and how many frames."""
        found = [self._of_unit(unit, step) for unit in chunk]
        losses = torch.stack([loss for loss, _, _ in found])
        by_parameter = zip(*(gradients for _, gradients, _ in found), strict=True)
        return losses, [torch.stack(part) for part in by_parameter], sum(n for _, _, n in found)

    def _of_unit(self, unit: int, step: int) -> tuple[Tensor, tuple[Tensor, ...], int]:
        name = self._units.names[unit]
        tracks = draw_tracks(self._made(unit), TRACKS, self._coins.generator(step, name))
        device = self._inside[0].device
        templates = self._track(
            tracks.embeddings.to(device), tracks.qualities.to(device), tracks.present.to(device)
        )  # [TRACKS, D]
        loss = self._head.loss(templates[:, None], name)  # a track as a photograph of one view
        gradients = torch.autograd.grad(loss, self._inside)
        return loss.detach(), gradients, int(tracks.present.sum())

    def _made(self, unit: int) -> Frames:
        """Return a unit's frames of this round: of at most k photographs, by its own coins."""
        if unit not in self._frames:
            generator = self._coins.generator(_MAKING, self._units.names[unit])
            rows = self._units.rows[unit]
            order = torch.randperm(len(rows), generator=generator).numpy()
            chosen = rows[order[: self._config.privacy.images_per_unit]]
            self._frames[unit] = make_frames(
                self._network, self._units.canvases, chosen, self._config, generator
            )
        return self._frames[unit]
