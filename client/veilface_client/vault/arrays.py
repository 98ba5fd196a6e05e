"""Templates and aligned crops: arrays that are sealed one by one.

    template   float16, little-endian, [D], unit length
    crop       uint8 [S, S, 3], where keeping it was chosen: for the next model

Associated data binds each to format, organisation, person, its number, kind, model, alignment,
shape and dtype: none opens in the place of another, and no template as if another model had made
it.
"""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from veilface_client.vault import merkle
from veilface_client.vault.store import FORMAT
from veilface_common.budget.entries import canonical
from veilface_common.crypto import envelope
from veilface_common.errors import VaultError

Kind = Literal["template", "crop"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a sealed array is: of which kind, made by what, of which shape."""

    kind: Kind
    model: str  # SHA-256 in hex; empty for a crop, which no model made
    alignment: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One photograph of a person, as it is handed to the vault."""

    model: str  # SHA-256 of the model, in hex
    alignment: str  # how the face was brought into place
    vector: NDArray[np.floating]  # [D], unit length
    crop: NDArray[np.uint8] | None = None  # [S, S, 3]: kept only where that was chosen

    def arrays(self) -> list[tuple[Form, bytes]]:
        """Return what is to be sealed of it. Raises ValueError for a vector not of unit length."""
        vector = np.asarray(self.vector, dtype="<f2")
        if vector.ndim != 1 or not math.isclose(float(np.linalg.norm(vector)), 1, abs_tol=0.01):
            raise ValueError(f"expected a vector [D] of unit length, got shape {vector.shape}")
        made = [_sealable("template", self.model, self.alignment, vector)]
        if self.crop is not None:
            made.append(_sealable("crop", "", self.alignment, np.asarray(self.crop, dtype="u1")))
        return made


def _sealable(
    kind: Kind, model: str, alignment: str, array: NDArray[np.generic]
) -> tuple[Form, bytes]:
    dtype = array.dtype.newbyteorder("<").str
    form = Form(kind=kind, model=model, alignment=alignment, shape=array.shape, dtype=dtype)
    return form, array.tobytes()


@dataclass(frozen=True, kw_only=True, eq=False)
class Template:
    """A template or crop, opened."""

    number: int
    form: Form
    array: NDArray[np.generic]


def array_place(organisation: str, person: bytes, number: int, form: Form) -> bytes:
    """Return what binds a template or crop to its place."""
    shape = canonical(list(form.shape))
    made = (form.model, form.alignment, shape, form.dtype)
    return envelope.associated(form.kind, FORMAT, organisation, person, number, *made)


def to_array(form: Form, plain: bytes) -> NDArray[np.generic]:
    """Return opened bytes as the array that was sealed."""
    return np.frombuffer(plain, dtype=form.dtype).reshape(form.shape)


def form_to_row(form: Form) -> tuple[str, str, str, str, str]:
    """Return the columns of a form."""
    return form.kind, form.model, form.alignment, canonical(list(form.shape)), form.dtype


def row_to_form(kind: Kind, model: str, alignment: str, shape: str, dtype: str) -> Form:
    """Return the form in a row's columns. Raises VaultError when it is none of ours."""
    try:
        sizes = tuple(map(int, json.loads(shape)))
        known = (kind, dtype, len(sizes)) in (("template", "<f2", 1), ("crop", "|u1", 3))
    except (TypeError, ValueError):
        known = False
    if not known:
        raise VaultError("expected the form of a template or crop, got an altered one")
    return Form(kind=kind, model=model, alignment=alignment, shape=sizes, dtype=dtype)


def forms_of(connection: sqlite3.Connection) -> dict[int, Form]:
    """Return the forms in the vault by number. Raises VaultError when one is altered."""
    query = "SELECT form, kind, model, alignment, shape, dtype FROM forms"
    return {number: row_to_form(*row) for number, *row in connection.execute(query)}


def forms_leaf(connection: sqlite3.Connection) -> bytes:
    """Return the leaf [32] of all forms in the Merkle tree."""
    rows = connection.execute("SELECT * FROM forms ORDER BY form").fetchall()
    return merkle.leaf_hash(b"forms" + canonical(rows).encode())


def number_of(connection: sqlite3.Connection, form: Form) -> int:
    """Return a form's number, a new one if need be."""
    columns = form_to_row(form)
    connection.execute(
        "INSERT OR IGNORE INTO forms (kind, model, alignment, shape, dtype) VALUES (?, ?, ?, ?, ?)",
        columns,
    )
    row = connection.execute(
        "SELECT form FROM forms WHERE (kind, model, alignment, shape, dtype) = (?, ?, ?, ?, ?)",
        columns,
    ).fetchone()
    return int(row[0])
