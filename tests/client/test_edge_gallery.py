"""The sealed gallery of a small machine: whole, ours, in force and for this model, or refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from numpy.typing import NDArray

from veilface_client.edge.gallery import EdgeGallery, Entry, Terms, open_gallery, seal_gallery
from veilface_common.errors import ArtifactError, VaultError, WrongKey

KEY, NONCE = bytes(range(32)), bytes(12)
MODEL = "ab" * 32
TODAY = date(2026, 3, 1)
GOLDEN = "c2d245009a80ac35564e5277af22f433334a451d01de97f6ff896070c940e347"
TERMS = Terms(
    organisation="shop",
    model=MODEL,
    detector="haar",
    threshold=0.5,
    margin=0.02,
    warning="",
    made="2026-03-01",
    expires="2026-03-08",
    people=(
        Entry(name="ada", until="2026-03-05", templates=2),
        Entry(name="bob", until="2028-01-01", templates=1),
        Entry(name="eve", until="2028-01-01", templates=3),
    ),
)


def rows() -> NDArray[np.float32]:
    drawn = np.random.default_rng(0).normal(size=(6, 8))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


SEALED = seal_gallery(EdgeGallery(terms=TERMS, templates=rows()), KEY, NONCE)


def test_the_format_is_what_it_was() -> None:
    """A gallery that is out there opens with the next release."""
    simple = EdgeGallery(terms=TERMS, templates=np.eye(6, 8, dtype=np.float32))
    sealed = seal_gallery(simple, KEY, NONCE)
    assert sealed.startswith(b"veilface edge gallery 1\n")
    assert hashlib.sha256(sealed).hexdigest() == GOLDEN


def test_what_is_opened_is_what_was_sealed() -> None:
    """Terms as they were, templates as float16 keeps them; no name in the file or in a repr."""
    opened = open_gallery(SEALED, KEY, MODEL, TODAY)
    assert opened.terms == TERMS
    assert np.abs(opened.templates - rows()).max() < 1e-3
    assert b"ada" not in SEALED
    assert "ada" not in repr(opened)


def test_the_likest_people_are_those_of_a_slow_search() -> None:
    """Each person counts by the nearest of their templates, whatever the order."""
    opened = open_gallery(SEALED, KEY, MODEL, TODAY)
    owners = ["ada", "ada", "bob", "eve", "eve", "eve"]
    for probe in rows()[:, ::-1]:
        best: dict[str, float] = {}
        for owner, template in zip(owners, opened.templates, strict=True):
            best[owner] = max(best.get(owner, -1), float(template @ probe))
        expected = sorted(best.items(), key=lambda pair: -pair[1])[:2]
        found = opened.likest(np.ascontiguousarray(probe), 2)
        assert [name for name, _ in found] == [name for name, _ in expected]
        assert np.allclose([one for _, one in found], [one for _, one in expected])


@pytest.mark.parametrize("place", [0, 23, 24, 40, 60, len(SEALED) // 2, len(SEALED) - 1])
def test_an_altered_byte_is_seen(place: int) -> None:
    """In the header, the key's name, the nonce, the content and the tag."""
    altered = bytearray(SEALED)
    altered[place] ^= 1
    with pytest.raises(VaultError):
        open_gallery(bytes(altered), KEY, MODEL, TODAY)


def test_a_cut_off_gallery_is_refused() -> None:
    """At any length."""
    for length in range(0, len(SEALED), 7):
        with pytest.raises(VaultError):
            open_gallery(SEALED[:length], KEY, MODEL, TODAY)


def test_another_key_opens_nothing() -> None:
    """And it is said that it is the key."""
    with pytest.raises(WrongKey):
        open_gallery(SEALED, bytes(32), MODEL, TODAY)


def test_a_model_put_in_its_place_is_refused() -> None:
    """The gallery vouches for one ONNX file."""
    with pytest.raises(ArtifactError, match="another ONNX file"):
        open_gallery(SEALED, KEY, "cd" * 32, TODAY)


def test_an_ended_gallery_answers_nothing() -> None:
    """From its last day on."""
    open_gallery(SEALED, KEY, MODEL, date(2026, 3, 7))
    with pytest.raises(VaultError, match="2026-03-08"):
        open_gallery(SEALED, KEY, MODEL, date(2026, 3, 8))


def test_whose_retention_ends_is_left_out_from_that_day() -> None:
    """The others keep their own templates."""
    opened = open_gallery(SEALED, KEY, MODEL, date(2026, 3, 5))
    assert [entry.name for entry in opened.terms.people] == ["bob", "eve"]
    assert np.abs(opened.templates - rows()[2:]).max() < 1e-3
    assert opened.likest(rows()[2], 1)[0][0] == "bob"


@pytest.mark.parametrize(
    "change",
    [
        {"people": TERMS.people[:2]},  # more rows than owners
        {"people": (*TERMS.people[:2], replace(TERMS.people[2], templates=0))},
        {"people": ()},
        {"expires": "soon"},
    ],
)
def test_terms_that_do_not_fit_are_refused(change: dict[str, object]) -> None:
    """Even under the right key: another release may have written it."""
    terms = replace(TERMS, **change)  # type: ignore[arg-type]
    sealed = seal_gallery(EdgeGallery(terms=terms, templates=rows()), KEY)
    with pytest.raises(VaultError):
        open_gallery(sealed, KEY, MODEL, TODAY)


def test_templates_that_are_no_unit_vectors_are_refused() -> None:
    """A long vector would be likest to everybody."""
    for spoilt in (rows() * 3, rows() * np.float32("nan")):
        sealed = seal_gallery(EdgeGallery(terms=TERMS, templates=spoilt), KEY)
        with pytest.raises(VaultError):
            open_gallery(sealed, KEY, MODEL, TODAY)
