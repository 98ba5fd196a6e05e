"""The gallery: an exact scan, against numpy; people come and go without a trace."""

from __future__ import annotations

import gc

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from veilface_client import gallery as module
from veilface_client.gallery import Gallery, load_gallery
from veilface_client.vault import Segment

DIMENSION = 24


def segment(people: int, each: int = 1, seed: int = 0) -> Segment:
    """Return unit vectors of people, `each` of everybody."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((people * each, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owners = random.integers(0, 256, (people, 16), dtype=np.uint8)
    return Segment(owners=np.repeat(owners, each, axis=0), vectors=vectors.astype("<f2"))


def slowly(segments: list[Segment], probe: NDArray[np.float32]) -> list[tuple[str, float]]:
    """Return everybody with the best cosine, the likest first."""
    best: dict[str, float] = {}
    for found in segments:
        for owner, cosine in zip(found.owners, found.vectors.astype("f4") @ probe, strict=True):
            name = owner.tobytes().hex()
            best[name] = max(best.get(name, -2.0), float(cosine))
    return sorted(best.items(), key=lambda pair: -pair[1])


def probe(seed: int = 99) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.mark.parametrize("shard", [65536, 16])
@pytest.mark.parametrize("each", [1, 7])
def test_search_gives_the_nearest_people(
    monkeypatch: pytest.MonkeyPatch, shard: int, each: int
) -> None:
    """The right people in the right order, each once, however many templates and shards."""
    monkeypatch.setattr(module, "SHARD", shard)
    parts = [segment(30, each, seed) for seed in range(2)]
    gallery = load_gallery(parts, DIMENSION)
    assert len(gallery) == 60 * each
    for count in (1, 3, 60, 500):
        found = gallery.search(probe(), count)
        expected = slowly(parts, probe())[:count]
        assert [match.person for match in found] == [name for name, _ in expected]
        assert np.allclose([m.cosine for m in found], [cosine for _, cosine in expected], atol=1e-5)


@pytest.mark.parametrize("shard", [65536, 8])
def test_removed_people_are_not_found(monkeypatch: pytest.MonkeyPatch, shard: int) -> None:
    """All templates of a person go at once; the others answer as before; a new one is found."""
    monkeypatch.setattr(module, "SHARD", shard)
    kept, gone = segment(20, 2, seed=1), segment(1, 3, seed=2)
    gallery = load_gallery([kept, gone, segment(4, seed=3)], DIMENSION)
    person = gone.owners[0].tobytes().hex()
    assert gallery.remove(person) == 3
    assert gallery.remove(person) == 0
    expected = slowly([kept, segment(4, seed=3)], probe())
    assert [m.person for m in gallery.search(probe(), 50)] == [name for name, _ in expected]
    gallery.add(gone)
    assert gallery.search(gone.vectors[0].astype("f4"), 1)[0].person == person


def test_removed_vectors_are_overwritten() -> None:
    """What a shard holds, slack included, has no byte of the removed person's templates."""
    gallery = load_gallery([segment(3, seed=1), segment(1, seed=2)], DIMENSION)
    gone = segment(1, seed=2)
    codes = gallery._shards[0]._index.codes
    held = faiss.rev_swig_ptr(codes.data(), codes.size())  # the memory as it was before
    assert gone.vectors.tobytes() in held.tobytes()
    gallery.remove(gone.owners[0].tobytes().hex())
    assert gone.vectors.tobytes() not in held.tobytes()
    assert gone.owners[0].tobytes() not in gallery._shards[0]._owners.tobytes()
    gc.collect()


def test_empty_gallery_knows_nobody() -> None:
    """Nobody is found where nobody is, also after the last person left."""
    gallery = Gallery(DIMENSION)
    assert gallery.search(probe(), 3) == []
    alone = segment(1)
    gallery.add(alone)
    gallery.remove(alone.owners[0].tobytes().hex())
    assert gallery.search(probe(), 3) == []


def test_other_dimension_is_refused() -> None:
    """Vectors of another model's size do not come in."""
    with pytest.raises(ValueError, match="expected vectors of 8"):
        Gallery(8).add(segment(1))
