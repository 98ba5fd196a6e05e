"""What becomes of a run that Flower ends, without Flower: what it says is made up."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from veilface_common.config import RunConfig
from veilface_common.errors import EngineError
from veilface_server.flower_command import Standing
from veilface_simulations import flower

SILENT = Standing("finished:failed", "No heartbeat received from the task")


class Alive(subprocess.Popen[bytes]):
    """A SuperLink that goes on."""

    def __init__(self) -> None:
        """Start nothing."""

    def __del__(self, _maxsize: int = 0, _warn: object = None) -> None:
        """There is no process to look after."""

    def poll(self) -> int | None:
        """It never ends."""
        return None


def follow(work: Path, monkeypatch: pytest.MonkeyPatch, said: list[Standing], log: str) -> int:
    """Return how often Flower was asked until the run had ended well."""
    asked = 0

    def answer(*_asked: object) -> Standing:
        nonlocal asked
        asked += 1
        return said[asked - 1]

    monkeypatch.setattr(flower, "standing_of", answer)
    monkeypatch.setattr(flower, "_GLANCE_SECONDS", 0.001)
    monkeypatch.setattr(flower, "_ASK_SECONDS", 0.1)
    (work / "superlink.log").write_text(log)
    flower._follow("7", Alive(), work, {})
    return asked


def test_flower_is_asked_when_its_log_says_that_a_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And now and then, lest a log that says nothing of it keep us for ever."""
    done = Standing("finished:completed")
    assert follow(tmp_path, monkeypatch, [done], "INFO: Finished task 3 of run 7") == 1
    assert follow(tmp_path, monkeypatch, [Standing("running"), done], "nothing") == 2


def test_why_a_run_failed_is_our_own_error_or_what_flower_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own first; the last line of a log, about requests that were answered, is no reason."""
    failed = Standing("finished:failed", "No room left")
    ours = "veilface_common.errors.FederationError: 1 of 3 answered\nPOST /v1/list-runs 200"
    for log, reason in ((ours, "FederationError: 1 of 3 answered"), ("POST 200", "No room left")):
        with pytest.raises(EngineError, match=f"as finished:failed: {reason}"):
            follow(tmp_path, monkeypatch, [failed], f"Finished task 3\n{log}")


def test_a_run_that_was_only_slow_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice; a run that failed for a reason is not."""
    left: list[Standing] = []
    begun = 0

    def run_once(work: Path, *_rest: object) -> None:
        nonlocal begun
        begun += 1
        follow(work, monkeypatch, [left.pop(0)], "Finished task 3")

    monkeypatch.setattr(flower, "_run_once", run_once)

    def run(*said: Standing) -> int:
        nonlocal begun
        left[:], begun = said, 0
        flower.run_with_flower(RunConfig(), tmp_path, tmp_path, 1, tmp_path / "work")
        return begun

    assert run(SILENT, SILENT, Standing("finished:completed")) == 3
    logs = {path.name for path in (tmp_path / "work").glob("*.log")}
    assert logs == {"lost-1.log", "lost-2.log", "superlink.log"}
    with pytest.raises(EngineError, match="3 times: no sign of life for a minute"):
        run(SILENT, SILENT, SILENT)
    with pytest.raises(EngineError, match="disk"):
        run(Standing("finished:failed", "disk"), Standing("finished:completed"))
    assert begun == 1
