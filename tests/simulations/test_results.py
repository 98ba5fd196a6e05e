from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from veilface_common.errors import ArtifactError
from veilface_common.score_histograms import BINS, Reported
from veilface_simulations import results
from veilface_simulations.results import Result

MakeResult = Callable[..., Result]
SAID = Reported(
    eer=0.12,
    low=0.1,
    high=0.15,
    tar_at_far_1e_2=0.4,
    tar_low=0.2,
    tar_high=0.7,
    organisations=2,
    deviation=4.5,
    genuine_histogram=(3.5, -1.25) * (BINS // 2),
    impostor_histogram=(-2.0, 9.0) * (BINS // 2),
)


def test_result_survives_its_file(made_up: MakeResult, tmp_path: Path) -> None:
    """What is saved is what is loaded, by file or by folder; a loss that was NaN reads as None."""
    result = made_up()
    results.save_result(result, tmp_path / results.FILE_NAME)
    loaded = results.load_result(tmp_path)
    assert loaded == results.load_result(tmp_path / results.FILE_NAME)
    assert loaded.arms[0].loss == (2.0, None, 1.5)
    arms = (dataclasses.replace(result.arms[0], loss=(2.0, None, 1.5)), *result.arms[1:])
    assert loaded == dataclasses.replace(result, arms=arms)


def test_reported_figures_survive_the_file(made_up: MakeResult, tmp_path: Path) -> None:
    """An arm holds what was reported of it, or null; files from before have no such key."""
    result = made_up()
    arms = (dataclasses.replace(result.arms[0], reported=SAID), *result.arms[1:])
    results.save_result(dataclasses.replace(result, arms=arms), tmp_path / "result.json")
    assert results.load_result(tmp_path).arms[0].reported == SAID
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["arms"][1]["reported"] is None
    del written["arms"][0]["reported"]
    assert results.from_json(written).arms[0].reported is None


def test_keys_that_others_read(made_up: MakeResult, tmp_path: Path) -> None:
    """The keys that issue 2 promises stand where it promises them."""
    results.save_result(made_up(), tmp_path / "result.json")
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["schema"] == 1
    assert written["warnings"] == ["one file is not an image"]
    promised = {"arm", "organisation", "privacy", "people", "images", "eer", "tar_at_far"}
    for arm in written["arms"]:
        assert promised | {"rank1", "seconds"} <= set(arm)
        assert arm["privacy"] is None
        assert set(arm["tar_at_far"]) == {"1e-2", "1e-3"}
    assert [arm["organisation"] for arm in written["arms"]] == [None, "site-0", "site-1", None]


def test_every_written_key_is_documented(made_up: MakeResult) -> None:
    """The schema's page names every key of a result, an arm and the figures."""
    page = (Path(__file__).parents[2] / "docs" / "result-schema.md").read_text()
    result = made_up()
    said = dataclasses.replace(result.arms[0], reported=SAID)
    written = results.to_json(dataclasses.replace(result, arms=(said, *result.arms[1:])))
    arm = written["arms"][0]
    reported = arm["reported"]
    for key in (*written, *arm, *arm["figures"], *arm["pairs"], *reported):
        assert key in page, key


@pytest.mark.parametrize(
    ("federated", "local", "closed"),
    [
        (0.11, (0.2, 0.24), (0.22 - 0.11) / (0.22 - 0.1)),
        (0.10, (0.2,), 1.0),
        (0.25, (0.2,), -0.5),
        (0.10, (0.1,), None),
        (0.10, (), None),
    ],
)
def test_gap_closed(
    made_up: MakeResult, federated: float, local: tuple[float, ...], closed: float | None
) -> None:
    """The share of the gap between the mean local and the central EER, or None without a gap."""
    assert made_up(federated, local).gap_closed == pytest.approx(closed)


@pytest.mark.parametrize("change", [{"schema": 2}, {"schema": None}, {"arms": 3}, {"seed": "1"}])
def test_foreign_result_is_rejected(
    made_up: MakeResult, tmp_path: Path, change: dict[str, object]
) -> None:
    """Another schema or another type is an ArtifactError, as is a missing key."""
    path = tmp_path / "result.json"
    path.write_text(json.dumps(results.to_json(made_up()) | change))
    with pytest.raises(ArtifactError, match="expected"):
        results.load_result(path)


def test_missing_key_is_rejected(made_up: MakeResult, tmp_path: Path) -> None:
    """A result without its seed cannot be repeated, so it is none."""
    written = results.to_json(made_up())
    del written["seed"]
    (tmp_path / "result.json").write_text(json.dumps(written))
    with pytest.raises(ArtifactError, match="seed"):
        results.load_result(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff\xfe"])
def test_damaged_file_is_rejected(tmp_path: Path, content: bytes | None) -> None:
    """No file, half a file and no JSON end in one error with a reason."""
    if content is not None:
        (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(ArtifactError, match="expected"):
        results.load_result(tmp_path)


def test_edited_headline_figure_is_rejected(made_up: MakeResult, tmp_path: Path) -> None:
    """A figure that contradicts the one it repeats was edited by hand."""
    written = results.to_json(made_up())
    written["arms"][0]["eer"] = 0.01
    (tmp_path / "result.json").write_text(json.dumps(written))
    with pytest.raises(ArtifactError, match="eer"):
        results.load_result(tmp_path)


def test_unknown_keys_are_left_to_later_versions(made_up: MakeResult, tmp_path: Path) -> None:
    """A key that a later version adds does not stop this one from reading."""
    written = results.to_json(made_up()) | {"robustness": {}}
    (tmp_path / "result.json").write_text(json.dumps(written))
    assert results.load_result(tmp_path).seed == 1
