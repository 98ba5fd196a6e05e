"""Frozen dataclasses to JSON and back: what is read has the declared types, or is refused."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from veilface_common.errors import ArtifactError

T = TypeVar("T")
_EXACT = 1 << 1023  # below it, a whole number is a float's; above, `float` raises


def to_json(value: Any) -> dict[str, Any]:
    """Return a dataclass as nested dicts, lists and scalars, as `json.dumps` takes them.

    NaN and infinity, which JSON does not have, become `None`.
    """
    return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: type[T], value: object, where: str = "the file") -> T:
    """Return the dataclass `kind` that `to_json` wrote.

    A key left out keeps its default; a key that is not known is ignored, so that a file with
    later additions can still be read.

    Raises:
        ArtifactError: a key without a default is missing, or a value has another type.
    """
    if not isinstance(value, Mapping):
        raise _mismatch(where, "a JSON object", value)
    hints = typing.get_type_hints(kind)
    settings = {}
    for entry in dataclasses.fields(typing.cast("Any", kind)):
        if entry.name in value:
            below = f"{entry.name} in {where}"
            settings[entry.name] = _decoded(hints[entry.name], value[entry.name], below)
        elif entry.default is entry.default_factory is dataclasses.MISSING:
            raise ArtifactError(f"expected {entry.name} in {where}, got no such key")
    return kind(**settings)


def _mismatch(where: str, expected: str, value: object) -> ArtifactError:
    return ArtifactError(f"expected {where} as {expected}, got {str(value)[:40]!r}")


def _decoded(kind: Any, value: Any, where: str) -> Any:
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        decoded: Any = from_json(typing.cast("Any", kind), value, where)
    elif origin in (types.UnionType, typing.Union):
        decoded = _optional(inside, value, where)
    elif origin is tuple and isinstance(value, list | tuple):
        decoded = _tuple(inside, value, where)
    elif origin is Mapping and isinstance(value, Mapping):
        decoded = {str(key): _decoded(inside[1], item, where) for key, item in value.items()}
    elif (origin is typing.Literal and value in inside) or type(value) is kind:
        decoded = value
    elif kind is float and type(value) is int and abs(value) < _EXACT:
        decoded = float(value)
    else:
        raise _mismatch(where, getattr(kind, "__name__", str(kind)), value)
    return decoded


def _optional(inside: tuple[Any, ...], value: Any, where: str) -> Any:
    """Decode `X | None`, the one union that our files use."""
    if value is None and type(None) in inside:
        return None
    (kind,) = (member for member in inside if member is not type(None))
    return _decoded(kind, value, where)


def _tuple(inside: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if len(inside) == 2 and inside[1] is Ellipsis:
        return tuple(_decoded(inside[0], item, where) for item in value)
    if len(inside) != len(value):
        raise _mismatch(where, f"{len(inside)} values", value)
    return tuple(_decoded(kind, item, where) for kind, item in zip(inside, value, strict=True))
