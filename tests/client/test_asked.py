"""How far a run has come: replayed, reordered and altered requests are told from repeated ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from veilface_client.asked import FILE, verify_next
from veilface_common.config import FederationConfig, RunConfig
from veilface_common.crypto.signing import SigningKey
from veilface_common.errors import ArtifactError, RequestRefused
from veilface_common.protocol import EvaluateRequest, TrainRequest

ONE, TWO = (SigningKey.from_seed(bytes([n]) * 32).public for n in (1, 2))
CONFIG = RunConfig(federation=FederationConfig(rounds=9))
FIGURES = EvaluateRequest(round=5, config=CONFIG, model=b"last")


def train(number: int, model: bytes = b"model") -> TrainRequest:
    return TrainRequest(round=number, config=CONFIG, model=model)


def test_a_run_goes_on_and_its_newest_may_come_again(tmp_path: Path) -> None:
    """Rounds may be missed: an organisation that was away comes in where the run is."""
    for number in (1, 1, 2, 5, 5):
        verify_next(tmp_path, train(number), ONE)
    for _ in range(2):
        verify_next(tmp_path, FIGURES, ONE)


def test_an_older_round_is_refused(tmp_path: Path) -> None:
    """It was recorded and is shown again, or overtaken by another."""
    verify_next(tmp_path, train(3), ONE)
    for older in (train(2), train(1), replace(FIGURES, round=2)):
        with pytest.raises(RequestRefused, match="replayed, or out of order"):
            verify_next(tmp_path, older, ONE)


def test_another_model_in_the_same_round_is_refused(tmp_path: Path) -> None:
    """Two models in one round would be two looks at the same people for the order of one."""
    verify_next(tmp_path, train(3), ONE)
    with pytest.raises(RequestRefused, match="from another model"):
        verify_next(tmp_path, train(3, b"other"), ONE)
    verify_next(tmp_path, train(3), ONE)


def test_a_run_ends_once(tmp_path: Path) -> None:
    """After its figures no training, and no figures of another model."""
    verify_next(tmp_path, train(5), ONE)
    verify_next(tmp_path, FIGURES, ONE)
    with pytest.raises(RequestRefused, match="ends once"):
        verify_next(tmp_path, replace(FIGURES, model=b"other"), ONE)
    for after in (train(5), train(6)):
        with pytest.raises(RequestRefused, match="it has ended"):
            verify_next(tmp_path, after, ONE)


def test_runs_and_coordinators_do_not_mix(tmp_path: Path) -> None:
    """Another run, and the same settings of another coordinator, begin where they begin."""
    verify_next(tmp_path, train(5), ONE)
    verify_next(tmp_path, train(1), TWO)
    verify_next(tmp_path, replace(train(1), config=replace(CONFIG, run="ab" * 8)), ONE)
    with pytest.raises(RequestRefused):
        verify_next(tmp_path, train(1), ONE)


def test_a_refused_request_changes_nothing(tmp_path: Path) -> None:
    """What was refused is not the newest: the honest one may still come again."""
    verify_next(tmp_path, train(3), ONE)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(RequestRefused):
        verify_next(tmp_path, train(3, b"other"), ONE)
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"schema": 2}', b'{"runs": {"x": {"round": "3"}}}', b'{"runs": 3}'],
)
def test_a_damaged_file_is_no_fresh_start(tmp_path: Path, content: bytes) -> None:
    """Forgetting what was asked would let it be asked again."""
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ArtifactError):
        verify_next(tmp_path, train(1), ONE)


def test_the_file_is_as_it_was(tmp_path: Path) -> None:
    """Golden form: a later release must read it."""
    verify_next(tmp_path, train(3), ONE)
    verify_next(tmp_path, FIGURES, ONE)
    assert json.loads((tmp_path / FILE).read_text()) == {
        "schema": 1,
        "runs": {
            f"{ONE.fingerprint}/{CONFIG.digest}": {
                "round": 5,
                "request": train(3).digest,
                "figures": FIGURES.digest,
            }
        },
    }
