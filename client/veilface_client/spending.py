"""What a ledger's charges come to, kept, so that nobody waits for the accountants twice.

DIR/spent.json    {"schema": 1, "charges": SHA-256 of what epsilon follows from, "epsilon": ...}

The accountants bring PyTorch with them, which takes seconds; whoever only looks should not wait for
that. What is kept is taken for the very charges and the very delta alone that it was computed of,
and for showing alone: whether a request fits, the ledger computes anew.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from veilface_common.budget.entries import canonical
from veilface_common.budget.events import Mechanism
from veilface_common.files import write_atomically

FILE = "spent.json"
SCHEMA = 1


def epsilon_spent(folder: Path, steps: Mapping[Mechanism, int], delta: float) -> float:
    """Return the epsilon of all charges, which is infinite where no accountant gives one.

    Args:
        folder: of the organisation's account.
        steps: how many there were of each mechanism.
        delta: of the policy.
    """
    if not any(steps.values()):
        return 0.0
    charges = _name_of(steps, delta)
    kept = _kept(folder / FILE, charges)
    if kept is not None:
        return kept
    from veilface_common.budget.accountant import epsilon  # noqa: PLC0415 -- see above

    found = epsilon(steps, delta).charged
    if math.isfinite(found):
        body = {"schema": SCHEMA, "charges": charges, "epsilon": found}
        with suppress(OSError):  # a disk that is full, or a folder that we may only read
            write_atomically(folder / FILE, (json.dumps(body) + "\n").encode())
    return found


def _kept(path: Path, charges: str) -> float | None:
    try:
        body = json.loads(path.read_bytes())
        if body["schema"] == SCHEMA and body["charges"] == charges:
            return float(body["epsilon"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # then it is computed again
    return None


def _name_of(steps: Mapping[Mechanism, int], delta: float) -> str:
    told = sorted(
        [mechanism.sample_rate, mechanism.noise_multiplier, count]
        for mechanism, count in steps.items()
    )
    return hashlib.sha256(canonical([delta, told]).encode()).hexdigest()
