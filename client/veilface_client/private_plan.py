"""What a round of private training is to do and to keep secret; every way of it begins here.

Opacus, which counts and clips gradients, takes seconds to import: only `private` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from veilface_client.noise import Noise
from veilface_client.units import Coins, Units
from veilface_common.budget.events import Event, Mechanism, Unit
from veilface_common.budget.ledger import Registration
from veilface_common.config import PrivacyConfig, TrainedPart
from veilface_common.errors import BudgetError, ConfigError
from veilface_common.models import track_of

ROUNDING = 1e-4  # by which clipping is tighter than C: fp32 norms were seen to be off by 1e-5


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """Sampling, clipping and noise of a round's steps, and the event that accounts for them.

    They are one value, so that what is done and what is charged cannot drift apart.
    """

    unit: Unit
    sample_rate: float
    noise_multiplier: float
    max_gradient_norm: float
    steps: int
    units_declared: int  # by the organisation; what is divided by, never a count

    def __post_init__(self) -> None:
        if self.units_declared < 1:
            raise BudgetError(f"expected units_declared of at least 1, got {self.units_declared}")
        if not self.max_gradient_norm > 0:
            raise BudgetError(f"expected a positive norm, got {self.max_gradient_norm}")
        _ = self.event  # its own checks

    @property
    def event(self) -> Event:
        """What the ledger charges."""
        mechanism = Mechanism(sample_rate=self.sample_rate, noise_multiplier=self.noise_multiplier)
        return Event(unit=self.unit, mechanism=mechanism, steps=self.steps)

    @property
    def expected_units(self) -> float:
        """How many units a step is declared to take, q N."""
        return self.sample_rate * self.units_declared


def plan_of(config: PrivacyConfig, registration: Registration) -> PrivacyPlan:
    """Return the plan of a round as `config` asks for it, over what the organisation declared.

    Raises:
        BudgetError: it asks for no private training, or a value is out of range.
    """
    if config.unit == "none":
        raise BudgetError("expected a privacy unit, got none")
    return PrivacyPlan(
        unit=config.unit,
        sample_rate=config.sample_rate,
        noise_multiplier=config.noise_multiplier,
        max_gradient_norm=config.max_gradient_norm,
        steps=config.steps,
        units_declared=registration.units_declared(config.unit),
    )


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What the guarantee rests on: nobody else knows the coins or the noise."""

    coins: Coins
    noise: Noise


@dataclass(kw_only=True)
class PrivateSummary:
    """What a round's private training did. It stays at the organisation: nothing here is noised."""

    steps: int = 0
    taken: int = 0  # units, each time that one was taken counted
    images: int = 0  # looked at, repeats counted
    dropped: int = 0  # units whose gradient was not finite
    clipped: int = 0  # units whose gradient was longer than C
    loss: float = 0.0  # summed over `taken`

    @property
    def mean_loss(self) -> float:
        """The mean loss of a unit that was taken; 0 where none was."""
        return self.loss / max(1, self.taken - self.dropped)


def sample(units: Units, plan: PrivacyPlan, coins: Coins, step: int) -> list[int]:
    """Return whom a step takes: each unit by its own coin."""
    rate = plan.sample_rate
    return [unit for unit, name in enumerate(units.names) if coins.takes(step, name, rate)]


def freeze_but(network: nn.Module, part: TrainedPart) -> list[nn.Parameter]:
    """Freeze the network but for a part of it, and return that part.

    Raises:
        ConfigError: there is nothing of the kind.
    """
    kinds = {"all": nn.Module, "scales": nn.GroupNorm, "projection": nn.Linear, "track": nn.Module}
    track = track_of(network)
    beside = set() if track is None else set(track.modules())
    within = beside if part == "track" else set(network.modules()) - beside
    modules = [m for m in network.modules() if m in within and isinstance(m, kinds[part])]
    network.requires_grad_(requires_grad=False)
    for module in modules[-1:] if part == "projection" else modules:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = True
    trained = list(trained_of(network.parameters()))
    if not trained:
        raise ConfigError(
            f"expected a network with {part} to train, got one without",
            hint="privacy.trained=all trains any network",
        )
    return trained


def trained_of(parameters: Iterable[nn.Parameter]) -> Iterator[nn.Parameter]:
    """Return those of the parameters that are trained."""
    return (parameter for parameter in parameters if parameter.requires_grad)
