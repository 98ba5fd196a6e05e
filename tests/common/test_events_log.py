"""The log of events: whole lines, no sentence where none may stand, no harm from a full disk."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from veilface_common import events_log
from veilface_common.events_log import EventsLog, newest_errors

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_what_was_written(tmp_path: Path) -> None:
    """Golden bytes: time in UTC, level, event, then the fields as they were given."""
    path = tmp_path / "log" / "events.jsonl"
    EventsLog(path, lambda: NOON).write("info", "request", {"kind": "train", "round": 3})
    assert path.read_text() == (
        '{"time": "2026-01-02T12:00:00.000+00:00", "level": "info", "event": "request", '
        '"kind": "train", "round": 3}\n'
    )
    assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "planted", ["Anna Berg", "faces/Anna Berg/1.jpg", "/srv/a.jpg", "x" * 65, "DataError: no", "\n"]
)
def test_a_field_takes_no_sentence_path_or_template(tmp_path: Path, planted: str) -> None:
    """Whatever is not one short word leaves a dash, as an event as well."""
    path = tmp_path / "events.jsonl"
    EventsLog(path).write("error", planted, {"error": planted})
    [line] = lines(path)
    assert (line["event"], line["error"]) == ("-", "-")


def test_many_writers_leave_whole_lines_and_no_lost_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs of one file, as several processes have them, turn it over without losing a line."""
    monkeypatch.setattr(events_log, "MAX_BYTES", 3000)
    path = tmp_path / "events.jsonl"

    def write(writer: int) -> None:
        log = EventsLog(path)
        for number in range(25):
            log.write("info", "request", {"writer": writer, "number": number})

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    files = sorted(tmp_path.glob("events.jsonl*"))
    found = {(line["writer"], line["number"]) for file in files for line in lines(file)}
    assert 2 <= len(files) <= 1 + events_log.KEPT
    assert len(found) == 100


def test_a_disk_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    """A folder that cannot be made is no error of the caller's."""
    (tmp_path / "log").write_text("a file, where a folder should be")
    EventsLog(tmp_path / "log" / "events.jsonl").write("error", "request")


def test_the_newest_errors_are_found_behind_a_torn_line(tmp_path: Path) -> None:
    """Errors alone, the newest last, whatever a crash left of a line."""
    path = tmp_path / "events.jsonl"
    log = EventsLog(path)
    for level, number in (("error", 1), ("info", 2), ("error", 3)):
        log.write(level, "request", {"round": number})  # type: ignore[arg-type]
    with path.open("a") as file:
        file.write('{"level": "err')
    assert [entry["round"] for entry in newest_errors(path)] == [1, 3]
    assert [entry["round"] for entry in newest_errors(path, most=1)] == [3]
