"""A sweep as a person calls it: stopped after its first run, resumed, read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from veilface_simulations import sweep as sweeps
from veilface_simulations.cli import main
from veilface_simulations.results import Result
from veilface_simulations.run import Display, Job

SMALL = (
    "sweep --data drawn:16x4 --public drawn:8x3 --organisations 2 --preset smoke "
    "--engine inprocess --set privacy.steps=2 --epsilon 8,inf"
)


def stops_after(runs: int, real: Callable[[Job, Display], Result]) -> Callable[..., Result]:
    """Return `run` with somebody at the keyboard who has had enough."""
    ended: list[Path] = []

    def run(job: Job, display: Display) -> Result:
        if len(ended) == runs:
            raise KeyboardInterrupt
        ended.append(job.folder)
        return real(job, display)

    return run


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_stopped_sweep_goes_on_without_its_finished_runs(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C says how to go on; then the first run stays untouched, and the sweep is written."""
    out = tmp_path / "sweep"
    with monkeypatch.context() as patched:
        patched.setattr(sweeps, "run", stops_after(1, sweeps.run))
        assert main([*SMALL.split(), "--out", str(out), "--cache", str(cache)]) == 130
    assert f"veilface-sim sweep --resume {out}" in capsys.readouterr().err
    assert not (out / "sweep.json").exists()
    before = files_of(out / "epsilon-8")

    assert main(["sweep", "--resume", str(out), "--cache", str(cache)]) == 0
    assert files_of(out / "epsilon-8") == before
    printed = capsys.readouterr().out.splitlines()
    starts = ["epsilon 8", "epsilon inf", "each alone, mean", "all in one place", "report: "]
    assert [line.startswith(start) for line, start in zip(printed, starts, strict=True)] == [
        True
    ] * 5

    written = json.loads((out / "sweep.json").read_bytes())
    private, openly = written["points"]
    runs = [
        json.loads((out / n / "result.json").read_bytes()) for n in ("epsilon-8", "epsilon-inf")
    ]
    assert [arm["arm"] for arm in runs[0]["arms"]] == ["federated", "central", "local", "local"]
    assert [arm["arm"] for arm in runs[1]["arms"]] == ["federated"]
    assert [point["eer"] for point in written["points"]] == [run["arms"][0]["eer"] for run in runs]
    assert private["spent"] == pytest.approx(8.0, rel=0.02)
    assert (private["steps"], openly["steps"]) == (4, None)
    assert (out / "epsilon-inf" / "report.html").exists()
    assert (out / "sweep.html").read_text().count("<svg ") == 1  # too few pairs for TAR
