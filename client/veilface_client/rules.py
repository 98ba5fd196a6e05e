"""Whose requests an organisation takes, for what, and when: `[requests]` in its `policy.toml`.

[requests]
coordinators = ["0123456789abcdef"]  # fingerprints of keys it knows; left out: all that it knows
models = ["tiny/128"]                # networks, NAME/DIMENSION; left out: any
hours = "20:00-06:00"                # local time in which training may begin; left out: always
min_participants = 3                 # organisations that a round must name
max_model_megabytes = 256            # of the model that comes with a request

The keys above that table are the budget, which the ledger records (`common.budget.policy`).
The coordinator's word for who takes part is signed, so that a false one can be shown to others.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import time
from pathlib import Path

from veilface_common import typed_json
from veilface_common.crypto.signing import VerifyKey
from veilface_common.errors import ArtifactError, ConfigError, RequestRefused
from veilface_common.files import write_atomically
from veilface_common.protocol import EvaluateRequest, TrainRequest

POLICY = "policy.toml"
_TABLE = "requests"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is taken; see above."""

    coordinators: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    hours: str = ""
    min_participants: int = 1
    max_model_megabytes: int = 256

    def __post_init__(self) -> None:
        if self.hours:
            _hours(self.hours)
        if self.min_participants < 1 or not 1 <= self.max_model_megabytes <= 1024:
            raise ConfigError(
                "expected min_participants from 1 on and max_model_megabytes in [1, 1024]"
            )

    @property
    def max_model_bytes(self) -> int:
        """How large a model may be."""
        return self.max_model_megabytes << 20

    def verify_takes(
        self, request: TrainRequest | EvaluateRequest, coordinator: VerifyKey, now: time
    ) -> None:
        """Do nothing if the request keeps to the rules; nothing of it was looked at but its words.

        Raises:
            RequestRefused: it does not.
        """
        if self.coordinators and coordinator.fingerprint not in self.coordinators:
            raise RequestRefused(
                f"the policy takes requests of other coordinators than {coordinator.fingerprint}"
            )
        network = f"{request.config.model.name}/{request.config.model.dimension}"
        if self.models and network not in self.models:
            raise RequestRefused(
                f"the policy allows models {', '.join(self.models)}, got {network}"
            )
        if len(request.model) > self.max_model_bytes:
            raise RequestRefused(f"the policy allows models of {self.max_model_megabytes} MiB")
        if len(request.participants) < self.min_participants:
            raise RequestRefused(
                f"the policy wants {self.min_participants} organisations in a round, "
                f"got {len(request.participants)}"
            )
        if self.hours and not _is_within(now, *_hours(self.hours)):
            raise RequestRefused(f"the policy allows training at {self.hours}, not at {now:%H:%M}")


def load_rules(folder: Path) -> Rules:
    """Return the rules in the organisation's folder; without a policy file, those left out.

    Raises:
        ConfigError: the file cannot be read, or a key or value is not one of the above.
    """
    path = folder / POLICY
    if not path.exists():
        return Rules()
    return parse_rules(path)


def keep_policy(folder: Path, policy: Path) -> None:
    """Take the rules of a policy file into the organisation's folder.

    Raises:
        ConfigError: they cannot be used.
    """
    parse_rules(policy)
    write_atomically(folder / POLICY, policy.read_bytes())


def parse_rules(path: Path) -> Rules:
    """Return the rules in a policy file. Raises ConfigError when they cannot be used."""
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8")).get(_TABLE, {})
    except (OSError, ValueError) as error:
        raise ConfigError(f"expected a policy in {path}: {error}") from error
    if not isinstance(body, dict):
        raise ConfigError(f"expected a table [{_TABLE}] in {path}, got something else")
    known = set(Rules.__dataclass_fields__)
    unknown = sorted(set(body) - known)
    if unknown:
        raise ConfigError(
            f"unknown rule {unknown[0]!r} in {path}", hint="known: " + ", ".join(sorted(known))
        )
    try:
        return typed_json.from_json(Rules, body, f"[{_TABLE}] in {path}")
    except ArtifactError as error:
        raise ConfigError(str(error)) from None


def _hours(text: str) -> tuple[time, time]:
    first, _, last = text.partition("-")
    try:
        begins, ends = time.fromisoformat(first.strip()), time.fromisoformat(last.strip())
    except ValueError:
        begins = ends = time.min
    if begins == ends or begins.tzinfo or ends.tzinfo:
        raise ConfigError(f"expected hours as 20:00-06:00, local time, got {text!r}")
    return begins, ends


def _is_within(now: time, first: time, last: time) -> bool:
    """Say whether `now` is in the hours, which may go past midnight."""
    if first <= last:
        return first <= now < last
    return now >= first or now < last
