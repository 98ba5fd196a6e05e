"""What an organisation saw of its own training, for its own eyes."""

from __future__ import annotations

from pathlib import Path

import pytest

from veilface_client.history import FILE, LocalRound, load_history, save_round
from veilface_common.errors import ArtifactError


def entry(number: int, loss: float = 1.0) -> LocalRound:
    return LocalRound(round=number, loss=loss, images=20, seconds=0.5)


def test_rounds_are_kept_in_their_order(tmp_path: Path) -> None:
    """What was saved is loaded; a folder without a history has none."""
    assert load_history(tmp_path) == ()
    for number in (1, 2, 3):
        save_round(tmp_path, entry(number))
    assert load_history(tmp_path) == (entry(1), entry(2), entry(3))


def test_a_repeated_round_takes_the_place_of_its_first_time(tmp_path: Path) -> None:
    """A round asked for again replaces its line, and those after it, which did not count."""
    for number in (1, 2, 3):
        save_round(tmp_path, entry(number))
    save_round(tmp_path, entry(2, loss=0.7))
    assert load_history(tmp_path) == (entry(1), entry(2, loss=0.7))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"round": "one"}]', b"\xff"])
def test_a_damaged_history_is_named(tmp_path: Path, content: bytes) -> None:
    """A damaged file is an error with a hint, never an empty history."""
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ArtifactError):
        load_history(tmp_path)
