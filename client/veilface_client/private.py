"""The private step: what of an organisation's training may leave, and what that costs.

A step takes each unit (a person, or one photograph) with probability q, by a coin that nobody else
can know; one gradient per unit, clipped to C; their sum and Gaussian noise of deviation sigma C,
divided by the declared expected number of units q N (Abadi et al. 2016, Algorithm 1, with all that
belongs to a person in the place of an example: McMahan et al. 2018). An empty draw is a step too.

What one unit contributes depends on that unit, the weights, public faces and secret coins alone:

- coins, choice of photographs and augmentation follow from (secret, step, unit)
- the loss of a unit sees no other unit (`private_heads`); the networks have no batch statistics,
  and what weighs the frames of a track sees one track (`track_gradients`)
- a unit whose gradient is not finite contributes nothing
- clipping, scaling and the count of steps are Opacus's, in fp32; the noise is ours (`noise`)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from opacus.accountants import RDPAccountant
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from veilface_client.noise import Noise
from veilface_client.private_heads import UnitHead
from veilface_client.private_plan import (
    ROUNDING,
    PrivacyPlan,
    PrivateSummary,
    Secrets,
    freeze_but,
    sample,
    trained_of,
)
from veilface_client.track_gradients import TrackGradients
from veilface_client.training import choose_device, make_optimizer
from veilface_client.unit_gradients import PhotographGradients
from veilface_client.units import Coins, Units
from veilface_common.budget.ledger import Reservation
from veilface_common.config import RunConfig, TrainingConfig
from veilface_common.errors import BudgetError, TrainingDiverged
from veilface_common.models import track_of


class PublicSide(Protocol):
    """Faces of people who are nobody's secret, trained on beside the private ones."""

    def gradients(self, inside: Sequence[nn.Parameter]) -> Sequence[Tensor]:
        """Return the gradients of the next public batch, shaped as `inside`; zeros where unused."""
        ...


class Gradients(Protocol):
    """Where the gradient of each unit comes from."""

    def chunks(self, sampled: Sequence[int]) -> list[list[int]]:
        """Return the units in parts that are taken at once; an empty one where there are none."""
        ...

    def of(self, chunk: Sequence[int], step: int) -> tuple[Tensor, list[Tensor], int]:
        """Return losses [units], gradients [units, *shape] of each, and how many pictures."""
        ...


def train_private(  # noqa: PLR0913 -- all that a private round depends on, in sight
    network: nn.Module,
    head: UnitHead,
    units: Units,
    config: RunConfig,
    plan: PrivacyPlan,
    reservation: Reservation,
    *,
    secrets: Secrets,
    learning_rate: float,
    public: PublicSide | None = None,
    mechanism: type[NoisyOptimizer] | None = None,
) -> PrivateSummary:
    """Take `plan.steps` private steps on `network` and `head`, in place.

    Args:
        network: [B, 3, S, S] in [0, 1] -> [B, D]; moved to the device and left there.
        head: what judges a unit's embeddings; what it trains is clipped and noised as well.
        units: whose faces the organisation trains on.
        config: what the federation agreed on.
        plan: what the organisation is willing to do, and what that costs.
        reservation: the charge for exactly this plan; it can be spent once.
        secrets: by which units are taken and noise is added.
        learning_rate: of this round.
        public: what is trained beside, at no cost in privacy.
        mechanism: clips and adds noise; only an audit, which plants a fault, gives another one.

    Raises:
        BudgetError: the reservation is for another plan, or was spent before.
        ConfigError: the network has nothing of the kind that is to be trained.
        TrainingDiverged: the weights left the finite numbers.
    """
    reservation.spend(plan.event)
    device = choose_device(config.device)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    inside = [*freeze_but(network, config.privacy.trained), *trained_of(head.parameters())]
    source = _source(network, head, units, config, secrets.coins, inside)
    optimizer = (mechanism or NoisyOptimizer)(
        make_optimizer([{"params": inside}], _training(config), learning_rate), plan, secrets.noise
    )
    accountant = RDPAccountant()
    optimizer.attach_step_hook(accountant.get_optimizer_hook_fn(sample_rate=plan.sample_rate))
    average = [parameter.detach().clone() for parameter in inside]
    summary = PrivateSummary()
    for step in range(plan.steps):
        sampled = sample(units, plan, secrets.coins, step)
        chunks = source.chunks(sampled)
        for number, chunk in enumerate(chunks, 1):
            stacked = [parameter.new_zeros((0, *parameter.shape)) for parameter in inside]
            if chunk:
                losses, stacked, images = source.of(chunk, step)
                summary.images += images
                stacked = _counted(losses, stacked, summary, plan.max_gradient_norm)
            for parameter, gradients in zip(inside, stacked, strict=True):
                parameter.grad_sample = gradients  # type: ignore[attr-defined]
            optimizer.signal_skip_step(do_skip=number < len(chunks))
            if not optimizer.pre_step():  # clipped and summed; noise comes after the last chunk
                optimizer.zero_grad()
        _add_public(inside, public, config.privacy.public_weight)
        optimizer.original_optimizer.step()
        optimizer.zero_grad()
        _follow(average, inside, config.privacy.average)
        summary.steps += 1
    _verify_counted(accountant, plan)
    _follow(inside, average, 0.0)
    if not all(bool(parameter.isfinite().all()) for parameter in inside):
        raise TrainingDiverged(
            f"private training at learning rate {learning_rate:g} left the finite numbers",
            hint="lower training.learning-rate",
        )
    return summary


class NoisyOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus ships no types
    """Opacus's optimiser with our noise: added in float64, before anything is rounded."""

    def __init__(self, optimizer: torch.optim.Optimizer, plan: PrivacyPlan, noise: Noise) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.max_gradient_norm * (1 - ROUNDING),
            expected_batch_size=plan.expected_units,
        )
        self._deviation = plan.noise_multiplier * plan.max_gradient_norm
        self._noise = noise

    def add_noise(self) -> None:
        """Put sum and noise into each parameter's gradient."""
        for parameter in self.params:
            drawn = torch.from_numpy(self._noise.standard(parameter.numel())) * self._deviation
            summed = parameter.summed_grad.to("cpu", torch.float64)
            parameter.grad = (summed + drawn.view_as(summed)).to(parameter)
            parameter.summed_grad = None  # it can be released once


def _source(
    network: nn.Module,
    head: UnitHead,
    units: Units,
    config: RunConfig,
    coins: Coins,
    inside: Sequence[nn.Parameter],
) -> Gradients:
    track = track_of(network) if config.privacy.trained == "track" else None
    if track is not None:
        return TrackGradients(network, track, head, units, config, coins, inside)
    return PhotographGradients(network, head, units, config, coins, inside)


def _training(config: RunConfig) -> TrainingConfig:
    """Return how the noised sum is applied: nothing of ordinary training but its form."""
    private = config.privacy
    return TrainingConfig(optimizer=private.optimizer, momentum=private.momentum, weight_decay=0.0)


def _counted(
    losses: Tensor, gradients: list[Tensor], summary: PrivateSummary, limit: float
) -> list[Tensor]:
    """Return the gradients of the units that have finite ones, and take note of all."""
    norms = [torch.linalg.vector_norm(part.flatten(1), dim=1) for part in gradients]
    norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # [units]
    finite = norm.isfinite()
    kept = int(finite.sum())
    summary.taken += len(norm)
    summary.dropped += len(norm) - kept
    summary.clipped += int((norm[finite] > limit).sum())
    summary.loss += float(losses[finite].sum())
    if kept < len(norm):  # one photograph must not make every weight NaN
        return [part[finite] for part in gradients]
    return gradients


def _add_public(inside: Sequence[nn.Parameter], public: PublicSide | None, weight: float) -> None:
    if public is None or not weight:
        return
    for parameter, gradient in zip(inside, public.gradients(inside), strict=True):
        assert parameter.grad is not None
        parameter.grad.add_(gradient, alpha=weight)


@torch.no_grad()
def _follow(behind: Sequence[Tensor], ahead: Sequence[Tensor], decay: float) -> None:
    """Move each of `behind` to decay * itself + (1 - decay) * its companion ahead."""
    for old, new in zip(behind, ahead, strict=True):
        old.lerp_(new, 1.0 - decay)


def _verify_counted(accountant: RDPAccountant, plan: PrivacyPlan) -> None:
    """Compare what was charged with what Opacus saw happen.

    Raises:
        BudgetError: they differ; nothing may then leave.
    """
    expected = [(plan.noise_multiplier, plan.sample_rate, plan.steps)]
    if accountant.history != expected:
        raise BudgetError(f"expected steps as charged, {expected}, got {accountant.history}")
