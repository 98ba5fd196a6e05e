"""What went wrong at the organisation, in its own words and for its own eyes.

    DIR/failures.jsonl    {"request": "train 3", "error": "DataError: ..."}, one line a failure
    DIR/failures.old.jsonl    those before, once that file was full: no flood of them fills a disk

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
OLDER = "failures.old.jsonl"
MAX_BYTES = 1 << 20  # of each file, or one line more
_MAX_WORDS = 2000


class KeptAtHome(ProtocolError):  # noqa: N818 -- named for what happened
    """What is left of an error once its words were kept at home."""


@contextmanager
def kept_at_home(
    folder: Path, request: str, passing: type[ProtocolError] | None = None
) -> Iterator[None]:
    """Write what goes wrong inside into `folder`, and raise an error that says only its kind.

    Errors of the class `passing` are written down as well, and raised as they are; so is what was
    kept at home already.

    Raises:
        ProtocolError: something went wrong.
    """
    try:
        yield
    except KeptAtHome:
        raise
    except Exception as error:  # whatever it is, its words stay here
        kind = type(error).__name__
        # A folder that is gone or full takes no line, and its error would name the path.
        with suppress(OSError):
            _write(folder, {"request": request, "error": f"{kind}: {error}"[:_MAX_WORDS]})
        if passing is not None and isinstance(error, passing):
            raise
        # `from None`: Flower sends the whole chain.
        raise KeptAtHome(f"failed with {kind}; the organisation's own log says why") from None


def load_failures(folder: Path) -> tuple[str, ...]:
    """Return what went wrong, the oldest first."""
    paths = [path for path in (folder / OLDER, folder / FILE) if path.exists()]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
    return tuple(_read(line) for text in texts for line in text.splitlines())


def _write(folder: Path, entry: dict[str, str]) -> None:
    path = folder / FILE
    if path.exists() and path.stat().st_size >= MAX_BYTES:
        path.replace(folder / OLDER)
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")


def _read(line: str) -> str:
    """Return a line as people read it; one that a crash cut short still counts."""
    try:
        entry = json.loads(line)
        return f"{entry['request']}: {entry['error']}"
    except (ValueError, KeyError, TypeError):
        return "a failure whose line was cut short"
