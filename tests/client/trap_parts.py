"""A trap: weights of `tiny` that make a gradient copy pieces of the image that it comes from.

The first convolution hands on each of 27 colours of a place as it is (no later unit mixes them);
the second is alive only where a filter answers most, so that a filter's gradient is the one patch
of 7 x 7 pixels there; all that follows passes through. A convolution's gradient grows as its
weights shrink, since they are standardised: the second one's are tiny, so that clipping leaves it
nearly all of the length that a person's gradient may have.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from veilface_common import models
from veilface_common.config import ModelConfig
from veilface_common.models.cnn import ResidualNetwork

COPIED = "stages.1.conv.weight"
_OPEN, _DEAD, _RARELY = 8.0, -1e3, -2.0  # biases behind a normalisation to deviation 1


def trap(config: ModelConfig) -> ResidualNetwork:
    """Return the network with those weights."""
    network = models.build(config, seed=1)
    assert isinstance(network, ResidualNetwork)
    with torch.no_grad():
        first, second, third, fourth = network.stages
        first.conv.weight.zero_()
        for unit in range(32):
            colour, row, column = _tap(unit % 27)
            first.conv.weight[unit, colour, row, column] = 1.0 if unit < 27 else -1.0
        for stage, bias in ((first, _OPEN), (second, _RARELY), (third, _OPEN), (fourth, _OPEN)):
            stage.norm.bias.fill_(bias)
            for residual in stage.residuals:
                residual.norm.bias.fill_(_DEAD)
        second.conv.weight.mul_(1e-3)
        network.project.weight.mul_(1e3)
    return network


def likenesses(copied: Tensor, image: Tensor, network: ResidualNetwork) -> NDArray[np.float64]:
    """Return how like the pixels of its place is what each filter's gradient holds: [64].

    Each is the correlation's absolute value, of 147 numbers: 1 for a copy, and 0.06 in the mean for
    numbers that have nothing to do with the image.

    Args:
        copied: what was seen of the second convolution's gradient, [64, 32, 3, 3].
        image: [1, 3, 64, 64] in [0, 1].
        network: the trap.
    """
    first, second = network.stages[0], network.stages[1]
    with torch.no_grad():
        colours = functional.relu(first.norm(first.conv((image - 0.5) * 4)))
        answers = second.norm(second.conv(colours))[0].flatten(1)  # [64, 16 * 16]
    around = functional.pad(image[0], (4, 4, 4, 4))
    found = []
    for filter_, place in enumerate(answers.argmax(1).tolist()):
        top, left = 4 * (place // 16) + 1, 4 * (place % 16) + 1
        pixels = around[:, top : top + 7, left : left + 7]
        patch = _patch(copied[filter_])
        found.append(abs(np.corrcoef(patch.flatten().numpy(), pixels.flatten().numpy())[0, 1]))
    return np.nan_to_num(np.array(found))


def _patch(weights: Tensor) -> Tensor:
    """Put 27 colours at 3 x 3 places back where they are from: [32, 3, 3] -> [3, 7, 7]."""
    total, times = torch.zeros(3, 7, 7), torch.zeros(3, 7, 7)
    for unit in range(27):
        colour, row, column = _tap(unit)
        total[colour, row : row + 5 : 2, column : column + 5 : 2] += weights[unit]
        times[colour, row : row + 5 : 2, column : column + 5 : 2] += 1
    return total / times


def _tap(unit: int) -> tuple[int, int, int]:
    return unit // 9, unit % 9 // 3, unit % 3
