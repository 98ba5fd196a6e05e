"""The guard in Flower's place: what it replaces is there, and what it puts there holds."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from flwr.supercore.task_identity import TaskIdentity
from tests.client.node.test_bundles import OURS, packed

from veilface_client.app import app
from veilface_client.node import flower, guard, programs
from veilface_client.node.bundles import load_refused
from veilface_client.node.flower import PROGRAMS, verify_flower
from veilface_common.bundle import build_bundle
from veilface_common.errors import AccessDenied, EngineError


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Flower's module, with the guard in it for the time of a test."""
    module = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    for name in ("install_from_fab", "get_load_client_app_fn"):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(TaskIdentity, "_run_id", 7)
    guard.stand_guard(tmp_path)
    return module


def test_flower_is_as_the_guard_needs_it() -> None:
    """The contract with Flower's inside: the functions, their parameters, the programs."""
    verify_flower()


def test_flower_calls_what_the_guard_replaces() -> None:
    """A name that is there and that nobody calls would guard nothing."""
    source = inspect.getsource(
        importlib.import_module("flwr.supernode.runtime.run_clientapp").run_clientapp
    )
    assert "install_from_fab(fab.content, skip_prompt=True)" in source
    assert "load_client_app_fn = get_load_client_app_fn(" in source
    assert source.index("install_from_fab(") < source.index("load_client_app_fn(")


def test_another_flower_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its inside may have moved, nothing starts."""
    monkeypatch.setattr(flower, "version", lambda _: "1.42.0")
    with pytest.raises(EngineError, match=r"expected Flower 1\.41, got 1\.42\.0"):
        verify_flower()
    monkeypatch.undo()
    monkeypatch.setattr(flower, "PROGRAMS", PROGRAMS[1:])
    with pytest.raises(EngineError, match="alone"):
        verify_flower()


def test_hostile_bundle_is_refused_before_anything_is_unpacked(
    guarded: Any, tmp_path: Path
) -> None:
    """One that carries its own `veilface_client`; the refusal is written down."""
    content = packed({**OURS, "veilface_client/app.py": b"import os"})
    with pytest.raises(AccessDenied, match="approved"):
        guarded.install_from_fab(content, skip_prompt=True)
    [refusal] = load_refused(tmp_path)
    assert (refusal.run, "approved" in refusal.reason) == ("7", True)
    assert {path.name for path in tmp_path.rglob("*")} == {"refused.jsonl"}


def test_what_runs_is_the_installed_courier_whatever_the_coordinator_names(
    guarded: Any, tmp_path: Path
) -> None:
    """A name with a path in it, or of another app, leads nowhere else."""
    guarded.install_from_fab(build_bundle(), skip_prompt=True)
    load = guarded.get_load_client_app_fn(default_app_ref="", app_path=None, multi_app=True)
    assert load("../../evil/app", "../..", "00") is app
    assert not list(tmp_path.iterdir())


def test_every_program_that_flower_may_start_is_the_guard(tmp_path: Path) -> None:
    """A coordinator that declares another kind of task meets the same guard; PATH has no more."""
    programs.write_programs(tmp_path)
    found = {path.name: path.read_text() for path in (tmp_path / "bin").iterdir()}
    assert set(found) == set(PROGRAMS)
    started = f"-I -m veilface_client.node.guard_process {tmp_path}"
    assert all(started in text for text in found.values())
    assert programs.environment(tmp_path, "unix:/k")["PATH"] == str(tmp_path / "bin")


def test_programs_see_where_the_keeper_is_and_no_secret_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the operator's shell holds is nothing for whoever takes over a node."""
    monkeypatch.setenv("VEILFACE_PASSPHRASE_FILE", "/secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    seen = programs.environment(tmp_path, "unix:/k")
    assert seen["VEILFACE_KEEPER"] == "unix:/k"
    assert not {"VEILFACE_PASSPHRASE_FILE", "PYTHONPATH"} & set(seen)
