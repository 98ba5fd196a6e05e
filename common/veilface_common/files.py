"""Files that are either whole or absent, whatever kills the process that writes them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PUBLIC = 0o644  # for what is meant to be passed on; everything else is for its owner alone


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` by `content`: a reader, or a crash, sees the old bytes or the new ones.

    Raises:
        OSError: the disk is full or the folder cannot be written; `path` is then as before.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            Path(temporary).chmod(mode)
            os.fsync(handle.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
