"""How an organisation's update travels: as it is, in half precision, or in 8 bits.

fp32   the arrays as they are
fp16   each number rounded to the nearest of IEEE 754's half precision
int8   each row r of an array as round(r / s), to the nearest, and one number s a row, which is
       max |r| / 127, rounded up to 16 significant bits; a row is what leads to one output, and an
       array of one dimension is one row

All three are safetensors bytes. What is written is a function of the update alone: of one that was
noised, it tells no more than the update would, and costs no privacy (post-processing: Dwork and
Roth 2014, proposition 2.1). No step of it depends on the machine. Written again, what was read
gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from veilface_common import tensors
from veilface_common.config import UpdatePrecision
from veilface_common.errors import UpdateRejected
from veilface_common.tensors import FloatArray, Tensors

SCALES = ".scales"  # all rows' s, in the order of names; no layer's name begins with a dot
LEVELS = 127
SPARE_BYTES = 1024  # that an update may be too long: what is wrong with it is then said better
MAX_SCALE = float(np.finfo(np.float32).max) / 128  # beyond it, -128 s is not finite
# A product of at most seven bits and sixteen is exact: what was read is on the grid it was read by.
_DROPPED_BITS = np.uint32(0xFF)
_DTYPES: Mapping[UpdatePrecision, npt.DTypeLike] = {
    "fp32": np.float32,
    "fp16": np.float16,
    "int8": np.int8,
}

Int8Array = npt.NDArray[np.int8]


def encode_update(update: Mapping[str, FloatArray], precision: UpdatePrecision) -> bytes:
    """Return the update as it travels: the same update always gives the same bytes.

    A number that is not finite, or too large for half precision, is not hidden: the coordinator
    refuses what it reads then.
    """
    match precision:
        case "fp32":
            return tensors.to_bytes(update)
        case "fp16":
            with np.errstate(over="ignore"):  # to infinity, which is refused
                halves = {name: value.astype(np.float16) for name, value in update.items()}
            return tensors.to_bytes(halves)
        case "int8":
            return _to_int8(update)


def update_bytes(like: Mapping[str, FloatArray], precision: UpdatePrecision) -> int:
    """Return how many bytes an update of these names and shapes takes, whatever is in it."""
    nothing = {name: np.zeros(value.shape, np.float32) for name, value in like.items()}
    return len(encode_update(nothing, precision))


def decode_update(
    content: bytes, like: Mapping[str, FloatArray], precision: UpdatePrecision
) -> Tensors:
    """Return the update in what `encode_update` wrote: arrays of the names and shapes of `like`.

    All numbers are finite; how long the update is, is left to be checked.

    Raises:
        ProtocolError: the bytes are not safetensors.
        UpdateRejected: they are another model's, of another precision, too many or not finite.
    """
    most = update_bytes(like, precision) + SPARE_BYTES
    if len(content) > most:  # before it is unpacked
        raise UpdateRejected(f"expected at most {most} bytes of an update, got {len(content)}")
    arrays = tensors.arrays_from_bytes(content)
    scales = arrays.pop(SCALES, None) if precision == "int8" else None
    for name, value in arrays.items():
        _verify_dtype(name, value, _DTYPES[precision])
    tensors.verify_like(arrays, like)
    if precision == "int8":
        return _from_int8(arrays, scales)
    return {name: value.astype(np.float32, copy=False) for name, value in arrays.items()}


def _to_int8(update: Mapping[str, FloatArray]) -> bytes:
    values: dict[str, npt.NDArray[Any]] = {}
    scales = []
    for name in sorted(update):
        rows = _rows(update[name])
        scale = _scales(rows)
        scales.append(scale)
        usable = (scale > 0) & (scale <= MAX_SCALE)
        steps = np.where(usable, scale, np.float32(1))[:, None]
        whole = np.rint(np.where(usable[:, None], rows, np.float32(0)) / steps)
        values[name] = whole.astype(np.int8).reshape(update[name].shape)
    return tensors.to_bytes({**values, SCALES: np.concatenate(scales)})


def _from_int8(arrays: Mapping[str, Int8Array], scales: npt.NDArray[Any] | None) -> Tensors:
    """Return the arrays, which have the model's shapes, at their scales, of which nothing is known.

    Raises:
        UpdateRejected: the scales are missing, too few or too many, or not numbers to scale by.
    """
    count = sum(len(_rows(value)) for value in arrays.values())
    if scales is None:
        raise UpdateRejected(f"expected the scales of {count} rows, got none")
    _verify_dtype(SCALES, scales, np.float32)
    if scales.shape != (count,):
        raise UpdateRejected(f"expected the scales of {count} rows, got shape {scales.shape}")
    if not ((scales >= 0) & (scales <= MAX_SCALE)).all():  # and so no NaN
        raise UpdateRejected(f"expected scales in [0, {MAX_SCALE:.3g}], got another")
    update, start = {}, 0
    for name, value in arrays.items():
        rows = _rows(value)
        scale = scales[start : start + len(rows), None]
        update[name] = (rows * scale).reshape(value.shape)
        start += len(rows)
    return update


def _rows(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array as one row for each output of its layer: [R, ...] -> [R, N]; [N] -> [1, N].

    A scale for each row, since an output whose weights hardly move would otherwise not move at all.
    """
    return value.reshape(len(value) if value.ndim > 1 else 1, -1)


def _scales(rows: FloatArray) -> FloatArray:
    """Return the s of each row: [R, N] -> [R]; 0 where the row is nothing that 8 bits can tell."""
    exact = np.abs(rows).max(axis=1) / np.float32(LEVELS)
    bits = (exact.view(np.uint32) + _DROPPED_BITS) & ~_DROPPED_BITS
    rounded = bits.view(np.float32)
    return np.where(rounded < np.finfo(np.float32).tiny, np.float32(0), rounded)


def _verify_dtype(name: str, value: npt.NDArray[Any], expected: npt.DTypeLike) -> None:
    if value.dtype != expected:
        raise UpdateRejected(f"expected {np.dtype(expected)} in {name!r}, got {value.dtype}")
