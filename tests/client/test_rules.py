"""The organisation's rules: whose requests, for what, when; what cannot be read is no rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import time
from pathlib import Path

import pytest

from veilface_client.rules import POLICY, Rules, load_rules
from veilface_common.budget.policy import load_policy
from veilface_common.config import ModelConfig, RunConfig
from veilface_common.crypto.signing import SigningKey
from veilface_common.errors import ConfigError, RequestRefused
from veilface_common.protocol import EvaluateRequest, TrainRequest

ONE, TWO = (SigningKey.from_seed(bytes([n]) * 32).public for n in (1, 2))
NOON, NIGHT = time(12), time(2)
CONFIG = RunConfig(model=ModelConfig(name="tiny", dimension=128))
REQUEST = TrainRequest(round=1, config=CONFIG, model=b"x", participants=("a", "b"))
FIGURES = EvaluateRequest(round=1, config=CONFIG, model=b"x", participants=("a", "b"))
ALL = f"""\
epsilon = 4.0
[requests]
coordinators = ["{ONE.fingerprint}"]
models = ["tiny/128", "base/512"]
hours = "20:00-06:00"
min_participants = 2
max_model_megabytes = 1
"""


def written(folder: Path, text: str) -> Rules:
    (folder / POLICY).write_text(text)
    return load_rules(folder)


def test_what_keeps_to_all_rules_is_taken(tmp_path: Path) -> None:
    """Training and figures alike; the budget stands in the same file and is read by its own."""
    rules = written(tmp_path, ALL)
    rules.verify_takes(REQUEST, ONE, NIGHT)
    rules.verify_takes(FIGURES, ONE, NIGHT)
    assert load_policy(tmp_path / POLICY).epsilon == 4.0


@pytest.mark.parametrize("request_", [REQUEST, FIGURES])
def test_what_breaks_one_rule_is_refused_with_it(
    tmp_path: Path, request_: TrainRequest | EvaluateRequest
) -> None:
    """Each alone, and the reason names it."""
    rules = written(tmp_path, ALL)
    other = replace(CONFIG, model=ModelConfig(name="tiny", dimension=64))
    for asked, who, now, reason in (
        (request_, TWO, NIGHT, f"other coordinators than {TWO.fingerprint}"),
        (replace(request_, config=other), ONE, NIGHT, "models tiny/128, base/512, got tiny/64"),
        (request_, ONE, NOON, "at 20:00-06:00, not at 12:00"),
        (replace(request_, participants=("a",)), ONE, NIGHT, "wants 2 organisations"),
        (replace(request_, model=bytes((1 << 20) + 1)), ONE, NIGHT, "models of 1 MiB"),
    ):
        with pytest.raises(RequestRefused, match=reason):
            rules.verify_takes(asked, who, now)


@pytest.mark.parametrize("text", ["", "epsilon = 4.0\n", "[requests]\n"])
def test_what_is_left_out_is_allowed(tmp_path: Path, text: str) -> None:
    """Any known coordinator, any model, at any time."""
    assert written(tmp_path, text) == Rules()
    Rules().verify_takes(REQUEST, TWO, NOON)
    (tmp_path / POLICY).unlink()
    assert load_rules(tmp_path) == Rules()


@pytest.mark.parametrize(
    ("hours", "now", "within"),
    [
        ("08:00-18:00", time(8), True),
        ("08:00-18:00", time(18), False),
        ("08:00-18:00", time(7, 59), False),
        ("20:00-06:00", time(20), True),
        ("20:00-06:00", time(23, 59), True),
        ("20:00-06:00", time(0), True),
        ("20:00-06:00", time(6), False),
        ("20:00-06:00", time(12), False),
        ("00:00-12:00", time(0), True),
        ("12:00-00:00", time(23, 59), True),
    ],
)
def test_hours_may_go_past_midnight(hours: str, now: time, within: bool) -> None:  # noqa: FBT001 -- a table
    """The first minute is inside, the last is not."""
    try:
        Rules(hours=hours).verify_takes(REQUEST, ONE, now)
    except RequestRefused:
        assert not within
    else:
        assert within


@pytest.mark.parametrize(
    "text",
    [
        "[requests]\nhour = '20:00-06:00'",
        "[requests]\nhours = 'at night'",
        "[requests]\nhours = '20:00'",
        "[requests]\nhours = '20:00-20:00'",
        "[requests]\nhours = '20:00+02:00-06:00'",
        "[requests]\nhours = 20",
        "[requests]\nmin_participants = 0",
        "[requests]\nmin_participants = true",
        "[requests]\nmax_model_megabytes = 2048",
        "[requests]\ncoordinators = 'abc'",
        "requests = 3",
        "[[requests]]\nhours = ''",
        "[requests",
        "\udcff",
    ],
)
def test_a_rule_that_cannot_be_read_is_an_error(tmp_path: Path, text: str) -> None:
    """Nothing is taken under rules that nobody understands; the file is never left out."""
    (tmp_path / POLICY).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError):
        load_rules(tmp_path)
