"""A machine of its own for a node: a network namespace, and a cable that can be pulled out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass(frozen=True, kw_only=True)
class Cable:
    """From the coordinator's machine, at `address`, to a namespace."""

    name: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """Words before a command that is to run at the other end."""
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def pull(self) -> None:
        """Nothing passes from now on, and nobody is told so."""
        _ip("-n", self.name, "link", "set", f"{self.name}b", "down")

    def plug(self) -> None:
        """It passes again."""
        _ip("-n", self.name, "link", "set", f"{self.name}b", "up")


@contextmanager
def laid() -> Iterator[Cable]:
    """Lay a cable; needs root, as a machine's network does."""
    number = os.getpid() % 200
    name, subnet = f"vfd{number}", f"10.77.{number}"
    cable = Cable(name=name, address=f"{subnet}.1")
    _ip("netns", "add", name)
    try:
        _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        _ip("addr", "add", f"{subnet}.1/30", "dev", f"{name}a")
        _ip("link", "set", f"{name}a", "up")
        _ip("-n", name, "addr", "add", f"{subnet}.2/30", "dev", f"{name}b")
        _ip("-n", name, "link", "set", "lo", "up")
        cable.plug()
        yield cable
    finally:
        _ip("netns", "del", name)  # the cable goes with it
