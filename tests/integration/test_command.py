"""The command as a person calls it: real processes, killed, resumed, given rubbish."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from veilface_common.artifact import MANIFEST
from veilface_server.checkpoint import RECORDS
from veilface_simulations.cli import main

ROUNDS = 4


def command(*arguments: object) -> list[str]:
    return [str(Path(sys.executable).parent / "veilface-sim"), *map(str, arguments)]


def small_run(folder: Path, cache: Path) -> list[str]:
    return command(
        "run", "--data", "drawn:16x4", "--organisations", 3, "--arms", "federated",
        "--preset", "smoke", "--rounds", ROUNDS, "--seed", 3, "--engine", "inprocess",
        "--out", folder, "--cache", cache,
    )  # fmt: skip


def resume(folder: Path, cache: Path) -> list[str]:
    return command("run", "--resume", folder, "--cache", cache)


def model_digest(folder: Path) -> str:
    return str(json.loads((folder / "model" / MANIFEST).read_bytes())["sha256"])


def finished_rounds(folder: Path) -> int:
    path = folder / "server" / RECORDS
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    subprocess.run(small_run(folder, cache), check=True, capture_output=True, timeout=300)
    return folder


@pytest.mark.parametrize("after", range(ROUNDS))
def test_a_killed_run_resumes_to_the_same_model(
    after: int, unbroken: Path, tmp_path: Path, cache: Path
) -> None:
    """`kill -9` after any round, then `--resume`: the model of a run that was not killed.

    The run is a process of its own, and once what resumes it, too.
    """
    folder = tmp_path / "run"
    process = subprocess.Popen(small_run(folder, cache), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while finished_rounds(folder) < after or not (folder / "run.json").exists():
        assert process.poll() is None or after == ROUNDS
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    if after == 1:
        subprocess.run(resume(folder, cache), check=True, capture_output=True, timeout=300)
    else:
        assert main(resume(folder, cache)[1:]) == 0
    assert model_digest(folder) == model_digest(unbroken)


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path, cache: Path) -> None:
    """Exit code 130, one line with the command that resumes, no traceback, in the midst of work.

    The run has far more rounds than it can finish, so that threads are training when it ends.
    """
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [*small_run(folder, cache), "--rounds", "5000"],
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 -- no thread of ours runs yet
    )
    try:
        while finished_rounds(folder) < 1:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()  # nothing, where it has ended
    assert process.returncode == 130
    assert f"veilface-sim run --resume {folder}" in errors.decode()
    assert "Traceback" not in errors.decode()
    assert "terminate" not in errors.decode()  # C++ aborting


def test_a_run_leaves_what_it_promises(unbroken: Path) -> None:
    """Report, model and a result whose keys others rely on."""
    result = json.loads((unbroken / "result.json").read_bytes())
    (arm,) = result["arms"]
    assert result["schema"] == 1
    assert (arm["arm"], arm["organisation"], arm["privacy"]) == ("federated", None, None)
    assert {"people", "images", "eer", "tar_at_far", "rank1", "seconds"} <= set(arm)
    assert set(arm["tar_at_far"]) == {"1e-2", "1e-3"}
    page = (unbroken / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_any_model_is_measured_on_any_people(
    unbroken: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate --json` prints the figures of a run's model on people it has not seen."""
    model = str(unbroken / "model")
    code = main(
        ["evaluate", "--model", model, "--data", "drawn:10x3", "--json", "--cache", str(cache)]
    )
    figures = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (figures["people"], figures["images"]) == (10, 30)
    assert 0 <= figures["eer"] <= 1


def test_runs_are_put_side_by_side(unbroken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`compare` prints a line for each arm."""
    assert main(["compare", str(unbroken), str(unbroken)]) == 0
    assert capsys.readouterr().out.count("together") == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["rum"], 2),
        (["run"], 2),
        (["run", "--data", "nothing:x", "--out", "OUT"], 2),
        (["run", "--data", "drawn:3", "--out", "OUT"], 2),
        (["run", "--data", "drawn:0x5", "--out", "OUT"], 2),
        (["run", "--data", "folder:/nowhere", "--out", "OUT"], 3),
        (["run", "--data", "drawn:4x4", "--arms", "all", "--out", "OUT"], 2),
        (["run", "--data", "drawn:4x4", "--held-out", "2", "--out", "OUT"], 2),
        (["run", "--data", "drawn:10x4", "--organisations", "9", "--out", "OUT"], 2),
        (["run", "--data", "drawn:40x1", "--out", "OUT"], 3),
        (["run", "--data", "drawn:4x4", "--set", "seed", "--out", "OUT"], 2),
        (["run", "--data", "drawn:4x4", "--set", "sead=1", "--out", "OUT"], 2),
        (["run", "--data", "drawn:4x4", "--seed", "-1", "--out", "OUT"], 2),
        (["run", "--data", "drawn:4x4", "--pairs", "/nowhere", "--out", "OUT"], 3),
        (["run", "--resume", "/nowhere"], 4),
        (["evaluate", "--model", "/nowhere", "--data", "drawn:4x4"], 4),
        (["compare", "/nowhere"], 4),
    ],
)
def test_unusable_input_is_one_line_and_a_code(
    arguments: list[str], code: int, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, one line on standard error, the exit code of its kind."""
    filled = [str(tmp_path / "out") if entry == "OUT" else entry for entry in arguments]
    if filled[:1] in (["run"], ["evaluate"]):
        filled += ["--cache", str(cache)]
    assert main(filled) == code
    lines = [
        line for line in capsys.readouterr().err.splitlines() if not line.startswith("reading ")
    ]
    assert len(lines) == 1
    assert lines[0].startswith("veilface-sim: ")


def test_a_folder_in_use_is_not_written_over(
    unbroken: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run into the same folder is refused, and the hint says how to resume."""
    assert main(small_run(unbroken, cache)[1:]) == 2
    assert f"--resume {unbroken}" in capsys.readouterr().err
