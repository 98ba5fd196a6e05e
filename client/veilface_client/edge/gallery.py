r"""The gallery of a small machine: names and templates in one sealed file, for a few days.

    b"veilface edge gallery 1\n" || key id [16] || sealed

    sealed    AES-256-GCM (`crypto.envelope`) under derive(key, "edge gallery"), bound to the line
              before it; the key is that of a key file
    content   canonical JSON: {"organisation", "model": SHA-256 of the ONNX file, "detector",
              "threshold", "margin", "warning", "made", "expires",
              "people": [{"name", "until", "templates": how many}, ...]}
              NUL, and the templates in that order: float16, little-endian, [N, D]

It names the one ONNX file that it is for: a file put in its place, which might see the same person
in everybody, is refused before it is run. The dates are kept by the program, not by the cipher:
whoever has file and key, and sets the clock back, reads on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veilface_common import typed_json
from veilface_common.budget.entries import canonical
from veilface_common.crypto import envelope
from veilface_common.errors import ArtifactError, VaultError, WrongKey

HEADER = b"veilface edge gallery 1\n"
MAX_BYTES = 1 << 30
_PURPOSE = "edge gallery"
_KEY_ID = slice(len(HEADER), len(HEADER) + envelope.KEY_ID_BYTES)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A person in the file."""

    name: str
    until: str  # YYYY-MM-DD; from this day on nobody is told this name
    templates: int


@dataclass(frozen=True, kw_only=True)
class Terms:
    """For which model, how to decide, how long, and who is in it."""

    organisation: str
    model: str  # SHA-256 of the ONNX file, hex
    detector: str  # the first part of the alignment path: "haar"
    threshold: float  # cosine
    margin: float  # by which the likest must be ahead of the second
    warning: str  # of a threshold that rests on too little
    made: str  # YYYY-MM-DD
    expires: str  # from this day on it answers nothing
    people: tuple[Entry, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeGallery:
    """The people who may be named."""

    terms: Terms
    templates: NDArray[np.float32]  # [N, D], unit length, in the order of `terms.people`

    def __repr__(self) -> str:
        """Say how many there are, not who."""
        return f"EdgeGallery({len(self.terms.people)} people)"

    def likest(self, probe: NDArray[np.float32], count: int) -> list[tuple[str, float]]:
        """Return the people most like a probe [D] with their cosines, the likest first."""
        people = self.terms.people
        if not people:
            return []
        firsts = np.cumsum([0, *(entry.templates for entry in people[:-1])])
        best = np.maximum.reduceat(self.templates @ probe, firsts)  # [people]
        order = np.argsort(-best, kind="stable")[:count]
        return [(people[person].name, float(best[person])) for person in order]


def seal_gallery(gallery: EdgeGallery, key: bytes, nonce: bytes | None = None) -> bytes:
    """Return the file's content, sealed under `key` [32]; the nonce is given in tests alone."""
    words = canonical(typed_json.to_json(gallery.terms)).encode()
    content = words + b"\0" + gallery.templates.astype("<f2").tobytes()
    return HEADER + envelope.key_id(key) + envelope.seal(_derived(key), content, _bound(), nonce)


def read_gallery(path: Path) -> bytes:
    """Return a sealed file's bytes. Raises VaultError when there is none, or it is too large."""
    try:
        with path.open("rb") as handle:
            sealed = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise VaultError(f"expected a sealed gallery in {path}: {error.strerror}") from error
    if len(sealed) > MAX_BYTES:
        raise VaultError(f"expected at most {MAX_BYTES} bytes in {path}, got more")
    return sealed


def open_gallery(sealed: bytes, key: bytes, model: str, today: date) -> EdgeGallery:
    """Return who may be named today, once these hold, in this order.

    1. it is a sealed gallery of this format, 2. under this key, 3. unaltered, 4. its content is of
    the form above, 5. it has not ended, 6. it is for this ONNX file

    Args:
        sealed: of the file.
        key: of the key file.
        model: SHA-256 of the ONNX file that is there, hex.
        today: people and galleries whose day has come are left out, and refused.

    Raises:
        WrongKey: another key sealed it.
        VaultError: it is no sealed gallery, was altered, or has ended.
        ArtifactError: it is for another model.
    """
    if not sealed.startswith(HEADER):
        raise VaultError(
            "expected a sealed gallery of format 1, got another file",
            hint="veilface model export --gallery FILE makes one",
        )
    if sealed[_KEY_ID] != envelope.key_id(key):
        raise WrongKey(
            "expected the key that sealed this gallery, got another",
            hint="is this the key file that was named when it was exported?",
        )
    gallery = _parsed(envelope.unseal(_derived(key), sealed[_KEY_ID.stop :], _bound()))
    if date.fromisoformat(gallery.terms.expires) <= today:
        raise VaultError(
            f"expected a gallery in force, got one that ended on {gallery.terms.expires}",
            hint="export it anew: people may have been forgotten since",
        )
    if gallery.terms.model != model:
        raise ArtifactError(
            "expected the model that this gallery was made for, got another ONNX file",
            hint="copy both files of one export; templates of two models cannot be compared",
        )
    return _without(gallery, today)


def _parsed(content: bytes) -> EdgeGallery:
    words, _, raw = content.partition(b"\0")
    try:
        terms = typed_json.from_json(Terms, json.loads(words), "the gallery")
        rows = _templates(terms, np.frombuffer(raw, dtype="<f2").astype(np.float32))
        for day in (terms.expires, *(entry.until for entry in terms.people)):
            date.fromisoformat(day)
    except (ValueError, ArtifactError):
        raise VaultError(
            "expected a gallery that this release can read, got another",
            hint="the same version of Veilface on both machines",
        ) from None
    return EdgeGallery(terms=terms, templates=rows)


def _templates(terms: Terms, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows [N, D] of these numbers. Raises ValueError unless they are unit vectors."""
    counts = [entry.templates for entry in terms.people]
    rows = numbers.reshape(sum(counts), -1 if counts else 0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if min(counts, default=1) < 1 or not (np.abs(lengths - 1) < 0.01).all():
        raise ValueError("expected each person's unit vectors")
    return rows / lengths  # type: ignore[no-any-return]


def _without(gallery: EdgeGallery, today: date) -> EdgeGallery:
    """Leave out whose retention has ended."""
    people = gallery.terms.people
    stays = [date.fromisoformat(entry.until) > today for entry in people]
    rows = np.repeat(stays, [entry.templates for entry in people]).astype(bool)
    kept = tuple(entry for entry, stay in zip(people, stays, strict=True) if stay)
    return EdgeGallery(terms=replace(gallery.terms, people=kept), templates=gallery.templates[rows])


def _derived(key: bytes) -> bytes:
    return envelope.derive(key, _PURPOSE)


def _bound() -> bytes:
    return envelope.associated(_PURPOSE, HEADER)
