"""The Flower ClientApp: a courier. No data, no keys, no torch; it forwards to the keeper.

Where the keeper is, only the organisation says: the node's own setting `keeper`, or the variable
VEILFACE_KEEPER. Nothing in a message or in the run's configuration can point it elsewhere.

    unix:PATH          the socket of `veilface serve`, another process of another user
    folder:PATH        the organisation's folder, the keeper is called in this process (simulation)
    simulation:PATH    a folder of such folders; Flower's partition number picks one
"""

from __future__ import annotations

import os
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from veilface_client.courier import carry
from veilface_common import wire
from veilface_common.errors import ConfigError
from veilface_common.wire import Envelope

KEEPER_SETTING = "keeper"
KEEPER_VARIABLE = "VEILFACE_KEEPER"

app = ClientApp()


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Carry the question who the organisation is, and the answer."""
    return _forwarded(message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Carry a round's request to the keeper, and back what it is willing to release."""
    return _forwarded(message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Carry the request for figures to the keeper, and back what it is willing to release."""
    return _forwarded(message, context)


def _forwarded(message: Message, context: Context) -> Message:
    envelope = _answer(wire.from_record(message.content), context)
    return Message(wire.to_record(envelope), reply_to=message)


def _answer(envelope: Envelope, context: Context) -> Envelope:
    """Return the keeper's answer.

    Raises:
        ConfigError: no address of a keeper, or one of an unknown kind.
        ProtocolError: the keeper refused, or is away.
    """
    address = context.node_config.get(KEEPER_SETTING) or os.environ.get(KEEPER_VARIABLE, "")
    kind, _, where = str(address).partition(":")
    if kind == "unix" and where:
        return carry(Path(where), envelope)
    if kind == "folder" and where:
        return _in_process(Path(where), envelope)
    if kind == "simulation" and where:
        folders = sorted(path for path in Path(where).iterdir() if path.is_dir())
        return _in_process(folders[int(context.node_config["partition-id"])], envelope)
    raise ConfigError(
        f"expected the keeper's address as unix:PATH, got {str(address)!r}",
        hint=f"set {KEEPER_VARIABLE}",
    )


def _in_process(folder: Path, envelope: Envelope) -> Envelope:
    from veilface_client.door import Door  # noqa: PLC0415 -- torch, only when called in process

    return Door(folder).answer(envelope)
