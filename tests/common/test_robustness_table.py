"""The table of a release: what is taken from a measurement, and what is no measurement."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.common.robustness_parts import NAMES, measured, rates

from veilface_common import typed_json
from veilface_common.errors import ArtifactError
from veilface_common.robustness_table import (
    MAX_FILE_BYTES,
    MAX_LEVELS,
    MAX_PERTURBATIONS,
    RobustnessTable,
    in_one_line,
    parse_measured,
    read_table,
)


def table_of(body: dict[str, Any]) -> RobustnessTable:
    return parse_measured(json.dumps(body).encode(), "robustness.json")


def test_figures_of_a_measurement() -> None:
    """Every cell, by perturbation and level, in four decimals; the rest is left out."""
    body = measured()
    body["model"]["cells"][0]["rates"]["tar"] = 0.123456789
    body["model"]["cells"].reverse()  # in whichever order they were written
    found = table_of(body)
    assert [one.name for one in found.perturbations] == list(NAMES)
    assert found.perturbations[0].tar == (0.1235, 0.6, 0.5, 0.4, 0.3)
    assert found.perturbations[1].tar == (0.75, 0.7, 0.65, 0.6, 0.55)
    assert found.perturbations[1].false_match_rate == (0.01, 0.02, 0.03, 0.04, 0.05)
    assert (found.people, found.rate, found.clean.tar) == (120, 0.01, 0.8)
    assert found.mean_relative_loss == 0.2812
    assert found.most_open() == ("darkness", 5, 0.05)
    assert math.isclose(table_of(measured()).mean_tar(), 0.575)


def test_no_folder_of_a_machine_is_told() -> None:
    """A release is handed to whoever asks; where the photographs lie is nobody's business."""
    found = table_of(measured())
    assert (found.data, found.detector) == ("lfw:lfw", "yunet:yunet.onnx")
    assert table_of(measured() | {"data": "drawn:24x4", "detector": None}).data == "drawn:24x4"
    assert "ada" not in json.dumps(typed_json.to_json(found)) + in_one_line(found)


def test_one_line() -> None:
    """The figures that stand for the whole; no loss where nobody was accepted at all."""
    assert in_one_line(table_of(measured())) == (
        "right people accepted: 80.0% clean, 57.5% perturbed (mean relative loss 0.281); "
        "strangers: 1.0%, at most 5.0% (darkness, level 5); 120 people of lfw:lfw"
    )
    assert "loss" not in in_one_line(replace(table_of(measured()), mean_relative_loss=None))
    assert in_one_line(None) == "not measured"


def test_a_table_comes_back_from_json() -> None:
    """As a manifest carries it."""
    found = table_of(measured())
    stored = json.loads(json.dumps(typed_json.to_json(found)))
    assert typed_json.from_json(RobustnessTable, stored) == found


def _many(body: dict[str, Any]) -> None:
    names = [f"{number}" for number in range(MAX_PERTURBATIONS + 1)]
    body["perturbations"] = [{"name": name, "meaning": "", "amounts": [1]} for name in names]
    body["model"]["cells"] = [
        {"perturbation": name, "level": 1, "rates": rates(0.5, 0.01)} for name in names
    ]


def _deep(body: dict[str, Any]) -> None:
    levels = range(1, MAX_LEVELS + 2)
    body["perturbations"] = [{"name": "dark", "meaning": "", "amounts": [1] * len(levels)}]
    body["model"]["cells"] = [
        {"perturbation": "dark", "level": level, "rates": rates(0.5, 0.01)} for level in levels
    ]


def _rate(value: object) -> Callable[[dict[str, Any]], object]:
    return lambda body: body["model"]["cells"][3]["rates"].update(tar=value)


IMPOSSIBLE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another_schema": (lambda body: body.update(schema=2), "schema 1"),
    "no_schema": (lambda body: body.pop("schema"), "schema 1"),
    "a_rate_above_1": (_rate(1.5), "shares"),
    "a_negative_rate": (_rate(-0.1), "shares"),
    "a_rate_that_is_no_number": (_rate(math.nan), "shares"),
    "a_rate_without_end": (_rate(math.inf), "shares"),
    "text_for_a_rate": (_rate("0.5"), "tar"),
    "no_rate": (_rate(None), "tar"),
    "a_cell_less": (lambda body: body["model"]["cells"].pop(), "once"),
    "a_cell_twice": (
        lambda body: body["model"]["cells"].append(body["model"]["cells"][0]),
        "once",
    ),
    "a_cell_of_nothing": (
        lambda body: body["model"]["cells"][0].update(perturbation="fog"),
        "once",
    ),
    "a_perturbation_twice": (
        lambda body: body["perturbations"].append(body["perturbations"][0]),
        "once",
    ),
    "an_amount_without_end": (
        lambda body: body["perturbations"][0].update(amounts=[1, 2, 3, 4, math.inf]),
        "finite",
    ),
    "no_perturbation": (
        lambda body: (body["perturbations"].clear(), body["model"]["cells"].clear()),
        "perturbations",
    ),
    "many_perturbations": (_many, "1 to 64"),
    "many_levels": (_deep, "levels"),
    "a_long_name": (lambda body: body.update(data="x" * 61), "data"),
    "a_name_of_control_signs": (lambda body: body.update(data="lfw\x1b[2J"), "data"),
    "a_long_detector": (lambda body: body.update(detector="x" * 61), "detector"),
    "a_short_digest": (lambda body: body["model"].update(sha256="ab" * 31), "SHA-256"),
    "one_person": (lambda body: body.update(people=1), "two people"),
    "a_loss_above_1": (lambda body: body["model"].update(mean_relative_loss=1.5), "loss"),
    "a_loss_that_is_no_number": (
        lambda body: body["model"].update(mean_relative_loss=math.nan),
        "loss",
    ),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_cannot_have_been_measured_is_refused(what: str) -> None:
    """One line of ours, whatever stands there."""
    change, reason = IMPOSSIBLE[what]
    body = measured()
    change(body)
    with pytest.raises(ArtifactError, match=reason):
        table_of(body)


def test_levels_of_which_one_perturbation_has_fewer_are_refused() -> None:
    """A table is a rectangle."""
    body = measured()
    body["perturbations"][0]["amounts"].pop()
    del body["model"]["cells"][4]
    with pytest.raises(ArtifactError, match="as many levels"):
        table_of(body)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff" * 9, b"[" * 10**5, b"null"])
def test_rubbish_is_refused(content: bytes) -> None:
    """Whatever stands there, the answer is an error of ours."""
    with pytest.raises(ArtifactError, match="schema 1"):
        parse_measured(content, "robustness.json")


def test_files_that_are_missing_or_too_long(tmp_path: Path) -> None:
    """A measurement is some 70 KB; what is far longer is not read."""
    path = tmp_path / "robustness.json"
    with pytest.raises(ArtifactError, match="no readable file") as missing:
        read_table(path)
    assert "veilface-sim robustness" in str(missing.value.hint)
    path.write_text(json.dumps(measured()))
    assert read_table(path) == table_of(measured())
    path.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(ArtifactError, match="at most"):
        read_table(path)
