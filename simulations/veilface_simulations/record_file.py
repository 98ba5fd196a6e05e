"""A measurement's record: a file of JSON that says which schema it has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from veilface_common import typed_json
from veilface_common.errors import ArtifactError
from veilface_common.files import PUBLIC, write_atomically

Record = TypeVar("Record")  # a dataclass that `typed_json` can write


@dataclass(frozen=True)
class RecordFile(Generic[Record]):
    """How one kind of record is written, and read again."""

    name: str  # of the file
    kind: type[Record]
    schema: int = 1

    def to_json(self, record: Record) -> dict[str, Any]:
        """Return what stands in the file."""
        return {"schema": self.schema, **typed_json.to_json(record)}

    def from_json(self, value: object) -> Record:
        """Return what `to_json` wrote.

        Raises:
            ArtifactError: another schema, a missing key or a value of another type.
        """
        schema = value.get("schema") if isinstance(value, Mapping) else type(value).__name__
        if schema != self.schema:
            raise ArtifactError(f"expected {self.name} of schema {self.schema}, got {schema!r}")
        return typed_json.from_json(self.kind, value, self.name)

    def save(self, record: Record, folder: Path) -> None:
        """Write the file in a folder: whole, or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        text = json.dumps(self.to_json(record), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(folder / self.name, (text + "\n").encode(), mode=PUBLIC)
