from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from veilface_common.errors import ArtifactError, ConfigError
from veilface_simulations import results
from veilface_simulations.compare import (
    Run,
    compare,
    compare_html,
    differing_settings,
    load_runs,
)
from veilface_simulations.results import Result

MakeResult = Callable[..., Result]


@pytest.fixture
def runs(made_up: MakeResult) -> tuple[Run, Run]:
    other = dataclasses.replace(made_up(0.15), seed=2, preset="faces")
    return Run(name="runs/a", result=made_up()), Run(name="runs/b", result=other)


def test_table_reads_like_this(made_up: MakeResult) -> None:
    """One run, in the columns that a terminal shows."""
    assert compare([Run(name="runs/a", result=made_up())]).splitlines() == [
        "Run     Trained             EER   95% interval  TAR at 1%  TAR at 0.1%  Rank-1",
        "runs/a  together          11.0%  10.0 to 12.0%      50.0%            \N{EN DASH}   60.0%",
        "        each alone, mean  22.0%                     50.0%            \N{EN DASH}   60.0%",
        "        all in one place  10.0%   9.0 to 11.0%      50.0%            \N{EN DASH}   60.0%",
        "        gap closed          92%",
    ]


def test_only_settings_that_differ_are_listed(runs: tuple[Run, Run]) -> None:
    """Equal settings are no news."""
    assert differing_settings(runs) == [("preset", "demo", "faces"), ("seed", "1", "2")]
    assert differing_settings(runs[:1]) == []


def test_other_people_are_pointed_out(runs: tuple[Run, Run]) -> None:
    """Another seed holds out other people, so the figures are not of the same test."""
    assert "not measured on the same people" in compare(runs)
    assert "not measured on the same people" not in compare([runs[0], runs[0]])


def test_page_escapes_names(runs: tuple[Run, Run]) -> None:
    """A folder named as a script is shown as text."""
    page = compare_html([dataclasses.replace(runs[0], name="<script>x"), runs[1]])
    assert "<script" not in page
    assert page.count("&lt;script&gt;x") == 2
    assert "2 runs side by side" in page


def test_runs_come_from_their_folders(tmp_path: Path, made_up: MakeResult) -> None:
    """A folder with a result is a run; a folder without is refused."""
    result = dataclasses.replace(made_up(), arms=made_up().arms[1:])
    results.save_result(result, tmp_path / results.FILE_NAME)
    assert load_runs([tmp_path]) == (Run(name=str(tmp_path), result=result),)
    with pytest.raises(ArtifactError):
        load_runs([tmp_path, tmp_path / "none"])


def test_nothing_to_compare_is_an_error() -> None:
    """No run is not an empty table."""
    with pytest.raises(ConfigError):
        compare([])
    with pytest.raises(ConfigError):
        compare_html([])
