"""What auditors read and administrators set: log, receipts, budget, check, thresholds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from veilface_client.calibration import Question
from veilface_client.recognition import papers, upkeep, vault_acts
from veilface_client.recognition.desk import Desk
from veilface_client.recognition.upkeep import Calibrated
from veilface_client.roles import Actor
from veilface_client.service.asking import Asked, KnownRoute
from veilface_client.service.people_routes import Receipts
from veilface_client.vault.check import Finding

router = APIRouter(route_class=KnownRoute, tags=["upkeep"])
_PAGE = 1000
_LAST = 2**53  # what JavaScript can count to


class LogPage(BaseModel):
    """Some entries of the access log, and how far it has come."""

    entries: list[dict[str, object]]
    last: int
    hash: str


class Counts(BaseModel):
    """{kind: {outcome: how many}}."""

    counts: dict[str, dict[str, int]]


class Budget(BaseModel):
    """The federation's budget: docs/budget-report.md says what stands in the report."""

    report: dict[str, object] | None
    detail: str


class Checked(BaseModel):
    """What is wrong with the vault."""

    verdict: Literal["pass", "fail"]
    findings: list[Finding]


class NewThreshold(BaseModel):
    """A rate of false answers to choose a threshold for."""

    model_config = ConfigDict(extra="forbid")

    question: Question
    rate: float = Field(gt=0, lt=0.5, examples=[0.001])


@router.get(
    "/log",
    summary="Who did what to which pseudonym",
    response_model=LogPage,
    responses={200: {"content": {"application/jsonl": {}}, "description": "oldest first"}},
)
async def log(
    asked: Asked,
    since: Annotated[int | None, Query(ge=0, le=_LAST, description="after this entry")] = None,
    limit: Annotated[int, Query(ge=1, le=_PAGE)] = 100,
    form: Annotated[Literal["json", "jsonl"], Query(alias="format")] = "json",
) -> LogPage | Response:
    """Return a page of the log; without `since` the newest. Roles: auditor.

    `format=jsonl` gives every entry after `since`, one a line.
    """
    if form == "jsonl":
        lines = await asked.work.other(upkeep.log_lines, asked.desk, asked.actor, since or 0)
        return StreamingResponse(_as_lines(lines), media_type="application/jsonl")
    return await asked.work.other(_log_page, asked.desk, asked.actor, since, limit)


@router.get("/log/counts", summary="How often what happened")
async def log_counts(asked: Asked) -> Counts:
    """Count the entries of the log. Roles: auditor."""
    found = await asked.work.other(papers.log_counts, asked.desk, asked.actor)
    return Counts(counts={kind: dict(of_kind) for kind, of_kind in found.items()})


@router.get("/receipts", summary="Receipts of people who were forgotten")
async def receipts(asked: Asked) -> Receipts:
    """Return all receipts, the newest first. Roles: privacy officer, auditor."""
    return Receipts(receipts=await asked.work.other(papers.receipts, asked.desk, asked.actor))


@router.get("/budget", summary="The privacy budget of the federation")
async def budget(asked: Asked) -> Budget:
    """Return the report of its ledger, where there is one. Roles: auditor, privacy officer."""
    report = await asked.work.other(papers.budget, asked.desk, asked.actor)
    detail = "" if report else "this organisation's folder holds no ledger of a federation"
    return Budget(report=report, detail=detail)


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format"}},
)
async def metrics(asked: Asked) -> Response:
    """Return how often what was asked, and the budget; of nobody. Roles: auditor, administrator."""
    text = await asked.work.other(papers.metrics, asked.desk, asked.actor)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/check", summary="Is the vault as it was written?")
async def check(asked: Asked) -> Checked:
    """Open and compare every record and template; slow. Roles: all but operator, enroller."""
    found = await asked.work.photographs(vault_acts.check, asked.desk, asked.actor)
    return Checked(verdict="fail" if found else "pass", findings=found)


@router.post("/calibrate", summary="Choose a threshold on the gallery itself")
async def calibrate(
    asked: Asked,
    new: NewThreshold,
    x_second_token: Annotated[
        str | None, Header(description="of a second administrator, where the rate is loosened")
    ] = None,
) -> Calibrated:
    """Return the rate that a new threshold gives; it stays inside. Roles: administrator."""
    second = await asked.gate.holder(x_second_token) if x_second_token else None
    return await asked.work.photographs(
        upkeep.calibrate, asked.desk, asked.actor, new.question, new.rate, second=second
    )


def _log_page(desk: Desk, actor: Actor, since: int | None, limit: int) -> LogPage:
    head = desk.log.head
    first = max(0, head.sequence - limit) if since is None else since
    entries = list(islice(upkeep.log_lines(desk, actor, first), limit))
    return LogPage(entries=entries, last=head.sequence, hash=head.hash)


def _as_lines(entries: Iterable[dict[str, object]]) -> Iterator[str]:
    for entry in entries:
        yield json.dumps(entry, ensure_ascii=False) + "\n"
