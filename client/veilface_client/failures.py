"""What went wrong at the organisation, in its own words and for its own eyes.

    DIR/failures.jsonl    {"request": "train 3", "error": "DataError: ..."}, one line a failure

A message of ours may speak of paths and of counts, so the coordinator hears only of which kind it
was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from veilface_common.errors import ProtocolError

FILE = "failures.jsonl"


@contextmanager
def kept_at_home(folder: Path, request: str) -> Iterator[None]:
    """Write what goes wrong inside into `folder`, and raise an error that says only its kind.

    Raises:
        ProtocolError: something went wrong.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 -- whatever it is, its words stay here
        kind = type(error).__name__
        line = json.dumps({"request": request, "error": f"{kind}: {error}"})
        # A folder that is gone or full takes no line, and its error would name the path.
        with suppress(OSError), (folder / FILE).open("a", encoding="utf-8") as log:
            log.write(line + "\n")
        # `from None`: Flower sends the whole chain.
        raise ProtocolError(f"failed with {kind}; the organisation's own log says why") from None


def load_failures(folder: Path) -> tuple[str, ...]:
    """Return what went wrong, the oldest first."""
    path = folder / FILE
    if not path.exists():
        return ()
    return tuple(map(_read, path.read_text(encoding="utf-8", errors="replace").splitlines()))


def _read(line: str) -> str:
    """Return a line as people read it; one that a crash cut short still counts."""
    try:
        entry = json.loads(line)
        return f"{entry['request']}: {entry['error']}"
    except (ValueError, KeyError, TypeError):
        return "a failure whose line was cut short"
