"""HOST:PORT, as people write it and as an invitation carries it."""

from __future__ import annotations

import re

from veilface_common.errors import ConfigError

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_PORT = re.compile(r"[0-9]{1,5}")


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT. Raises ConfigError when it is something else."""
    host, _, port = address.rpartition(":")
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port):
        raise ConfigError(
            f"expected an address as HOST:PORT, got {address[:100]!r}", hint="such as 10.0.0.5:8443"
        )
    if not 0 < int(port) < 65536:
        raise ConfigError(f"expected a port in [1, 65535], got {port}")
    return host.strip("[]"), int(port)
