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
from torch import Generator, Tensor, nn
from torch.nn import functional

from veilface_client.noise import Noise, Origin, SeededNoise
from veilface_client.private import NoisyOptimizer
from veilface_client.private_heads import UnitHead
from veilface_client.units import Coins

_SCALE = 16.0  # of cosines in a softmax


class Silent:
    """No noise at all: by it an audit reads the clean sum, too."""

    origin: Origin = "seeded"

    def standard(self, count: int) -> NDArray[np.float64]:
        """Return zeros."""
        return np.zeros(count)


class NaiveNoise:
    """One normal of Box and Muller for each number: floating point leaves gaps in it.

    Numbers i and count/2 + i share a radius and an angle, from which both uniforms are solved.
    """

    origin: Origin = "seeded"

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def standard(self, count: int) -> NDArray[np.float64]:
        """Return `count` numbers of mean 0 and variance 1."""
        words = self._random.integers(1, 1 << 53, (2, -(-count // 2)), endpoint=True)
        return np.concatenate(box_muller(words[0] * 2.0**-53, words[1] * 2.0**-53))[:count]


def box_muller(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two normals of two uniforms in (0, 1] (Box and Muller 1958)."""
    radius, angle = np.sqrt(-2.0 * np.log(first)), 2.0 * np.pi * second
    return radius * np.cos(angle), radius * np.sin(angle)


class Everybody(Coins):
    """Takes every unit in every step, whatever rate is charged; augments as the coins say."""

    def __init__(self, inside: Coins) -> None:
        self._inside = inside

    def takes(self, step: int, unit: bytes, rate: float) -> bool:  # noqa: ARG002 -- that is the fault
        """Return true."""
        return True

    def generator(self, step: int, unit: bytes) -> Generator:
        """Return what the coins inside do."""
        return self._inside.generator(step, unit)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is done differently; by default nothing is."""

    says: str
    noise: Callable[[Noise, int], Noise] = field(default=lambda noise, _: noise)  # of a round
    coins: Callable[[Coins], Coins] = field(default=lambda coins: coins)
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
        "noise-naive": Fault(
            says="noise has the gaps of floating point",
            noise=lambda _, step: NaiveNoise(step),
        ),
        "everybody-taken": Fault(
            says="every step takes everybody, and is charged as if it drew some",
            coins=Everybody,
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
