"""Whitening in private: the projection is turned so that photographs of one person lie together.

A unit gives the scatter of its own photographs' embeddings e_1 ... e_n around their mean,

    s = 1/(n-1) sum_i (e_i - m)(e_i - m)^T,

as the D(D+1)/2 numbers on and above the diagonal, those above it times sqrt(2), so that their
length is the Frobenius norm of s; clipped to C. Their sum and Gaussian noise of deviation sigma C
are the one release; all else is computed from it:

    S = the noised sum, its trace made D;  W = (max(S, 0) + I)^(-strength/2), mean eigenvalue 1

The last linear layer, weights and bias, is multiplied by W. Within-class whitening: Hatch,
Kajarekar and Stolcke 2006, section 2; noised covariances: Dwork et al. 2014 ("Analyze Gauss"),
section 3.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from veilface_client.private_plan import PrivacyPlan, PrivateSummary, Secrets, freeze_but, sample
from veilface_client.training import Chosen, choose_device, embed, embed_inputs
from veilface_client.units import Units, Views
from veilface_common.budget.ledger import Reservation
from veilface_common.config import RunConfig
from veilface_common.errors import BudgetError, TrainingDiverged

FloatArray = NDArray[np.float64]
RIDGE = 1.0  # added to every eigenvalue, whose mean is 1: noise has some of each


def whiten_private(
    network: nn.Module,
    units: Units,
    config: RunConfig,
    plan: PrivacyPlan,
    reservation: Reservation,
    *,
    secrets: Secrets,
) -> PrivateSummary:
    """Whiten the last linear layer of `network`, in place, at the price of one step.

    Args:
        network: [B, 3, S, S] in [0, 1] -> [B, D], the direction of its last linear layer's output.
        units: whose faces the organisation has; one with a single photograph gives nothing.
        config: what the federation agreed on.
        plan: what the organisation is willing to do: one step.
        reservation: the charge for exactly this plan; it can be spent once.
        secrets: by which units are taken and noise is added.

    Raises:
        BudgetError: the plan has several steps, or the reservation is for another plan or spent.
        TrainingDiverged: the weights left the finite numbers.
    """
    if plan.steps != 1:
        raise BudgetError(f"expected a plan of one step to whiten by, got {plan.steps}")
    reservation.spend(plan.event)
    summary = PrivateSummary(steps=1)
    released = noised_scatter(network, units, config, plan, secrets, summary)
    _multiply_last(network, whitening(released, config.privacy.whitening))
    return summary


def noised_scatter(
    network: nn.Module,
    units: Units,
    config: RunConfig,
    plan: PrivacyPlan,
    secrets: Secrets,
    summary: PrivateSummary,
) -> FloatArray:
    """Return the one release, [D(D+1)/2]: the units' clipped scatters, summed and noised.

    It is worth what `plan.event` says; `summary` is told what was seen.
    """
    summed = np.zeros(config.model.dimension * (config.model.dimension + 1) // 2)
    for embeddings in _embedded(network, units, config, plan, secrets, summary):
        scatter = clipped_scatter(embeddings, plan.max_gradient_norm)
        if scatter is None:
            summary.dropped += 1
        else:
            summed += scatter
    deviation = plan.noise_multiplier * plan.max_gradient_norm
    return summed + deviation * secrets.noise.standard(len(summed))


def clipped_scatter(embeddings: NDArray[np.float32], limit: float) -> FloatArray | None:
    """Return what one unit gives, of length `limit` at most: [n, D] -> [D(D+1)/2].

    None where it is not finite, which counts as nothing.
    """
    around = embeddings.astype(np.float64)
    around -= around.mean(0)
    scatter = around.T @ around / max(1, len(around) - 1)  # [D, D]
    upper = np.triu_indices(len(scatter))
    numbers = scatter[upper] * np.where(upper[0] == upper[1], 1.0, np.sqrt(2.0))
    length = float(np.linalg.norm(numbers))
    if not np.isfinite(length):
        return None
    found: FloatArray = numbers * (1.0 if length <= limit else limit / length)
    return found


def whitening(numbers: FloatArray, strength: float) -> FloatArray:
    """Return the symmetric matrix W of a noised sum of scatters: [D(D+1)/2] -> [D, D].

    Identity where noise has left no positive trace. `strength`: 1 whitens, 0 does nothing.
    """
    side = int(np.sqrt(2 * len(numbers)))
    upper = np.triu_indices(side)
    half = np.zeros((side, side))
    half[upper] = numbers / np.where(upper[0] == upper[1], 2.0, np.sqrt(2.0))
    scatter = half + half.T
    trace = float(np.trace(scatter))
    if not trace > 0:
        return np.eye(side)
    values, vectors = np.linalg.eigh(scatter * (side / trace))
    values = np.maximum(values, 0.0) + RIDGE
    scales = (values / values.mean()) ** (-strength / 2)
    found: FloatArray = (vectors * (scales / scales.mean())) @ vectors.T
    return found


def _embedded(
    network: nn.Module,
    units: Units,
    config: RunConfig,
    plan: PrivacyPlan,
    secrets: Secrets,
    summary: PrivateSummary,
) -> Iterator[NDArray[np.float32]]:
    """Yield the embeddings of each unit that is taken: at most k photographs, by its own coins.

    With several views of a photograph they are augmented, and all are one unit's: what they add to
    its scatter is clipped with the rest. Each unit by itself: in a batch with others the rounding
    of its embeddings could depend on them.
    """
    device = choose_device(config.device)
    views = Views(units, config, secrets.coins, device)
    for unit in sample(units, plan, secrets.coins, 0):
        if config.privacy.views > 1:
            faces = views.of([unit], 0).faces.flatten(0, 2)  # [photographs * views, 3, S, S]
            found = embed_inputs(network, faces, device=device, precision=config.precision)
        else:
            rows = units.rows[unit]
            generator = secrets.coins.generator(0, units.names[unit])
            order = torch.randperm(len(rows), generator=generator).numpy()
            chosen = rows[order[: config.privacy.images_per_unit]]
            found = embed(
                network,
                Chosen(units.canvases, chosen),
                pixels=config.model.pixels,
                device=config.device,
                precision=config.precision,
            )  # [photographs, D]
        summary.taken += 1
        summary.images += len(found)
        yield found


@torch.no_grad()
def _multiply_last(network: nn.Module, matrix: FloatArray) -> None:
    for parameter in freeze_but(network, "projection"):
        product = torch.from_numpy(matrix) @ parameter.to("cpu", torch.float64)
        if not bool(product.isfinite().all()):
            raise TrainingDiverged("expected finite weights after whitening, got others")
        parameter.copy_(product)
