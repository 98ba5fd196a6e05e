"""Who was trained on, told from the first and the last model alone.

A photograph that was trained on is easier afterwards (Yeom et al. 2018); how hard it was before is
subtracted. It is a weaker attack than `canaries`, but one that whoever gets the models can make.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Membership:
    """How well a threshold on the fall of the loss tells members from others."""

    auc: float  # 0.5: not at all
    tpr_at_fpr_1e_2: float  # members found where 1 in 100 others is taken for one
    tpr_at_fpr_1e_1: float
    allowed_at_fpr_1e_2: float  # the most that the claim allows: e^epsilon FPR + delta
    allowed_at_fpr_1e_1: float


def attack(
    drops: NDArray[np.float64], included: NDArray[np.bool_], *, epsilon: float, delta: float
) -> Membership:
    """Return how well falls of the loss, [canaries], tell the canaries that were trained on."""
    members, others = drops[included], drops[~included]
    return Membership(
        auc=_area(members, others),
        tpr_at_fpr_1e_2=_found(members, others, 0.01),
        tpr_at_fpr_1e_1=_found(members, others, 0.1),
        allowed_at_fpr_1e_2=min(1.0, math.exp(epsilon) * 0.01 + delta),
        allowed_at_fpr_1e_1=min(1.0, math.exp(epsilon) * 0.1 + delta),
    )


def _area(members: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the share of pairs in which the member's loss fell further."""
    below = np.searchsorted(np.sort(others), members)
    return float(below.mean() / len(others))


def _found(members: NDArray[np.float64], others: NDArray[np.float64], rate: float) -> float:
    threshold = np.sort(others)[::-1][math.floor(rate * len(others))]
    return float((members > threshold).mean())
