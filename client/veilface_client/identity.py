"""Who an organisation is to the others, and which coordinators it knows.

DIR/organisation.key      signs its replies (Ed25519, 0600); organisation.pub is for the others
DIR/coordinators/*.pub    keys of coordinators that it takes requests from, one file each
"""

from __future__ import annotations

import secrets
from pathlib import Path

from veilface_common.crypto.signing import (
    SigningKey,
    VerifyKey,
    load_signing_key,
    load_verify_key,
    save_signing_key,
)
from veilface_common.files import PUBLIC, write_atomically

KEY = "organisation.key"
COORDINATORS = "coordinators"


def make_identity(folder: Path) -> SigningKey:
    """Return the organisation's key; a new one where there is none.

    Raises:
        KeyFileError: it cannot be used.
    """
    if not (folder / KEY).exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_signing_key(folder / KEY, SigningKey.from_seed(secrets.token_bytes(32)))
    return load_signing_key(folder / KEY)


def load_identity(folder: Path) -> SigningKey:
    """Return the organisation's key. Raises KeyFileError when it is missing or open to others."""
    return load_signing_key(folder / KEY)


def trust_coordinator(folder: Path, name: str, key: VerifyKey) -> None:
    """Take requests that `key` signed from now on; `name` is that of its file."""
    keys = folder / COORDINATORS
    keys.mkdir(parents=True, exist_ok=True)
    write_atomically(keys / f"{name}.pub", key.pem, mode=PUBLIC)


def load_coordinators(folder: Path) -> dict[str, VerifyKey]:
    """Return {fingerprint: key} of the coordinators that the organisation knows.

    Raises:
        KeyFileError: a file holds no key.
    """
    keys = [load_verify_key(path) for path in sorted((folder / COORDINATORS).glob("*.pub"))]
    return {key.fingerprint: key for key in keys}
