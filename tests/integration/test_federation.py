"""A whole federation in one process, and the same one under Flower's engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from flwr.app import Context, Message, RecordDict

from veilface_client import app as client
from veilface_client.failures import load_failures
from veilface_client.keeper import Keeper
from veilface_client.organisation import SETTINGS
from veilface_common import protocol, tensors, wire
from veilface_common.errors import FederationError
from veilface_common.protocol import DescribeRequest, TrainRequest
from veilface_server.checkpoint import RoundRecord, load_records, load_state, server_key
from veilface_simulations import inprocess
from veilface_simulations.experiment import Experiment
from veilface_simulations.flower import MARK, run_with_flower
from veilface_simulations.inprocess import run_in_process
from veilface_simulations.world import Federation, World

Build = Callable[..., tuple[Experiment, World]]


def train(experiment: Experiment, world: World, workers: int = 1) -> tuple[RoundRecord, ...]:
    federation = world.federations[0]
    folders = {name: federation.organisations / name for name in federation.members}
    run_in_process(experiment.config, folders, federation.server, workers)
    return load_records(federation.server)


def digests(records: tuple[RoundRecord, ...]) -> list[str]:
    return [record.model_sha256 for record in records]


def request_of(experiment: Experiment, federation: Federation) -> TrainRequest:
    state = load_state(federation.server, experiment.config)
    assert state is not None
    model = tensors.to_bytes(state.model)
    return TrainRequest(round=state.round, config=experiment.config, model=model)


def test_threads_and_repetition_do_not_change_a_bit(build: Build) -> None:
    """One organisation after another, or all at once: the same models after every round."""
    one, three = train(*build("one"), workers=1), train(*build("three"), workers=3)
    assert digests(one) == digests(three)
    assert len(set(digests(one))) == 2


def test_flower_gives_the_same_model_and_leaves_nothing_behind(
    build: Build, tmp_path: Path
) -> None:
    """Bit for bit the model of the in-process engine; no process of the run is left."""
    experiment, world = build("flower")
    federation = world.federations[0]
    work = tmp_path / "flower" / "flower"
    run_with_flower(experiment.config, federation.organisations, federation.server, 2, work)
    assert digests(load_records(federation.server)) == digests(train(*build("inprocess")))
    marks = []
    for process in psutil.process_iter():
        try:
            marks.append(process.environ().get(MARK))
        except psutil.Error:
            continue
    assert str(work.resolve()) not in marks
    bundle = {path.name for path in (work / "app").rglob("*") if path.is_file()}
    assert bundle == {"pyproject.toml"}


def test_an_organisation_without_its_faces_is_left_out(build: Build) -> None:
    """Its folder is broken: it cannot even say who it is, so the others train without it."""
    experiment, world = build()
    organisation = world.federations[0].organisations / "org-2"
    (organisation / SETTINGS).write_text("{}")
    records = train(experiment, world)
    assert [record.accepted for record in records] == [("org-1", "org-3")] * 2
    assert all("ArtifactError" in " ".join(record.left_out.values()) for record in records)
    assert "organisation's settings" in load_failures(organisation)[0]


def test_an_organisation_that_fails_is_named_with_its_reason(build: Build) -> None:
    """Faces that vanish between rounds: named in the record, and the round goes on."""
    experiment, world = build(rounds=1)
    faces = world.faces.path
    settings = world.federations[0].organisations / "org-3" / SETTINGS
    body = json.loads(settings.read_text())
    settings.write_text(json.dumps(body | {"people": []}))
    (record,) = train(experiment, world)
    assert faces.exists()
    assert list(record.left_out) == ["org-3"]
    home = load_failures(world.federations[0].organisations / "org-3")
    assert "got 0" in home[0]  # a number of people: it stays there
    assert "got 0" not in record.left_out["org-3"]
    assert "DataError" in record.left_out["org-3"]
    assert "org-3" not in record.accepted


def test_an_organisation_that_hangs_is_left_behind(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the timeout the round is closed with the replies that are there."""
    experiment, world = build(rounds=1, timeout_seconds=8)
    release = threading.Event()
    real = Keeper.train

    def hang(self: Keeper, request: TrainRequest) -> protocol.TrainReply:
        if self._name == "org-1":
            release.wait()
        return real(self, request)

    monkeypatch.setattr(Keeper, "train", hang)
    (record,) = train(experiment, world, workers=3)
    release.set()
    assert record.left_out == {"org-1": "no reply within 8 s"}


def test_too_few_organisations_end_the_run_with_a_clear_error(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All fail: the error says who and why."""

    def fail(*_: object) -> protocol.TrainReply:
        raise RuntimeError("no disk")

    monkeypatch.setattr(Keeper, "train", fail)
    with pytest.raises(FederationError, match=r"round 1: .* got 0 .*org-1: .*RuntimeError"):
        train(*build())


def test_a_repeated_request_gives_the_same_reply(build: Build) -> None:
    """The coordinator crashed before it wrote the round down, and asks again."""
    experiment, world = build()
    train(experiment, world)
    federation = world.federations[0]
    keeper = Keeper.open(federation.organisations / "org-1")
    request = request_of(experiment, federation)
    assert keeper.train(request) == keeper.train(request)


def test_the_courier_listens_to_the_organisation_alone(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run configuration that names another organisation's folder changes nothing."""
    experiment, world = build()
    organisations = world.federations[0].organisations
    monkeypatch.delenv(client.KEEPER_VARIABLE, raising=False)
    seen: list[str] = []

    class Recorder(inprocess.InProcessGrid):
        def _handle(self, message: Message) -> Message:
            node = message.metadata.dst_node_id
            context = Context(
                run_id=1,
                node_id=node,
                node_config={client.KEEPER_SETTING: f"folder:{organisations / 'org-1'}"},
                state=RecordDict(),
                run_config={client.KEEPER_SETTING: f"folder:{organisations / 'org-2'}"},
            )
            reply = client.app(message, context)
            seen.append(protocol.decode_description(wire.from_record(reply.content)).organisation)
            return reply

    train(experiment, world)  # sets Flower's task identity, without which there are no messages
    grid = Recorder(client.app, [tmp_path], 1)
    key = server_key(world.federations[0].server)
    content = wire.to_record(protocol.encode_request(DescribeRequest(), to="", key=key))
    list(grid.send_and_receive([Message(content, 100, wire.DESCRIBE)]))
    assert seen == ["org-1"]


def test_nothing_but_names_and_updates_leaves(build: Build) -> None:
    """A reply holds arrays of the model's own names and shapes; the head is not among them."""
    experiment, world = build()
    train(experiment, world)
    federation = world.federations[0]
    request = request_of(experiment, federation)
    reply = Keeper.open(federation.organisations / "org-2").train(request)
    sent, model = tensors.from_bytes(reply.update), tensors.from_bytes(request.model)
    assert {k: v.shape for k, v in sent.items()} == {k: v.shape for k, v in model.items()}
    kept = {path.name for path in (federation.organisations / "org-2").iterdir()}
    own = {"asked.json", "coordinators", "door.lock", "organisation.key", "organisation.pub"}
    assert kept - own == {"history.json", "organisation.json"}
