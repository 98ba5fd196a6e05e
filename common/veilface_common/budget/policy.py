"""The organisation's own word on what may be spent: a TOML file, recorded in its ledger.

unit = "identity"            # whom epsilon speaks of: a person, or a single image
epsilon = 8.0                # never more than this, over all runs, at
delta = 1e-5
min_noise_multiplier = 0.5   # the least noise of a step, and of a release of figures
max_sample_rate = 0.5        # the largest share of units in a step of training
max_steps_per_round = 1000   # of training

A table `[requests]` in the same file says whose requests are taken at all; it is no budget.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from veilface_common import typed_json
from veilface_common.budget.events import UNITS, Event, Unit
from veilface_common.errors import ArtifactError, BudgetError, BudgetExceeded, ConfigError

MAX_EPSILON = 1000.0
MAX_DELTA = 0.1


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What may be spent; see above."""

    unit: Unit = "identity"
    epsilon: float = 8.0
    delta: float = 1e-5
    min_noise_multiplier: float = 0.5
    max_sample_rate: float = 0.5
    max_steps_per_round: int = 1000

    def __post_init__(self) -> None:
        _verify("unit", self.unit, "one of " + ", ".join(UNITS), self.unit in UNITS)
        _verify("epsilon", self.epsilon, "in (0, 1000]", 0 < self.epsilon <= MAX_EPSILON)
        _verify("delta", self.delta, "in (0, 0.1]", 0 < self.delta <= MAX_DELTA)
        least = self.min_noise_multiplier
        _verify("min_noise_multiplier", least, "in [0.1, 1000]", 0.1 <= least <= 1000)
        _verify("max_sample_rate", self.max_sample_rate, "in (0, 1]", 0 < self.max_sample_rate <= 1)
        most = self.max_steps_per_round
        _verify("max_steps_per_round", most, "in [1, 1000000]", 1 <= most <= 1_000_000)

    def is_looser_than(self, other: Policy) -> bool:
        """Return whether anything is allowed that `other` does not allow."""
        return (
            self.epsilon > other.epsilon
            or self.delta > other.delta
            or self.min_noise_multiplier < other.min_noise_multiplier
            or self.max_sample_rate > other.max_sample_rate
            or self.max_steps_per_round > other.max_steps_per_round
        )

    def verify_allows(self, event: Event) -> None:
        """Do nothing if one event of training, whatever was spent, keeps to the policy.

        Raises:
            BudgetExceeded: it does not.
        """
        self.verify_allows_release(event)
        rate, most = event.mechanism.sample_rate, self.max_sample_rate
        _allow("sample_rate", rate, f"at most {most:g}", rate <= most)
        steps = self.max_steps_per_round
        _allow("steps", event.steps, f"at most {steps}", event.steps <= steps)

    def verify_allows_release(self, event: Event) -> None:
        """Do nothing if a release of figures, whatever was spent, keeps to the policy.

        It takes everybody, once: what limits the steps of training does not speak of it.

        Raises:
            BudgetExceeded: it does not.
        """
        _allow("unit", event.unit, self.unit, event.unit == self.unit)
        noise, least = event.mechanism.noise_multiplier, self.min_noise_multiplier
        _allow("noise_multiplier", noise, f"at least {least:g}", noise >= least)


def load_policy(path: Path) -> Policy:
    """Return the policy in a TOML file.

    Raises:
        ConfigError: it cannot be read, or a key or value is not one of the above.
    """
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
        body.pop("requests", None)  # whose requests are taken, see `veilface_client.rules`
        return policy_from_body(body)
    except (OSError, ValueError, BudgetError) as error:
        raise ConfigError(f"expected a privacy policy in {path}: {error}") from error


def policy_to_body(policy: Policy) -> dict[str, object]:
    """Return the policy as a ledger holds it."""
    return asdict(policy)


def policy_from_body(body: Mapping[str, object]) -> Policy:
    """Return the policy that `policy_to_body` wrote.

    Raises:
        BudgetError: a key is unknown, or a value is of another type or out of range.
    """
    unknown = sorted(set(body) - set(asdict(Policy())))
    if unknown:
        raise BudgetError(f"expected keys of a policy, got {unknown[0]!r}")
    try:
        return typed_json.from_json(Policy, body, "the policy")
    except ArtifactError as error:
        raise BudgetError(str(error)) from None


def _verify(name: str, got: object, expected: str, holds: bool) -> None:  # noqa: FBT001 -- reads as an assertion
    if not holds:
        raise BudgetError(f"expected {name} {expected}, got {got!r}")


def _allow(name: str, got: object, expected: str, holds: bool) -> None:  # noqa: FBT001 -- the same
    if not holds:
        raise BudgetExceeded(f"the policy allows {name} {expected}, asked for {got!r}")
