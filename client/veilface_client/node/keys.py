"""The key that the node shows Flower's SuperLink: EC P-384 in OpenSSH's format.

HOME/node/node.key        the private half, for its owner alone (0600); it never leaves
HOME/node/node.key.pub    the line that the coordinator registers
"""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from veilface_common.errors import KeyFileError
from veilface_common.files import PUBLIC, write_atomically


def create_node_key(path: Path) -> str:
    """Make a key in `path`, unless there is one, and return its public line.

    Raises:
        KeyFileError: what is there is no such key, or open to others.
    """
    if not path.exists():
        write_atomically(
            path,
            generate_private_key(SECP384R1()).private_bytes(
                Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
            ),
        )
    line = load_public_line(path)
    write_atomically(path.with_name(path.name + ".pub"), f"{line}\n".encode(), mode=PUBLIC)
    return line


def load_public_line(path: Path) -> str:
    """Return the public line of the private key in `path`, as `authorized_keys` has it.

    Raises:
        KeyFileError: there is none, it is of another kind, or others may read it.
    """
    try:
        content = path.read_bytes()
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise KeyFileError(f"expected a key in {path}: {error.strerror}") from error
    if mode & 0o077:
        raise KeyFileError(f"expected {path} to be for its owner alone", hint=f"chmod 600 {path}")
    try:
        key = load_ssh_private_key(content, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP384R1):
        raise KeyFileError(f"expected an EC P-384 key in OpenSSH's format in {path}")
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
