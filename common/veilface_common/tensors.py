"""Named arrays: how a model, an update or a head is written, read and checked.

Everything is safetensors, never pickle: reading a file or a message runs no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from veilface_common.errors import ProtocolError, UpdateRejected

FloatArray = npt.NDArray[np.float32]
Tensors = dict[str, FloatArray]


def to_bytes(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return the arrays as safetensors bytes: the same arrays always give the same bytes."""
    return save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)})


def from_bytes(content: bytes) -> Tensors:
    """Return the arrays in safetensors bytes, as float32.

    Raises:
        ProtocolError: the bytes are not safetensors, or hold something else than float32.
    """
    tensors = arrays_from_bytes(content)
    for name, value in tensors.items():
        if value.dtype != np.float32:
            raise ProtocolError(f"expected float32 in {name!r}, got {value.dtype}")
    return tensors


def arrays_from_bytes(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays in safetensors bytes, of whatever kind of number they are.

    Raises:
        ProtocolError: the bytes are not safetensors.
    """
    try:
        arrays = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ProtocolError(f"expected safetensors bytes, got {len(content)} others") from error
    # safetensors gives them in an order that differs from call to call: sums over them would too.
    return dict(sorted(arrays.items()))


def norm(tensors: Mapping[str, FloatArray]) -> float:
    """Return the Euclidean norm over all arrays, in float64."""
    total = sum(float(np.square(value, dtype=np.float64).sum()) for value in tensors.values())
    return float(np.sqrt(total))


def verify_like(
    tensors: Mapping[str, npt.NDArray[Any]], reference: Mapping[str, FloatArray]
) -> None:
    """Check that the arrays have the names and shapes of `reference` and are finite.

    Raises:
        UpdateRejected: a name, a shape or a value is not as it must be.
    """
    if set(tensors) != set(reference):
        odd = sorted(set(tensors) ^ set(reference))
        raise UpdateRejected(f"expected the model's {len(reference)} arrays, differs in {odd[0]!r}")
    for name, value in tensors.items():
        if value.shape != reference[name].shape:
            raise UpdateRejected(
                f"expected shape {reference[name].shape} for {name!r}, got {value.shape}"
            )
        if not np.isfinite(value).all():
            raise UpdateRejected(f"expected finite numbers in {name!r}")
