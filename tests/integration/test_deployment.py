"""The README's section 'Deploy', as it stands there: three organisations, real processes, TLS."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.deployment import (
    Terminal,
    commands_of,
    deploy_section,
    free_port,
    link_programs,
    policy_of,
    with_name,
)

from veilface_common.config import RunConfig, from_flat
from veilface_server.checkpoint import load_records
from veilface_simulations.cli import main
from veilface_simulations.inprocess import run_in_process

ORGANISATIONS = ("shop", "bank", "school")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small_run: Path) -> Path:
    """Return a folder with a small public model where the README has the demonstration's."""
    folder = tmp_path_factory.mktemp("deployment")
    shutil.copytree(small_run, folder / "runs" / "demo-public")
    link_programs(folder)
    (folder / "policy.toml").write_text(policy_of(deploy_section()))
    secret = folder / "passphrase.txt"
    secret.touch(mode=0o600)
    secret.write_text("a passphrase of your own\n")
    assert main(["draw", "2x8", "--seed", "10", "--out", str(folder / "people")]) == 0
    strangers = str(folder / "strangers")
    assert main(["draw", "40x2", "--seed", "30", "--out", strangers]) == 0
    for number, name in enumerate(ORGANISATIONS):
        out = str(folder / f"staff-{name}")
        assert main(["draw", "30x4", "--seed", str(11 + number), "--out", out]) == 0
    return folder


@pytest.fixture
def terminals(place: Path) -> Iterator[dict[str, Terminal]]:
    found = {name: Terminal(place=place) for name in ("coordinator", *ORGANISATIONS)}
    yield found
    for terminal in reversed(found.values()):
        terminal.end()


def as_named(commands: list[str], name: str) -> list[str]:
    named = with_name(commands, name)
    return [command.replace("folder:staff", f"folder:staff-{name}") for command in named]


def test_the_readme_s_deployment_runs(place: Path, terminals: dict[str, Terminal]) -> None:
    """Init, invite, join, train with privacy, release, accept, enrol, identify.

    With noise from a seed, the model is that of the simulation, bit for bit.
    """
    coordinator = terminals["coordinator"]
    first, joining, publishing, using = (
        commands_of(part) for part in re.split(r"\nEach organisation|\n`start`", deploy_section())
    )
    address = f"127.0.0.1:{free_port()}"
    export, init, start, invite = first
    coordinator.run(export)
    coordinator.run(init.replace("127.0.0.1:8440", address))
    coordinator.start(start, "link")
    coordinator.wait_for(address, "link")
    for name in ORGANISATIONS:
        (command,) = with_name([invite], name)
        coordinator.run(command)
    for name in ORGANISATIONS:
        join(terminals[name], as_named(joining, name), name)
        training = place / name / "training"
        make_seeded(training)
        shutil.copytree(training, place / "copies" / name)
    *approve, train, release = publishing
    for name in ORGANISATIONS:
        for command in with_name(approve, name):
            coordinator.run(command)
    coordinator.run(train)
    verify_simulation_agrees(place)
    coordinator.run(release)
    for name in ORGANISATIONS:
        told = [terminals[name].run(command) for command in with_name(using, name)]
        assert told[3].startswith("ada")
        assert "7.99" in told[4]
        audit = (
            f".venv/bin/veilface-audit {name}/training/ledger.db --key {name}/training/ledger.pub"
        )
        assert terminals[name].run(audit).startswith("PASS")


def join(terminal: Terminal, commands: list[str], name: str) -> None:
    *steps, serve, node = commands
    for command in steps:
        terminal.run(command)
    terminal.start(serve, f"keeper-{name}")
    terminal.start(node, f"node-{name}")
    terminal.wait_for("keeper:", f"keeper-{name}")


def make_seeded(training: Path) -> None:
    settings = training / "organisation.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"seeded": True}))


def verify_simulation_agrees(place: Path) -> None:
    """Run the same rounds in this process, on copies of the organisations' folders."""
    (folder,) = (path.parent for path in (place / "coordinator" / "runs").glob("*/run.json"))
    config = from_flat(RunConfig, json.loads((folder / "run.json").read_text())["settings"])
    deployed = load_records(folder)
    assert deployed[-1].round == config.federation.rounds
    assert set(deployed[-1].accepted) == set(ORGANISATIONS), deployed
    again = shutil.copytree(place / "coordinator", place / "again")
    for name in ("rounds.jsonl", "checkpoint.sealed"):
        (again / "runs" / folder.name / name).unlink()
    copies = {name: place / "copies" / name for name in ORGANISATIONS}
    run_in_process(config, copies, again, workers=1)
    simulated = load_records(again / "runs" / folder.name)
    assert [r.model_sha256 for r in simulated] == [r.model_sha256 for r in deployed]
