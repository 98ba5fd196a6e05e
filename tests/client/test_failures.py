"""Of a failure the coordinator hears the kind; the words stay at the organisation."""

from __future__ import annotations

from pathlib import Path

import pytest

from veilface_client import failures
from veilface_client.failures import FILE, OLDER, kept_at_home, load_failures
from veilface_common.errors import DataError, ProtocolError, RequestRefused


def test_the_words_stay_and_the_kind_goes(tmp_path: Path) -> None:
    """Counts and paths in a message are written down at home alone, whatever the chain."""
    with pytest.raises(ProtocolError) as raised, kept_at_home(tmp_path, "train 3"):
        raise DataError("expected 2 people in secret-folder, got 1")
    assert "secret-folder" not in str(raised.value)
    assert "DataError" in str(raised.value)
    assert raised.value.__suppress_context__
    assert load_failures(tmp_path) == (
        "train 3: DataError: expected 2 people in secret-folder, got 1",
    )


def test_a_folder_that_is_gone_tells_nothing_either(tmp_path: Path) -> None:
    """Where the words cannot be written, the error is still the one without them."""
    with pytest.raises(ProtocolError) as raised, kept_at_home(tmp_path / "gone", "describe"):
        raise DataError("secret")
    assert "gone" not in str(raised.value)
    assert "secret" not in str(raised.value)
    assert load_failures(tmp_path / "gone") == ()


def test_what_works_is_not_disturbed(tmp_path: Path) -> None:
    """No failure, no line."""
    with kept_at_home(tmp_path, "describe"):
        pass
    assert load_failures(tmp_path) == ()


def test_a_line_cut_short_still_counts(tmp_path: Path) -> None:
    """A crash while a failure was written down neither hides it nor ends the reading."""
    (tmp_path / FILE).write_text('{"request": "train 1", "error": "x"}\n{"requ')
    assert load_failures(tmp_path) == ("train 1: x", "a failure whose line was cut short")


def test_what_may_be_told_passes_and_is_written_down_once(tmp_path: Path) -> None:
    """A refusal keeps its words on its way out; what was kept at home already is not kept twice."""
    with (
        pytest.raises(RequestRefused, match="at night"),
        kept_at_home(tmp_path, "request", passing=RequestRefused),
    ):
        raise RequestRefused("not at night")
    with (
        pytest.raises(ProtocolError),
        kept_at_home(tmp_path, "request", passing=RequestRefused),
        kept_at_home(tmp_path, "train 1"),
    ):
        raise DataError("why")
    assert load_failures(tmp_path) == (
        "request: RequestRefused: not at night",
        "train 1: DataError: why",
    )


def test_a_flood_of_failures_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files of a fixed size hold the newest, whoever causes them, however long their words."""
    monkeypatch.setattr(failures, "MAX_BYTES", 20_000)
    for number in range(200):
        with pytest.raises(ProtocolError), kept_at_home(tmp_path, f"train {number}"):
            raise DataError("x" * 10_000)
    sizes = [(tmp_path / name).stat().st_size for name in (FILE, OLDER)]
    assert all(size < 23_000 for size in sizes)
    assert load_failures(tmp_path)[-1].startswith("train 199: DataError: x")
