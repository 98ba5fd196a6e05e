"""What an ONNX file of ours says of itself: canonical JSON under one key of its metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Generic, TypeVar

from veilface_common import typed_json
from veilface_common.budget.entries import canonical
from veilface_common.errors import ArtifactError

Notes = TypeVar("Notes")  # a dataclass that `typed_json` can write


@dataclass(frozen=True)
class Metadata(Generic[Notes]):
    """How one kind of file says what it is."""

    key: str
    schema: int
    kind: type[Notes]
    what: str  # such a file, for errors
    hint: str

    def write(self, notes: Notes) -> dict[str, str]:
        """Return what is written into the file."""
        return {self.key: canonical({"schema": self.schema, **typed_json.to_json(notes)})}

    def read(self, metadata: dict[str, str]) -> Notes:
        """Return what a file says of itself.

        Raises:
            ArtifactError: nothing, or something of another schema.
        """
        try:
            body = json.loads(metadata[self.key])
            schema = body["schema"]
        except (KeyError, ValueError, TypeError):
            raise ArtifactError(
                f"expected {self.what}, got another ONNX file", hint=self.hint
            ) from None
        if schema != self.schema:
            raise ArtifactError(f"expected {self.what} of schema {self.schema}, got {schema!r}")
        return typed_json.from_json(self.kind, body, self.what)
