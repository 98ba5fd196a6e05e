"""The report of a run out of what its folder holds: pictures, and an audit if there was one."""

from __future__ import annotations

from pathlib import Path

from veilface_simulations.auditing.record import load_record
from veilface_simulations.examples import load_examples
from veilface_simulations.report import FILE_NAME, write_report
from veilface_simulations.results import Result


def write_run_report(result: Result, folder: Path) -> None:
    """Write `report.html` into the run's folder, in the place of an older one.

    Raises:
        ArtifactError: the pictures or the audit there are damaged.
    """
    write_report(
        result,
        folder / FILE_NAME,
        examples=load_examples(folder),
        audit=load_record(folder),
    )
