"""The Flower ClientApp: a courier. No data, no keys, no torch; it forwards to the keeper.

Where the keeper is, only the organisation says: the node's own setting `keeper`, or the variable
VEILFACE_KEEPER. Nothing in a message or in the run's configuration can point it elsewhere.

    folder:PATH        the organisation's folder, the keeper is called in this process (simulation)
    simulation:PATH    a folder of such folders; Flower's partition number picks one
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from veilface_client.failures import kept_at_home
from veilface_common import protocol
from veilface_common.errors import BudgetExceeded, ConfigError
from veilface_common.protocol import EvaluateReply, EvaluateRequest, TrainReply, TrainRequest

if TYPE_CHECKING:
    from veilface_client.keeper import Keeper

KEEPER_SETTING = "keeper"
KEEPER_VARIABLE = "VEILFACE_KEEPER"

app = ClientApp()


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Answer under which name the organisation takes part."""
    folder = _folder(context)
    with kept_at_home(folder, "describe"):
        description = _keeper(folder).describe()
    content = protocol.to_record(protocol.encode_description(description))
    return Message(content, reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Carry a round's request to the keeper, and back what it is willing to release."""
    request = protocol.decode_request(protocol.from_record(message.content), TrainRequest)
    folder = _folder(context)
    with kept_at_home(folder, f"train {request.round}"):
        keeper = _keeper(folder)
        try:
            reply = keeper.train(request)
        except BudgetExceeded as refusal:  # says what was asked for and spent, nothing of the faces
            name = keeper.describe().organisation
            reply = TrainReply(
                organisation=name, round=request.round, update=b"", refusal=str(refusal)
            )
    return Message(protocol.to_record(protocol.encode_reply(reply)), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Carry the request for figures to the keeper, and back what it is willing to release."""
    request = protocol.decode_request(protocol.from_record(message.content), EvaluateRequest)
    folder = _folder(context)
    with kept_at_home(folder, f"evaluate {request.round}"):
        keeper = _keeper(folder)
        try:
            reply = keeper.evaluate(request)
        except BudgetExceeded as refusal:  # as of training
            name = keeper.describe().organisation
            reply = EvaluateReply(
                organisation=name, round=request.round, scores=None, refusal=str(refusal)
            )
    return Message(protocol.to_record(protocol.encode_evaluation(reply)), reply_to=message)


def _keeper(folder: Path) -> Keeper:
    from veilface_client.keeper import Keeper  # noqa: PLC0415 -- torch, only when called in process

    return Keeper.open(folder)


def _folder(context: Context) -> Path:
    """Return the organisation's folder.

    Raises:
        ConfigError: no address, or one of an unknown kind.
    """
    address = context.node_config.get(KEEPER_SETTING) or os.environ.get(KEEPER_VARIABLE, "")
    kind, _, where = str(address).partition(":")
    if kind == "folder" and where:
        return Path(where)
    if kind == "simulation" and where:
        folders = sorted(path for path in Path(where).iterdir() if path.is_dir())
        return folders[int(context.node_config["partition-id"])]
    raise ConfigError(
        f"expected the keeper's address as folder:PATH, got {str(address)!r}",
        hint=f"set {KEEPER_VARIABLE}",
    )
