"""All templates of the people who may be identified, in memory: an exact scan, fp16, by faiss.

Nearest-neighbour indexes are not used: they miss true identities, take minutes to build at each
start and keep deleted vectors in their graphs. A scan of 1,000,000 templates of 128 numbers reads
256 MB.

The templates lie in shards of 65,536, so that neither the first addition after loading nor any
other copies all of them: memory stays near the vectors' own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from veilface_client.vault import Segment

SHARD = 65536


@dataclass(frozen=True, kw_only=True)
class Match:
    """Somebody who is like the probe."""

    person: str
    cosine: float  # with the nearest of the person's templates


class Gallery:
    """Templates of one model with their owners. One thread at a time may use it."""

    def __init__(self, dimension: int) -> None:
        # One probe is one core's work; OpenMP's threads would only take turns with torch's.
        faiss.omp_set_num_threads(1)
        self.dimension = dimension
        self._shards: list[_Shard] = []

    def __len__(self) -> int:
        """The number of templates."""
        return sum(len(shard) for shard in self._shards)

    def add(self, segment: Segment) -> None:
        """Add templates.

        Raises:
            ValueError: they are of another dimension.
        """
        if segment.vectors.shape[1:] != (self.dimension,):
            raise ValueError(f"expected vectors of {self.dimension}, got {segment.vectors.shape}")
        start = 0
        while start < len(segment.owners):
            if not self._shards or len(self._shards[-1]) == SHARD:
                self._shards.append(_Shard(self.dimension))
            free = SHARD - len(self._shards[-1])
            rows = slice(start, start + free)
            self._shards[-1].add(segment.owners[rows], segment.vectors[rows])
            start += free

    def remove(self, person: str) -> int:
        """Remove a person's templates and overwrite them; say how many there were."""
        owner = np.frombuffer(bytes.fromhex(person), dtype="u1")
        removed = sum(shard.remove(owner) for shard in self._shards)
        self._shards = [shard for shard in self._shards if len(shard)]
        return removed

    def search(self, probe: NDArray[np.floating], count: int) -> list[Match]:
        """Return the `count` people most like a probe [D] of unit length, the likest first."""
        query = np.ascontiguousarray(probe, dtype=np.float32)[None]
        asked = count
        while True:  # until so many templates are of enough people
            found = self._nearest(query, asked)
            matches = dict(reversed(found))
            if len(matches) >= count or asked >= len(self):
                break
            asked *= 4
        ordered = sorted(matches.items(), key=lambda match: match[1], reverse=True)
        return [Match(person=person, cosine=cosine) for person, cosine in ordered[:count]]

    def _nearest(self, query: NDArray[np.float32], count: int) -> list[tuple[str, float]]:
        """Return the owners and cosines of the nearest templates, the nearest first."""
        found = [pair for shard in self._shards for pair in shard.nearest(query, count)]
        found.sort(key=lambda pair: pair[1], reverse=True)
        return [(owner.hex(), cosine) for owner, cosine in found[:count]]


def load_gallery(segments: Iterable[Segment], dimension: int) -> Gallery:
    """Return a gallery of all templates in `Vault.segments`."""
    gallery = Gallery(dimension)
    for segment in segments:
        gallery.add(segment)
    return gallery


class _Shard:
    """Up to 65,536 templates."""

    def __init__(self, dimension: int) -> None:
        self._index: Any = faiss.IndexScalarQuantizer(
            dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        self._owners = np.empty((SHARD, 16), dtype=np.uint8)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, owners: NDArray[np.uint8], vectors: NDArray[np.float16]) -> None:
        self._owners[len(self) : len(self) + len(owners)] = owners
        # What faiss stores of a float16 vector are its bytes.
        self._index.add_sa_codes(np.ascontiguousarray(vectors, dtype="<f2").view(np.uint8))

    def remove(self, owner: NDArray[np.uint8]) -> int:
        before = len(self)
        rows = np.flatnonzero((self._owners[:before] == owner).all(axis=1))
        if not len(rows):
            return 0
        codes = self._index.codes
        held = faiss.rev_swig_ptr(codes.data(), codes.size()).reshape(before, -1)
        held[rows] = 0  # what moves up does not overwrite the last of them
        self._index.remove_ids(rows)
        kept = np.delete(self._owners[:before], rows, axis=0)
        self._owners[: len(kept)] = kept
        self._owners[len(kept) : before] = 0
        return len(rows)

    def nearest(self, query: NDArray[np.float32], count: int) -> list[tuple[bytes, float]]:
        count = min(count, len(self))
        cosines, rows = self._index.search(query, count)
        return [
            (self._owners[row].tobytes(), float(cosine))
            for row, cosine in zip(rows[0], cosines[0], strict=True)
            if row >= 0
        ]
