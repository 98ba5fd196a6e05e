"""The guard as a process of its own, without what it never uses of Flower.

    python -I -m veilface_client.node.guard_process FOLDER --token T --runtime-api-address ...

One starts for every message, and most of what it takes is importing Flower: half of that for the
parts of servers, for the installer and for terminals. Stand-ins with nothing in them take their
place before anything is imported. Two of Flower's steps would miss something: the guard puts its
own in their place, and `verify_flower` has seen, in the node, that they are where we think.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType

import starlette.status

# A module, and the names that Flower 1.41 takes from it while it is imported.
_STAND_INS: Mapping[str, Mapping[str, object]] = {
    "fastapi": {"status": starlette.status},
    "flwr.cli.install": {"install_from_fab": None},  # the guard's own stands there
    "flwr.clientapp.utils": {"get_load_client_app_fn": None},  # the same
    "flwr.server": {},
    "flwr.serverapp": {},
    "flwr.supercore.error.http": {"BearerAuthenticationError": None, "http_error_translator": None},
    "requests": {},
    "typer": {"Exit": SystemExit},  # in a type
}
_WITHOUT = "httpx._main"  # httpx does without where a terminal's libraries are missing


def leave_out() -> None:
    """Put the stand-ins where Flower will look for its own. Before Flower is imported."""
    for name, content in _STAND_INS.items():
        module = ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module
    sys.modules[_WITHOUT] = None  # type: ignore[assignment]  # so that importing it fails


def main() -> None:
    """Handle one message."""
    leave_out()
    from veilface_client.node import guard  # noqa: PLC0415 -- imports Flower

    guard.main()


if __name__ == "__main__":
    main()
