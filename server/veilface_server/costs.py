"""What a run's signed plans come to, organisation by organisation and round by round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from veilface_common.budget.events import Mechanism
from veilface_common.config import PrivacyConfig, from_flat
from veilface_server.checkpoint import RoundRecord
from veilface_server.proven import Proven

POINTS = 24  # both accountants are asked for each
_Steps = tuple[tuple[Mechanism, int], ...]


def epsilon_by_round(
    proven: Proven, delta: float, points: int = POINTS
) -> Mapping[str, Mapping[int, float]]:
    """Return {organisation: {round: epsilon of all its rounds so far}}; nothing without privacy.

    A plan counts once for each entry of a ledger that paid for it, as in a release's manifest: a
    round that a crash repeated may have been paid for twice. The figures of the model, which are
    charged after the last round, count in the last point.

    Args:
        proven: the run's records.
        delta: at which epsilon is told.
        points: of a curve, at most; the last round is one of them.
    """
    if not proven.finished:
        return {}
    private = from_flat(PrivacyConfig, proven.finished[0].plan)
    if private.unit == "none":
        return {}
    chosen = set(_chosen([record.round for record in proven.finished], points))
    epsilon_of = _remembered(delta)
    found: dict[str, dict[int, float]] = {}
    for name in proven.organisations:
        curve = {number: steps for number, steps in _steps(name, proven) if number in chosen}
        if any(curve.values()):
            found[name] = {number: epsilon_of(steps) for number, steps in curve.items() if steps}
    return found


def _steps(name: str, proven: Proven) -> Iterator[tuple[int, _Steps]]:
    """Yield each record's round, and all that the organisation was charged for until then."""
    charged: dict[Mechanism, int] = {}
    entries: set[tuple[int | str, int | str]] = set()
    for record in sorted(proven.written, key=lambda record: record.round):
        entry = record.ledger_heads.get(name) if name in record.accepted else None
        if entry is not None and (entry["sequence"], entry["hash"]) not in entries:
            entries.add((entry["sequence"], entry["hash"]))
            _add(charged, record)
        if record.round == proven.finished[-1].round:
            continue  # figures, and what else was paid for in that round, come first
        yield record.round, tuple(sorted(charged.items()))
    if proven.figures is not None and name in proven.figures.accepted:
        _add_figures(charged, proven.finished[-1])
    yield proven.finished[-1].round, tuple(sorted(charged.items()))


def _add(charged: dict[Mechanism, int], record: RoundRecord) -> None:
    private = from_flat(PrivacyConfig, record.plan)
    mechanism = Mechanism(
        sample_rate=private.sample_rate, noise_multiplier=private.noise_multiplier
    )
    charged[mechanism] = charged.get(mechanism, 0) + private.steps


def _add_figures(charged: dict[Mechanism, int], record: RoundRecord) -> None:
    private = from_flat(PrivacyConfig, record.plan)
    mechanism = Mechanism(sample_rate=1.0, noise_multiplier=private.evaluation_noise)
    charged[mechanism] = charged.get(mechanism, 0) + 1


def _remembered(delta: float) -> Callable[[_Steps], float]:
    """Return what computes epsilon once for each sum of steps: most organisations have the same."""
    from veilface_common.budget.accountant import epsilon  # noqa: PLC0415 -- takes seconds

    known: dict[_Steps, float] = {}

    def epsilon_of(steps: _Steps) -> float:
        if steps not in known:
            known[steps] = epsilon(dict(steps), delta).charged
        return known[steps]

    return epsilon_of


def _chosen(rounds: list[int], most: int) -> list[int]:
    """Return all rounds, or where they are too many some, the last among them."""
    if len(rounds) <= most:
        return rounds
    return [rounds[round((index + 1) * len(rounds) / most) - 1] for index in range(most)]
