"""The crash matrix: whatever is killed, cut off or full, the run ends as if nothing had been.

For every case: the run finishes; its model is the undisturbed one where all replies arrived; every
ledger passes its audit, holds every accepted update, and no round twice; nothing is left running.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from tests.drill.cases import CASES, Case
from tests.drill.federation import Federation, built, reference_of
from tests.drill.network import laid
from tests.drill.stages import await_ended
from tests.drill.verdict import (
    Row,
    charges_of,
    model_of,
    table,
    verify_audits,
    verify_no_orphans,
    verify_nothing_left,
)

from veilface_server.runs import load_run

pytestmark = pytest.mark.drill


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Row]]:
    found: list[Row] = []
    started = time.monotonic()
    yield found
    print(f"\n{table(found)}\n\n{len(found)} cases, {time.monotonic() - started:.0f} s in all")


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    if os.geteuid() != 0:
        pytest.skip("needs root: a network cable that can be pulled out, a disk that can be filled")
    place = tmp_path_factory.mktemp("drill")
    with laid() as cable, built(place, cable) as federation:
        yield federation
    verify_nothing_left(federation)


@pytest.fixture(scope="module")
def undisturbed(federation: Federation) -> tuple[str, list[str]]:
    """A run that nothing happened to, and the models that the simulation says it must have."""
    run = federation.first_run()
    return run, reference_of(federation, run)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_run_survives(
    case: Case,
    federation: Federation,
    undisturbed: tuple[str, list[str]],
    rows: list[Row],
) -> None:
    """It finishes with the same model; nothing is charged twice, nothing is forgotten."""
    like, reference = undisturbed
    row = Row(case=case.case, stage=case.stage)
    rows.append(row)
    federation.make_ready()
    started = time.monotonic()
    run = federation.begin(like, **case.settings)
    case.disturb(federation, run)
    row.outcome = ended(case, federation, run)
    row.seconds = f"{time.monotonic() - started:.0f}"
    row.rounds, row.model = model_of(federation, run, reference)
    row.charges = charges_of(federation, run)
    verify_audits(federation, run)
    verify_no_orphans(federation)
    print(f"\n{row}")
    assert row.model == "equal" or case.may_leave_out


def ended(case: Case, federation: Federation, run: str) -> str:
    """Wait until the run has finished, and say how it came to that."""
    await_ended(federation, run)
    found = load_run(federation.home, run)
    if not case.fails_with:
        assert found.state == "finished", found.error
        return "finished"
    assert found.state == "failed"
    assert case.fails_with in found.error
    federation.resume(run)
    await_ended(federation, run)
    assert load_run(federation.home, run).state == "finished"
    return f"`{case.fails_with}`; finished after `train --resume`"
