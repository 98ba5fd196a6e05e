"""What stands in for `flwr-clientapp`: it lets approved bundles in and starts the courier.

Flower's SuperExec starts a program by name for every message; the node's PATH has this one under
each of those names, whatever kind of task the coordinator declares. Two of Flower's steps are
replaced. Where it would unpack a bundle, the bundle is judged in memory, and nothing of it is
written. Where it would import the app that the bundle names, from the folder that the coordinator
names, it gets the installed courier. A refusal is raised where Flower answers for it: the
coordinator hears the reason at once.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.runtime import run_clientapp

from veilface_client.node.bundles import Refusal, load_approved, note_refusal, verify_bundle
from veilface_client.process import keep_memory_private
from veilface_common.errors import VeilfaceError

_PR_SET_PDEATHSIG = 1


def stand_guard(folder: Path) -> None:
    """Put our own steps in the place of Flower's; `folder` is the node's."""

    def admit(
        fab_file: bytes,
        install_dir: Path | None = None,
        skip_prompt: bool = False,  # noqa: FBT001, FBT002 -- Flower's signature
    ) -> Path:
        del install_dir, skip_prompt
        _admit(folder, fab_file)
        return folder

    def courier(
        default_app_ref: str,
        app_path: str | None,
        multi_app: bool,  # noqa: FBT001 -- Flower's signature
    ) -> Callable[[str, str, str], ClientApp]:
        del default_app_ref, app_path, multi_app
        return _load_courier

    vars(run_clientapp).update(install_from_fab=admit, get_load_client_app_fn=courier)


def main() -> None:
    """Handle one message."""
    _end_with_parent()
    keep_memory_private()
    arguments = _parser().parse_args()
    stand_guard(arguments.folder)
    run_clientapp.run_clientapp(
        runtime_api_address=arguments.runtime_api_address,
        token=arguments.token,
        insecure=True,  # on the loopback, from our own SuperExec
        parent_pid=arguments.parent_pid,
        runtime_dependency_install=False,
    )


def _parser() -> argparse.ArgumentParser:
    """Return the parser of what Flower's SuperExec passes; anything else is refused."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runtime-api-address", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--insecure", action="store_true", required=True)
    parser.add_argument("--parent-pid", type=int)
    return parser


def _end_with_parent() -> None:
    """Have the kernel end this process with the one that started it; Linux does."""
    parent = os.getppid()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if parent == 1 or os.getppid() != parent:  # it ended before we asked
        sys.exit(1)


def _admit(folder: Path, packed: bytes) -> None:
    try:
        verify_bundle(packed, [entry.sha256 for entry in load_approved(folder)])
    except VeilfaceError as error:
        note_refusal(
            folder,
            Refusal(
                time=datetime.now(UTC).isoformat(timespec="seconds"),
                run=str(TaskIdentity.run_id),
                sha256=hashlib.sha256(packed).hexdigest(),
                reason=str(error),
            ),
        )
        raise


def _load_courier(fab_id: str, fab_version: str, fab_hash: str) -> ClientApp:
    """Return the installed app; what the coordinator calls its bundle changes nothing."""
    del fab_id, fab_version, fab_hash
    from veilface_client.app import app  # noqa: PLC0415 -- only once a bundle was let in

    return app
