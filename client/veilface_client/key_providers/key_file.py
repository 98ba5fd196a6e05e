"""The vault's key under a random key in a file: for machines that start without anybody there.

The file is text: 32 bytes in hex or base64, mode 0600. Whoever copies it and the vault has both, so
it belongs on another disk, or on a medium that is taken out.
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from veilface_client.key_providers.private_files import read_private
from veilface_client.key_providers.wrapped import parse_wrapped, unwrap_under, wrap_under
from veilface_common.crypto.envelope import KEY_BYTES, key_id
from veilface_common.errors import KeyFileError
from veilface_common.files import sync_folder, write_atomically


class KeyFileProvider:
    """Wraps under the key of a file."""

    kind = "key-file"

    def __init__(self, key: bytes) -> None:
        self._key = key

    def wrap(self, key: bytes) -> bytes:
        """Return `key` [32] wrapped."""
        return wrap_under(self._key, self.kind, {}, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the key [32] that `wrap` was given.

        Raises:
            WrongKey: under the key of another file.
            VaultError: not by a key file, damaged, or of another format.
        """
        record = parse_wrapped(wrapped, self.kind)
        return unwrap_under(self._key, record, hint="is this the vault's key file?")

    def __repr__(self) -> str:
        """Say which key it is, not what it is."""
        return f"KeyFileProvider({key_id(self._key).hex()})"


def create_key_file(path: Path) -> None:
    """Write a new random key to `path`, whole or not at all, for its owner alone.

    Raises:
        KeyFileError: something is there: a key once lost cannot be made again.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_atomically(draft, secrets.token_bytes(KEY_BYTES).hex().encode() + b"\n")
    try:
        os.link(draft, path)  # which, other than a rename, replaces nothing
    except FileExistsError:
        raise KeyFileError(f"expected no file at {path} yet", hint="choose another name") from None
    finally:
        draft.unlink()
    sync_folder(path.parent)


def load_key_file(path: Path) -> KeyFileProvider:
    """Return the provider of the key in a file. Raises KeyFileError as `read_key` does."""
    return KeyFileProvider(read_key(path))


def read_key(path: Path) -> bytes:
    """Return the key [32] in a file.

    Raises:
        KeyFileError: there is none, others may read it, or it is not 32 bytes in hex or base64.
    """
    text = read_private(path, "a key").strip()
    try:
        key = bytes.fromhex(text) if len(text) == 64 else base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(
            f"expected {KEY_BYTES} bytes in hex or base64 in {path}, got something else"
        )
    return key
