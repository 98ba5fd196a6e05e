"""Reading the small files that hold a secret: for their owner alone, or refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from veilface_common.errors import KeyFileError

MOST_BYTES = 4096
_CREDENTIALS = "CREDENTIALS_DIRECTORY"  # of a service, as systemd makes it


def read_private(path: Path, what: str) -> str:
    """Return the text of a file that nobody but its owner may read; `what` names it in errors.

    A pipe serves too, as a shell gives it: `--passphrase-file <(pass show veilface)`. So does a
    credential of systemd: newer ones let the service in by an access list, which the bits of the
    group then show, and keep everybody else out of the folder.

    Raises:
        KeyFileError: there is none, others may read or write it, or it is no text of up to 4 KiB.
    """
    try:
        with path.open("rb") as handle:
            # Of the open file, not of the name, which might be another's by now.
            mode = stat.S_IMODE(os.fstat(handle.fileno()).st_mode)
            content = handle.read(MOST_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"expected {what} in {path}: {error.strerror}") from error
    is_credential = os.environ.get(_CREDENTIALS) == str(path.parent)
    if mode & (0o037 if is_credential else 0o077):
        raise KeyFileError(f"expected {path} to be for its owner alone", hint=f"chmod 600 {path}")
    if len(content) > MOST_BYTES:
        raise KeyFileError(f"expected {what} of up to {MOST_BYTES} bytes in {path}")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise KeyFileError(f"expected {what} as UTF-8 text in {path}") from None
