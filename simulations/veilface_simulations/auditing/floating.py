"""Does floating point tell what lies under the noise? Two attacks that need no statistics of a run.

undone     a noised number y is v + z with z out of finitely many. Where z is one normal of Box
           and Muller's pair, both uniforms can be solved from a guess of v, and a wrong guess
           mostly gives uniforms that the generator cannot draw (Mironov 2012; Holohan and Braghin
           2021, section 4). It is tried on the source of noise, in float64.
low bits   a sum that is rounded before the noise is added leaves its grid in the last bits of a
           small y. It is tried on what the step's optimiser gives.

Either way two values must give the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from veilface_client.noise import Noise, SecureNoise
from veilface_client.private_plan import PrivacyPlan
from veilface_simulations.auditing.faults import Fault, box_muller
from veilface_simulations.auditing.record import Check

NUMBERS = 100_000
_VALUE = 2.0**-10  # under the noise, or minus that: small, so that all else is alike
_FAR_OUT = 2.5  # pairs of a larger radius, where what can be drawn is sparse
_GRID = 2.0**53  # uniforms are multiples of its inverse
_BITS = 0xF  # the last of a float32
_SIGMAS = 5.0


def check_floating_point(fault: Fault) -> Check:
    """Try both attacks on noise and optimiser, as they ship or with the fault."""
    noised = _VALUE + fault.noise(SecureNoise(), 0).standard(2 * NUMBERS)
    solved = [undone(noised, guess) for guess in (_VALUE, -_VALUE)]
    few = _tolerance([share for share, _ in solved], solved[0][1])
    bits = [low_bits(fault, value) for value in (0.0, 1.0)]
    tolerance = _tolerance(bits, NUMBERS)
    return Check(
        name="floating point",
        passed=abs(solved[0][0] - solved[1][0]) < few and abs(bits[0] - bits[1]) < tolerance,
        detail=f"noise solved in {solved[0][0]:.1%} of pairs at the value, {solved[1][0]:.1%} "
        f"at another, expected the same to {few:.1%}; low bits empty in {bits[0]:.2%} and "
        f"{bits[1]:.2%}, expected the same to {tolerance:.2%}",
    )


def undone(noised: NDArray[np.float64], value: float) -> tuple[float, int]:
    """Return the share of pairs that naive noise on `value` can give, and of how many.

    Args:
        noised: [2 n]: numbers i and n + i are taken for a pair.
        value: the guess of what is under the noise.
    """
    pairs = noised.reshape(2, -1)
    first, second = pairs - value
    far = np.hypot(first, second) > _FAR_OUT
    pairs, first, second = pairs[:, far], first[far], second[far]
    radius = np.rint(np.exp(-(first**2 + second**2) / 2) * _GRID)
    angle = np.rint(np.arctan2(second, first) / (2 * np.pi) % 1.0 * _GRID)
    found = np.zeros(radius.shape, bool)
    for off in np.ndindex(5, 9):  # the way back is rounded too
        ones = (radius + off[0] - 2) / _GRID, (angle + off[1] - 4) / _GRID
        drawn = [value + normal for normal in box_muller(*ones)]
        found |= (drawn[0] == pairs[0]) & (drawn[1] == pairs[1])
    return (float(found.mean()) if len(found) else 0.0), max(1, len(found))


def low_bits(fault: Fault, value: float) -> float:
    """Return how often the last bits of a noised sum are all 0; `value` is under each number.

    One unit gives the same in every number, and noise is as small as that: C in all.
    """
    parameter = nn.Parameter(torch.zeros(NUMBERS))
    plan = PrivacyPlan(
        unit="identity",
        sample_rate=1.0,
        noise_multiplier=1 / math.sqrt(NUMBERS),
        max_gradient_norm=math.sqrt(NUMBERS),
        steps=1,
        units_declared=1,
    )
    source: Noise = fault.noise(SecureNoise(), 0)
    optimizer = fault.mechanism(torch.optim.SGD([parameter], lr=1.0), plan, source)
    parameter.grad_sample = torch.full((1, NUMBERS), value)  # type: ignore[attr-defined]
    optimizer.pre_step()
    assert parameter.grad is not None
    words = parameter.grad.numpy().view(np.uint32)
    return float((words & _BITS == 0).mean())


def _tolerance(shares: Sequence[float], numbers: int) -> float:
    """Return how far two shares of so many numbers may lie apart."""
    mean = max(1 / numbers, sum(shares) / len(shares))
    return _SIGMAS * math.sqrt(2 * mean * max(0.0, 1 - mean) / numbers)
