"""A run's worst mistakes as pictures, kept beside its result so that its report can be made again.

DIR/examples.json   {"schema": 1, "examples": [{"title": ..., "left": PNG, "right": PNG}]}, base64

Only drawn people are ever in it: `measuring.worst_mistakes` gives no others.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from veilface_common.errors import ArtifactError
from veilface_common.files import write_atomically
from veilface_simulations.report import Example

SCHEMA = 1
FILE_NAME = "examples.json"


def save_examples(examples: Sequence[Example], folder: Path) -> None:
    """Write them into `folder`."""
    body = [
        {"title": example.title, "left": _text(example.left), "right": _text(example.right)}
        for example in examples
    ]
    content = json.dumps({"schema": SCHEMA, "examples": body}) + "\n"
    write_atomically(folder / FILE_NAME, content.encode())


def load_examples(folder: Path) -> list[Example]:
    """Return what `save_examples` wrote; nothing where it wrote nothing.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return []
    try:
        body = json.loads(path.read_bytes())
        if body["schema"] != SCHEMA:
            raise ArtifactError(f"expected schema {SCHEMA} in {path}, got {body['schema']!r}")
        return [
            Example(
                title=str(entry["title"]),
                left=base64.b64decode(entry["left"], validate=True),
                right=base64.b64decode(entry["right"], validate=True),
            )
            for entry in body["examples"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"expected pictures in {path}, got a damaged file",
            hint="remove it: the report is then made without them",
        ) from error


def _text(png: bytes) -> str:
    return base64.b64encode(png).decode()
