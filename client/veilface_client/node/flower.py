"""What we rely on in Flower's inside, and that it is there.

Flower has no seam for a site's own rules, so the guard stands where Flower's parts meet. Those
places move between minor releases: another one than ours is refused before anything starts.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from veilface_common.errors import EngineError

RELEASE = "1.41"  # of flwr
_PARAMETERS: Mapping[str, Sequence[str]] = {
    "install_from_fab": ("fab_file", "install_dir", "skip_prompt"),
    "get_load_client_app_fn": ("default_app_ref", "app_path", "multi_app"),
    "run_clientapp": (
        "runtime_api_address", "token", "insecure", "certificates", "parent_pid",
        "runtime_dependency_install",
    ),
}  # fmt: skip
PROGRAMS = (
    "flwr-agentapp", "flwr-clientapp", "flwr-connector", "flwr-model", "flwr-serverapp",
    "flwr-simulation",
)  # fmt: skip


def verify_flower() -> None:
    """Do nothing if the installed Flower is the one that the guard was made for.

    Raises:
        EngineError: it is not.
    """
    found = version("flwr")
    if not found.startswith(f"{RELEASE}."):
        raise EngineError(
            f"expected Flower {RELEASE}, got {found}", hint=f"pip install 'flwr=={RELEASE}.*'"
        )
    from flwr.supercore.constant import TASK_TYPE_TO_COMMAND  # noqa: PLC0415 -- takes a second
    from flwr.supernode.runtime import run_clientapp  # noqa: PLC0415 -- the same

    for name, expected in _PARAMETERS.items():
        function = getattr(run_clientapp, name, None)
        parameters = tuple(inspect.signature(function).parameters) if function else None
        if parameters != expected:
            raise EngineError(f"expected {name}{expected} in Flower {found}, got {parameters}")
    if set(TASK_TYPE_TO_COMMAND.values()) != set(PROGRAMS):
        raise EngineError(f"expected Flower {found} to start {', '.join(PROGRAMS)} alone")
