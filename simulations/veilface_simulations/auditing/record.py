"""What an audit found: `audit.json`, schema 1, described in `docs/auditing.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilface_common import typed_json
from veilface_common.budget.events import Unit
from veilface_common.config import ModelName, PrivateHeadName, PrivateMethod, TrainedPart
from veilface_common.errors import ArtifactError
from veilface_common.files import PUBLIC, write_atomically
from veilface_simulations.auditing.bound import Measured
from veilface_simulations.auditing.membership import Membership

SCHEMA = 1
FILE_NAME = "audit.json"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One test and how it ended."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """What the ledger of the audited steps says of them."""

    epsilon: float
    delta: float
    unit: Unit


@dataclass(frozen=True, kw_only=True)
class Audited:
    """Which plan was audited, and how much of it."""

    method: PrivateMethod
    head: PrivateHeadName
    trained: TrainedPart
    model: ModelName
    sample_rate: float
    noise_multiplier: float
    max_gradient_norm: float
    steps: int  # audited, each released by itself
    planned_steps: int  # of the whole plan
    run_epsilon: float | None = None  # claimed of all that the run released; None: of no run
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was claimed, what was measured, and how every test ended."""

    audited: Audited
    claimed: Claimed
    measured: Measured
    membership: Membership
    contribution: float  # of a canary to a round, in the median: 1 is all that clipping allows
    checks: tuple[Check, ...]
    broken: str | None = None  # the fault that was planted

    @property
    def passed(self) -> bool:
        """Whether nothing contradicts the claim."""
        below = self.measured.epsilon < self.claimed.epsilon
        return below and all(check.passed for check in self.checks)

    @property
    def could_refute(self) -> bool:
        """Whether so many canaries could have refuted the claim, had nothing been hidden."""
        return self.measured.resolving_power > self.claimed.epsilon


def to_json(record: Record) -> dict[str, Any]:
    """Return what stands in `audit.json`, and what `--json` prints."""
    verdict = "pass" if record.passed else "fail"
    return {"schema": SCHEMA, **typed_json.to_json(record), "verdict": verdict}


def save_record(record: Record, folder: Path) -> None:
    """Write the record into `folder`, in the place of an older one: whole, or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(to_json(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / FILE_NAME, text.encode(), mode=PUBLIC)


def load_record(folder: Path) -> Record | None:
    """Return the record in `folder`; None where there was no audit.

    Raises:
        ArtifactError: it is damaged or of another schema.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"expected an audit in {path}, got: {error}", hint="remove it and audit again"
        ) from error
    if not isinstance(value, Mapping) or value.get("schema") != SCHEMA:
        raise ArtifactError(
            f"expected an audit of schema {SCHEMA} in {path}", hint="remove it and audit again"
        )
    return typed_json.from_json(Record, value, FILE_NAME)
