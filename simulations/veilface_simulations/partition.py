"""Who holds whom: people split over organisations, and people nobody trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilface_common.errors import ConfigError

_HELD_OUT_STREAM, _PARTITION_STREAM = 1, 2


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The people (rows of persons) that each organisation holds, by its name."""

    organisations: dict[str, tuple[int, ...]]


def organisation_names(count: int) -> list[str]:
    """Return names that sort in their own order: org-1 ... org-9, or org-01 ... org-10."""
    width = len(str(count))
    return [f"org-{number:0{width}d}" for number in range(1, count + 1)]


def hold_out(
    has_pair: npt.NDArray[np.bool_], share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Return (people to train on, people to evaluate on), disjoint, chosen by the seed.

    People with a second photograph (`has_pair`) and people without are drawn at the same share, so
    that there is something to evaluate on.

    Raises:
        ConfigError: the share is not in (0, 1).
    """
    if not 0 < share < 1:
        raise ConfigError(f"expected held-out in (0, 1), got {share:g}")
    generator = np.random.default_rng((seed, _HELD_OUT_STREAM))
    held: list[int] = []
    for group in (np.flatnonzero(has_pair), np.flatnonzero(~has_pair)):
        count = round(share * len(group))
        held += generator.permutation(group)[:count].tolist()
    chosen = set(held)
    return [p for p in range(len(has_pair)) if p not in chosen], sorted(chosen)


def split(
    people: Sequence[int], organisations: int, seed: int, *, skew: float = 0.0, shared: float = 0.0
) -> Partition:
    """Split people over organisations by the seed.

    Sizes are equal for `skew` 0, else proportional to rank ** -skew (a power law). A share `shared`
    of each organisation's people stands at the next organisation too.

    Raises:
        ConfigError: a number is out of range, or an organisation would have under two people.
    """
    _verify(len(people), organisations, skew, shared)
    generator = np.random.default_rng((seed, _PARTITION_STREAM))
    order = generator.permutation(np.asarray(people, np.int64))
    sizes = _sizes(len(people), organisations, skew)
    parts = [part.tolist() for part in np.split(order, np.cumsum(sizes)[:-1])]
    lent = [part[: round(shared * len(part))] for part in parts]
    return Partition(
        organisations={
            name: tuple(sorted({*parts[i], *lent[i - 1]} if organisations > 1 else parts[i]))
            for i, name in enumerate(organisation_names(organisations))
        }
    )


def _sizes(people: int, organisations: int, skew: float) -> list[int]:
    """Return whole sizes that add up: two each, the rest by largest remainder."""
    rank = np.arange(1, organisations + 1, dtype=np.float64)
    ideal = rank**-skew / (rank**-skew).sum() * (people - 2 * organisations)
    sizes = np.floor(ideal).astype(np.int64)
    rest = people - 2 * organisations - int(sizes.sum())
    sizes[np.argsort(sizes - ideal, kind="stable")[:rest]] += 1
    return [int(size) + 2 for size in sizes]


def _verify(people: int, organisations: int, skew: float, shared: float) -> None:
    if organisations < 1:
        raise ConfigError(f"expected at least 1 organisation, got {organisations}")
    if people < 2 * organisations:
        raise ConfigError(
            f"expected at least 2 people for each of {organisations} organisations, "
            f"got {people} to train on",
            hint="fewer organisations, a smaller held-out share, or more people",
        )
    if not 0 <= skew <= 5:
        raise ConfigError(f"expected skew in [0, 5], got {skew:g}")
    if not 0 <= shared <= 1:
        raise ConfigError(f"expected shared in [0, 1], got {shared:g}")
