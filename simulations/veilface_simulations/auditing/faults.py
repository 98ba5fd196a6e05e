"""Faults that products have had, planted in the private step: an audit must catch every one.

They are planted from outside, by what the step is given; nothing in it can be switched off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from veilface_client.noise import Noise, Origin, SeededNoise
from veilface_client.private import NoisyOptimizer
from veilface_client.private_heads import UnitHead

_SCALE = 16.0  # of cosines in a softmax


class Silent:
    """No noise at all: by it an audit reads the clean sum, too."""

    origin: Origin = "seeded"

    def standard(self, count: int) -> NDArray[np.float64]:
        """Return zeros."""
        return np.zeros(count)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is done differently; by default nothing is."""

    says: str
    noise: Callable[[Noise, int], Noise] = field(default=lambda noise, _: noise)  # of a round
    head: Callable[[UnitHead], UnitHead] = field(default=lambda head: head)
    mechanism: type[NoisyOptimizer] = NoisyOptimizer


class MeanClippingOptimizer(NoisyOptimizer):
    """Sums first and clips the mean to C, as a loop does that clips the gradient of a batch.

    One unit then moves the sum of n others by about C sqrt(n), and the noise is made for C.
    """

    def clip_and_accumulate(self) -> None:
        """Add up what the units give as it is."""
        self._units = getattr(self, "_units", 0) + len(self.grad_samples[0])
        for parameter in self.params:
            summed = parameter.grad_sample.sum(0)
            before = parameter.summed_grad
            parameter.summed_grad = summed if before is None else before + summed

    def add_noise(self) -> None:
        """Clip the sum to C for each unit, and add the noise."""
        squares = sum(float(parameter.summed_grad.square().sum()) for parameter in self.params)
        factor = min(1.0, self._units * self.max_grad_norm / (math.sqrt(squares) + 1e-6))
        for parameter in self.params:
            parameter.summed_grad *= factor
        super().add_noise()


class OutsideHead(nn.Module):
    """Adds a softmax against a row of everybody seen, moved without clipping or noise.

    It is the head of ordinary training: through its rows one person moves everybody's gradient.
    """

    def __init__(self, inside: UnitHead) -> None:
        super().__init__()
        self.inside = inside
        self._rows: dict[bytes, Tensor] = {}

    def loss(self, embeddings: Tensor, unit: bytes) -> Tensor:
        """[photographs, views, D] -> []."""
        flat = embeddings.float().flatten(0, 1)
        self._rows[unit] = functional.normalize(flat.detach().sum(0), dim=0)
        names = list(self._rows)
        cosines = flat @ torch.stack([self._rows[name] for name in names]).T  # [P * V, people]
        target = torch.full((len(flat),), names.index(unit), device=flat.device)
        outside = functional.cross_entropy(_SCALE * cosines, target)
        return self.inside.loss(embeddings, unit) + _SCALE * outside

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:  # noqa: FBT001, FBT002 -- nn.Module's signature
        """Return what is trained inside the mechanism: the rows are not."""
        return self.inside.parameters(recurse)


SHIPPED = Fault(says="the private step as it ships")
FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "noise-off": Fault(says="no noise is added", noise=lambda _, __: Silent()),
        "noise-once": Fault(
            says="noise is added once for two steps",
            noise=lambda noise, step: Silent() if step % 2 else noise,
        ),
        "noise-repeated": Fault(
            says="two steps get the same noise, as after a fork",
            noise=lambda _, step: SeededNoise(step // 2),
        ),
        "clip-after-sum": Fault(
            says="the mean of all units is clipped, not each unit",
            mechanism=MeanClippingOptimizer,
        ),
        "head-outside": Fault(
            says="a head is trained outside the mechanism",
            head=OutsideHead,
        ),
    }
)
