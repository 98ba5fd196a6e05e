"""Figures that may leave: histograms of scores of people held out, and the noise that hides each.

Who is held out follows from a coin of each person's own, keyed by the account's secret: whoever
comes or goes changes nothing for others. Held-out people are never trained on. Of each, the two
photographs with the lowest keyed hashes are looked at, each embedded by itself.

genuine     a person with two photographs gives one score
impostor    in each of M matchings every person falls, by keyed hash, into one of S slots and on one
            of two sides; in each slot the persons of lowest hash on either side are compared, by
            their first photographs; such a score counts 1/M. S follows from the number of people
            that is declared, never from a count.

Without one person the genuine histogram loses 1 in a bin; a matching loses one pair at most, and at
most one takes its place: over all M by sqrt(2) at most, together by sqrt(1 + 2). Without one
photograph a person's pair may become another one (sqrt(2)), and so may the person's pair in each
matching: together by sqrt(2 + 2). That is `SENSITIVITY`, which the Gaussian noise is scaled by
(Dwork and Roth 2014, section 3.5.3); tests take out each person and each photograph in turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from veilface_client.data import Faces
from veilface_client.noise import Noise
from veilface_client.training import Chosen, embed
from veilface_common.budget.calibration import evaluation_event
from veilface_common.budget.ledger import Reservation
from veilface_common.config import RunConfig
from veilface_common.score_histograms import (
    BINS,
    MATCHINGS,
    ScoreHistograms,
    bins_of,
    deviation_of,
)

FloatArray = NDArray[np.float64]
SLOTS_PER_PERSON = 0.4  # of those declared to be held out: about the most pairs, 0.2 a person
DIGITS = 6  # after the point, of what leaves: low bits of a float could tell of what they hide
_COIN_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class Sitter:
    """What is looked at of one person."""

    name: bytes
    first: FloatArray  # [D], unit length
    second: FloatArray | None  # None: there is one photograph


def held_out(names: Sequence[str], secret: bytes, share: float) -> list[int]:
    """Return who of the people is held out for figures: each by a coin of that person's own."""
    limit = share * 2.0 ** (8 * _COIN_BYTES)
    return [i for i, name in enumerate(names) if _hash(secret, b"held-out", name.encode()) < limit]


def slots_for(people_declared: int, share: float) -> int:
    """Return the number of slots, S."""
    return max(1, round(SLOTS_PER_PERSON * people_declared * share))


def noised_scores(
    network: nn.Module,
    faces: Faces,
    config: RunConfig,
    charge: Reservation,
    *,
    slots: int,
    secret: bytes,
    noise: Noise,
) -> ScoreHistograms:
    """Return histograms that may leave.

    Args:
        network: [B, 3, S, S] in [0, 1] -> [B, D].
        faces: of the people held out alone.
        config: what the federation agreed on.
        charge: for `evaluation_event`; it can be spent once.
        slots: of a matching.
        secret: keys all coins.
        noise: what is added.

    Raises:
        BudgetError: the charge is for something else, or was spent before.
    """
    event = evaluation_event(config.privacy)
    charge.spend(event)
    exact = histograms(sitters(network, faces, config, secret), slots, secret)
    deviation = deviation_of(event.unit, event.mechanism.noise_multiplier)
    noised = exact + deviation * noise.standard(exact.size).reshape(exact.shape)
    genuine, impostor = np.round(noised, DIGITS).tolist()
    return ScoreHistograms(genuine=tuple(genuine), impostor=tuple(impostor))


def sitters(network: nn.Module, faces: Faces, config: RunConfig, secret: bytes) -> list[Sitter]:
    """Return what is looked at of each person, who has at least one photograph."""
    found = []
    for person, name in enumerate(faces.person_names):
        (rows,) = np.nonzero(faces.people == person)
        coins = {
            row: _hash(secret, b"photograph", f"{name}\0{faces.photo_names[row]}".encode())
            for row in rows.tolist()
        }
        # Each by itself: in a batch with others its rounding could depend on them.
        chosen = sorted(coins, key=coins.__getitem__)[:2]
        looked_at = [_embedded(network, faces, row, config) for row in chosen]
        if looked_at:
            second = looked_at[1] if len(looked_at) > 1 else None
            found.append(Sitter(name=name.encode(), first=looked_at[0], second=second))
    return found


def histograms(people: Iterable[Sitter], slots: int, secret: bytes) -> FloatArray:
    """Return the exact histograms, genuine and impostor: [2, BINS]. They never leave."""
    people = list(people)
    found = np.zeros((2, BINS))
    pairs = [(one.first, one.second) for one in people if one.second is not None]
    _count(found[0], pairs, 1.0)
    names = [one.name for one in people]
    for matching in range(MATCHINGS):
        matched = matches(names, matching, slots, secret)
        _count(found[1], [(people[i].first, people[j].first) for i, j in matched], 1 / MATCHINGS)
    return found


def matches(
    names: Sequence[bytes], matching: int, slots: int, secret: bytes
) -> list[tuple[int, int]]:
    """Return who is compared with whom in one matching: in each slot the lowest of either side."""
    lowest: dict[tuple[int, int], tuple[int, bytes, int]] = {}
    for person, name in enumerate(names):
        text = matching.to_bytes(2, "big") + name
        place = _hash(secret, b"slot", text) % slots, _hash(secret, b"side", text) % 2
        rank = _hash(secret, b"rank", text), name, person
        lowest[place] = min(lowest.get(place, rank), rank)
    return [
        (lowest[slot, 0][2], lowest[slot, 1][2])
        for slot in range(slots)
        if (slot, 0) in lowest and (slot, 1) in lowest
    ]


def _count(
    histogram: FloatArray, pairs: Sequence[tuple[FloatArray, FloatArray]], weight: float
) -> None:
    """Add the cosine of each pair; one that is not finite counts nothing."""
    scores = np.array([float(left @ right) for left, right in pairs])
    np.add.at(histogram, bins_of(scores[np.isfinite(scores)]), weight)


def _embedded(network: nn.Module, faces: Faces, row: int, config: RunConfig) -> FloatArray:
    (found,) = embed(
        network,
        Chosen(faces, np.array([row])),
        pixels=config.model.pixels,
        device=config.device,
        precision=config.precision,
    )
    return np.asarray(found, np.float64)


def _hash(secret: bytes, purpose: bytes, text: bytes) -> int:
    digest = hashlib.blake2b(text, digest_size=_COIN_BYTES, key=secret, person=purpose)
    return int.from_bytes(digest.digest(), "big")
