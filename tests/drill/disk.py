"""A disk of a folder's own, small enough to be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

MEGABYTES = 256  # 30 runs need 150
_BALLAST = ".ballast"
_PAGE = 4096


@contextmanager
def own(folder: Path) -> Iterator[None]:
    """Let a folder lie on a disk of its own, with what is in it; needs root."""
    inside = shutil.copytree(folder, folder.with_name(f"{folder.name}.before"))
    size = f"size={MEGABYTES}m,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        shutil.copytree(inside, folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(folder: Path, leaving: int = 0) -> Iterator[None]:
    """Fill the disk of a folder but for so many bytes, rounded up to pages; free it at the end."""
    ballast = folder / _BALLAST
    try:
        with ExitStack() as stack:
            descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o600)
            stack.callback(os.close, descriptor)
            with suppress(OSError):
                while True:
                    os.write(descriptor, bytes(_PAGE))
            size = os.fstat(descriptor).st_size - -(-leaving // _PAGE) * _PAGE
            os.ftruncate(descriptor, size)
        yield
    finally:
        ballast.unlink()
