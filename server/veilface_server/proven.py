"""What a run's signed records say, and which of them are not to be believed.

A record is believed when the coordinator's key signed it and it names the settings of the run: one
that was altered, or carried over from another run, is told apart and nothing of it is used. Only
the public key is needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from veilface_common.crypto.signing import VerifyKey
from veilface_common.errors import ArtifactError
from veilface_server.checkpoint import RoundRecord, load_all_records
from veilface_server.evaluation import EvaluationRecord, load_evaluation

_NODE = re.compile(r"node \d+")  # that could not say whose it is


@dataclass(frozen=True, kw_only=True)
class Proven:
    """A run, as far as it is signed."""

    written: tuple[RoundRecord, ...]  # in that order, repeated rounds included
    finished: tuple[RoundRecord, ...]  # one a round, of repeated ones the newest
    figures: EvaluationRecord | None
    rejected: tuple[str, ...]  # what was found and not believed, a sentence each

    @property
    def organisations(self) -> tuple[str, ...]:
        """Whoever took part in a round, or was left out of one and had said its name; sorted."""
        names = {name for record in self.finished for name in (*record.accepted, *record.left_out)}
        return tuple(sorted(name for name in names if not _NODE.fullmatch(name)))


def read_proven(folder: Path, key: VerifyKey, settings: str) -> Proven:
    """Return what the records in a run's folder say.

    Args:
        folder: the run's.
        key: the coordinator's.
        settings: digest of the run's.
    """
    rejected: list[str] = []
    written = _believed(_records(folder, rejected), key, settings, rejected)
    return Proven(
        written=tuple(written),
        finished=_newest_of_each_round(written),
        figures=_figures(folder, key, settings, rejected),
        rejected=tuple(rejected),
    )


def _records(folder: Path, rejected: list[str]) -> Sequence[RoundRecord]:
    try:
        return load_all_records(folder)
    except ArtifactError:
        rejected.append("The file of round records is damaged: none of it can be read.")
        return ()


def _believed(
    records: Sequence[RoundRecord], key: VerifyKey, settings: str, rejected: list[str]
) -> list[RoundRecord]:
    found = []
    for number, record in enumerate(records, start=1):
        reason = _reason(record, key, settings)
        if reason is None:
            found.append(record)
        else:
            rejected.append(f"Record {number}, which says it is of round {record.round}: {reason}.")
    return found


def _reason(record: RoundRecord, key: VerifyKey, settings: str) -> str | None:
    """Return why a record is not to be believed, if so."""
    try:
        record.verify(key)
    except (ArtifactError, TypeError, ValueError, AttributeError):  # its fields may be anything
        return f"the coordinator's key {key.fingerprint} did not sign it as it stands"
    return None if record.settings == settings else "it is signed, and belongs to another run"


def _newest_of_each_round(records: Sequence[RoundRecord]) -> tuple[RoundRecord, ...]:
    newest: dict[int, RoundRecord] = {}
    for record in records:
        newest = {number: other for number, other in newest.items() if number < record.round}
        newest[record.round] = record
    return tuple(newest.values())


def _figures(
    folder: Path, key: VerifyKey, settings: str, rejected: list[str]
) -> EvaluationRecord | None:
    try:
        figures = load_evaluation(folder)
        if figures is None:
            return None
        figures.verify(key)
    except ArtifactError:
        rejected.append(
            f"The figures of the model: the coordinator's key {key.fingerprint} did not sign them "
            "as they stand."
        )
        return None
    if figures.settings != settings:
        rejected.append("The figures of the model: they are signed, and belong to another run.")
        return None
    return figures
