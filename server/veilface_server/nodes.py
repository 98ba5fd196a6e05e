"""Members' nodes, as Flower's SuperLink knows them; asked through `flwr supernode`."""

from __future__ import annotations

import tempfile
from collections.abc import Collection

from veilface_common.errors import ConfigError, EngineError
from veilface_server.flower_command import CONNECTION, flwr
from veilface_server.home import Home
from veilface_server.link import environment_of

_IN_USE = "already in use"
_GONE = "unregistered"


def node_states(home: Home) -> dict[str, str]:
    """Return {number of a node: `registered`, `online`, `offline` or `unregistered`}.

    Raises:
        EngineError: Flower does not answer.
    """
    nodes = flwr(["supernode", "ls", CONNECTION], environment_of(home)).get("nodes")
    found = nodes if isinstance(nodes, list) else []
    return {str(node["node-id"]): str(node["status"]) for node in found}


def register_node(home: Home, name: str, key: str, known: Collection[str]) -> str:
    """Return Flower's number of a node, registered now; the same where a crash cut that off.

    Args:
        home: the coordinator's folder.
        name: the organisation's.
        key: the node's, an OpenSSH line.
        known: numbers of the nodes of all members.

    Raises:
        ConfigError: the key belonged to a member that was removed.
        EngineError: Flower does not answer.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".pub") as file:
        file.write(key + "\n")
        file.flush()
        try:
            answer = flwr(
                ["supernode", "register", file.name, CONNECTION, "--name", name],
                environment_of(home),
            )
        except EngineError as error:
            if _IN_USE not in str(error):
                raise
        else:
            return str(answer["node-id"])
    # Only this registers nodes: one that no member has was registered just before a crash.
    states = node_states(home)
    lost = [node for node, state in states.items() if state != _GONE and node not in known]
    if len(lost) == 1:
        return lost[0]
    raise ConfigError(
        f"expected a new node key of {name!r}, got one that was removed before",
        hint=f"the organisation removes HOME/node; then veilface-server remove {name!r}, invite it "
        "and let it join again",
    )


def unregister_node(home: Home, node: str) -> None:
    """Take a node out of the federation; that it is out already is no error.

    Raises:
        EngineError: Flower does not answer.
    """
    if node_states(home).get(node, _GONE) != _GONE:
        flwr(["supernode", "unregister", node, CONNECTION], environment_of(home))
