"""A coordinator and three organisations on this machine, for as long as the drill lasts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from tests.drill import disk
from tests.drill.network import Cable
from tests.drill.services import Service, wait_until
from tests.integration.deployment import free_port

from veilface_client.keeper_probe import is_answered
from veilface_client.node.programs import MARK as NODE_MARK
from veilface_client.node.status import age_seconds, load_status
from veilface_common.config import RunConfig, from_flat
from veilface_server import runs
from veilface_server.checkpoint import load_records
from veilface_server.flower_command import is_listening
from veilface_server.home import Home
from veilface_server.link import MARK as LINK_MARK
from veilface_simulations.cli import main as simulate
from veilface_simulations.inprocess import run_in_process

ORGANISATIONS = ("bank", "school", "shop")
ROUNDS = 2
PROGRAMS = Path(sys.executable).parent
_SEEN_SECONDS = 40.0
_PASSPHRASE = "passphrase.txt"  # noqa: S105 -- the name of a file
_POLICY = """unit = "identity"
epsilon = 1000.0
delta = 1e-5
max_sample_rate = 1.0

[requests]
models = ["tiny/128"]
min_participants = 2
"""
_TRAIN = """--privacy identity --rounds 2 --epsilon 8 --set privacy.method=whitening
 --set privacy.sample-rate=1.0 --set privacy.steps=1 --set privacy.max-gradient-norm=0.1"""


@dataclass(frozen=True, kw_only=True)
class Organisation:
    """One of them: its folder, its keeper and its node."""

    name: str
    folder: Path
    keeper: Service
    node: Service

    @property
    def training(self) -> Path:
        """Where ledger and replies lie."""
        return self.folder / "training"

    @property
    def is_ready(self) -> bool:
        """Whether the keeper answers and the node says that it is online."""
        status = load_status(self.folder / "node")
        return (
            is_answered(self.folder / "keeper.sock")
            and status is not None
            and self.node.is_running
            and status.state == "online"
            and age_seconds(status.seen, datetime.now(UTC)) < _SEEN_SECONDS
        )


@dataclass(frozen=True, kw_only=True)
class Federation:
    """All of them."""

    place: Path
    address: str
    cable: Cable  # to the bank's node
    coordinator: Service
    organisations: Mapping[str, Organisation]

    @cached_property
    def home(self) -> Home:
        """The coordinator's folder."""
        return Home(self.place / "coordinator")

    @property
    def services(self) -> Sequence[Service]:
        """Everything that a service manager would keep."""
        parts = [(o.keeper, o.node) for o in self.organisations.values()]
        return [self.coordinator, *(service for pair in parts for service in pair)]

    def command(self, program: str, folder: str, words: str) -> str:
        """Run one of our commands to its end and return what it printed."""
        done = subprocess.run(
            [str(PROGRAMS / program), "--home", folder, *words.split()],
            cwd=self.place,
            env={**os.environ, "VEILFACE_PASSPHRASE_FILE": str(self.place / _PASSPHRASE)},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, (program, words, done.stdout, done.stderr)
        return done.stdout

    def audited(self, words: str) -> str:
        """Return what the auditor's program says."""
        command = [str(PROGRAMS / "veilface-audit"), *words.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def make_ready(self) -> None:
        """Start what does not run, and wait until all of them answer."""
        for service in self.services:
            service.start()
        wait_until(lambda: is_listening(self.address), "the coordinator")
        for organisation in self.organisations.values():
            wait_until(lambda o=organisation: o.is_ready, f"{organisation.name} online")  # type: ignore[misc]

    def first_run(self) -> str:
        """Train through the command, undisturbed, and return the run's name."""
        said = self.command("veilface-server", "coordinator", f"train {_TRAIN} --wait")
        return said.split()[1]

    def begin(self, like: str, **settings: object) -> str:
        """Begin a run with the settings of another, and return its name.

        Not through the command, which imports PyTorch for seconds: 25 runs would be minutes.
        """
        flat = {**runs.load_run(self.home, like).settings, **settings, "run": runs.new_name()}
        config = from_flat(RunConfig, flat)
        run = runs.create_run(self.home, config, epsilon=8.0, delta=1e-5, now=datetime.now(UTC))
        return run.id

    def resume(self, run: str) -> None:
        """Go on with a run that failed, as its operator does."""
        self.command("veilface-server", "coordinator", f"train --resume {run}")

    def end(self) -> None:
        """End all of them."""
        for service in reversed(self.services):
            service.end()


@contextmanager
def built(place: Path, cable: Cable) -> Iterator[Federation]:
    """Give a federation that is ready to train, and end it.

    The bank's node is at the other end of the cable; the school's training folder and the
    coordinator's runs lie on disks of their own.
    """
    address = f"{cable.address}:{free_port()}"
    (place / "policy.toml").write_text(_POLICY)
    (place / _PASSPHRASE).touch(mode=0o600)
    (place / _PASSPHRASE).write_text("a passphrase of the drill\n")
    coordinator = Service(
        name="coordinator",
        command=[str(PROGRAMS / "veilface-server"), "--home", "coordinator", "start"],
        place=place,
        mark=(LINK_MARK, str((place / "coordinator").resolve())),
    )
    federation = Federation(
        place=place,
        address=address,
        cable=cable,
        coordinator=coordinator,
        organisations={name: _organisation(place, name, cable) for name in ORGANISATIONS},
    )
    init = f"init --name city --address {address} --listen {address}"
    federation.command("veilface-server", "coordinator", init)
    coordinator.start()
    wait_until(lambda: is_listening(address), "the coordinator")
    for number, name in enumerate(ORGANISATIONS):
        _join(federation, name, seed=11 + number)
    school = federation.organisations["school"].training
    with disk.own(school), disk.own(federation.home.runs):
        try:
            federation.make_ready()
            yield federation
        finally:
            federation.end()


def reference_of(federation: Federation, run: str) -> list[str]:
    """Return the digests of the models after each round, from a run in this process on copies."""
    config = runs.load_run(federation.home, run).config
    again = shutil.copytree(
        federation.home.folder, federation.place / "again", ignore=shutil.ignore_patterns("flower")
    )
    folder = again / "runs" / run
    for name in ("rounds.jsonl", "checkpoint.sealed"):
        (folder / name).unlink()
    copies = {name: federation.place / "copies" / name for name in ORGANISATIONS}
    run_in_process(config, copies, again, workers=1)
    return [record.model_sha256 for record in load_records(folder)]


def _organisation(place: Path, name: str, cable: Cable) -> Organisation:
    program = str(PROGRAMS / "veilface")
    prefix = cable.prefix if name == "bank" else []
    return Organisation(
        name=name,
        folder=place / name,
        keeper=Service(
            name=f"keeper-{name}",
            command=[program, "--home", name, "serve", "--no-web"],
            place=place,
        ),
        node=Service(
            name=f"node-{name}",
            command=[*prefix, program, "--home", name, "node", "start"],
            place=place,
            mark=(NODE_MARK, str((place / name / "node").resolve())),
        ),
    )


def _join(federation: Federation, name: str, seed: int) -> None:
    place = federation.place
    faces = place / f"staff-{name}"
    assert simulate(["draw", "30x4", "--seed", str(seed), "--out", str(faces)]) == 0
    federation.command("veilface-server", "coordinator", f"invite {name} --out {name}.invitation")
    federation.command("veilface", name, f"init --name {name}")
    federation.command("veilface", name, f"join {name}.invitation")
    account = f"account open folder:{faces} --policy policy.toml"
    federation.command("veilface", name, f"{account} --people-declared 30 --photos-declared 120")
    training = federation.organisations[name].training
    settings = training / "organisation.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"seeded": True}))
    shutil.copytree(training, place / "copies" / name)
    federation.command("veilface-server", "coordinator", f"approve {name}")
