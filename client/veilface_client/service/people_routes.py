"""People: enrolled, listed, given what is kept of them, forgotten."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Path, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from veilface_client.recognition import enrolment, leaving
from veilface_client.recognition.enrolment import MAX_NAME, Consent, Enrolment, Listed
from veilface_client.recognition.papers import ConsentText, keep_consent_texts
from veilface_client.service.asking import Asked, KnownRoute
from veilface_client.service.matching_routes import Card, Person
from veilface_client.vault.records import Mode

router = APIRouter(route_class=KnownRoute, tags=["people"])
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_SHORT = 500
Name = Annotated[str, Path(min_length=1, max_length=MAX_NAME, examples=["Anna Berg"])]
Photos = Annotated[list[UploadFile], File(description="pictures, each of the person alone")]
Version = Annotated[
    str,
    Form(
        min_length=1,
        max_length=100,
        description="of the text that they agreed to, as GET /api/consent names it",
        examples=["en-0123456789ab"],
    ),
]
Purpose = Annotated[str | None, Form(max_length=_SHORT)]
LegalBasis = Annotated[str | None, Form(max_length=_SHORT)]
RetentionDate = Annotated[
    str | None,
    Form(pattern=rf"{_DATE}|^$", description="YYYY-MM-DD; else as long as the settings say"),
]


class NewConsent(BaseModel):
    """On what grounds a person stays enrolled."""

    model_config = ConfigDict(extra="forbid")

    consent: str = Field(min_length=1, max_length=100, examples=["en-0123456789ab"])
    purpose: str | None = Field(None, max_length=_SHORT)
    legal_basis: str | None = Field(None, max_length=_SHORT)
    retention_date: str | None = Field(None, pattern=_DATE, examples=["2030-12-31"])


class Templates(BaseModel):
    """How many templates a person has now."""

    templates: int


class Kept(BaseModel):
    """Until when a person is kept."""

    retention_date: str


class Receipts(BaseModel):
    """One receipt for each person who was erased."""

    receipts: list[dict[str, object]]


def _grounds(
    version: str, purpose: str | None, legal_basis: str | None, retention_date: str | None
) -> Consent:
    """Return a consent; what was left empty is as `Consent` has it."""
    given = {"purpose": purpose, "legal_basis": legal_basis, "retention_date": retention_date}
    return Consent(version=version, **{name: value for name, value in given.items() if value})


def _form_grounds(
    consent: Version,
    purpose: Purpose = None,
    legal_basis: LegalBasis = None,
    retention_date: RetentionDate = None,
) -> Consent:
    return _grounds(consent, purpose, legal_basis, retention_date)


@router.get("/consent", summary="The text that people agree to, in each language")
async def consent(asked: Asked) -> dict[str, ConsentText]:
    """Return {language: {version, text}}. Any role."""
    return dict(await asked.work.other(keep_consent_texts, asked.desk))


@router.post("/people", status_code=201, summary="Enrol a person")
async def enrol(
    asked: Asked,
    person: Person,
    grounds: Annotated[Consent, Depends(_form_grounds)],
    photos: Photos,
    mode: Annotated[Mode, Form()] = "organisation",
    twin: Annotated[bool, Form(description="who only looks like another one")] = False,  # noqa: FBT002 -- a field of the form
) -> Enrolment:
    """Enrol a person from one to twenty photographs. Roles: enroller.

    In the mode `holder`, `card` is a secret that is told this once: templates open with it alone.
    """
    data = [await photo.read() for photo in photos]
    return await asked.work.photographs(
        enrolment.enrol,
        asked.desk,
        asked.actor,
        person,
        data,
        grounds,
        mode=mode,
        twin=twin,
    )


@router.get("/people", summary="Everybody, with consent and retention")
async def people(asked: Asked) -> list[Listed]:
    """List everybody by name. Roles: enroller, privacy officer."""
    return await asked.work.other(enrolment.people, asked.desk, asked.actor)


@router.post("/people/{person:path}/photos", summary="Give a person more photographs")
async def add(asked: Asked, person: Name, photos: Photos, card: Card = None) -> Templates:
    """Add photographs that show the person. Roles: enroller."""
    data = [await photo.read() for photo in photos]
    count = await asked.work.photographs(
        enrolment.add, asked.desk, asked.actor, person, data, card or None
    )
    return Templates(templates=count)


@router.put("/people/{person:path}/consent", summary="Write a new consent down")
async def change_consent(asked: Asked, person: Name, new: NewConsent) -> Kept:
    """Replace consent, purpose and retention. Roles: privacy officer."""
    grounds = _grounds(new.consent, new.purpose, new.legal_basis, new.retention_date)
    kept = await asked.work.other(
        enrolment.change_consent, asked.desk, asked.actor, person, grounds
    )
    return Kept(retention_date=kept)


@router.get("/people/{person:path}/export", summary="All that is kept of a person")
async def export(asked: Asked, person: Name) -> dict[str, object]:
    """Return what articles 15 and 20 GDPR give a right to. Roles: privacy officer."""
    return await asked.work.other(leaving.export_person, asked.desk, asked.actor, person)


@router.delete("/people/{person:path}", summary="Forget a person")
async def forget(asked: Asked, person: Name) -> dict[str, object]:
    """Destroy a person's key and return the signed receipt. Roles: privacy officer."""
    receipt = await asked.work.other(leaving.forget, asked.desk, asked.actor, person)
    return leaving.receipt_to_json(receipt)


@router.post("/expire", summary="Forget everybody whose retention date has come")
async def expire(asked: Asked) -> Receipts:
    """Return one receipt for each. Roles: privacy officer."""
    found = await asked.work.other(leaving.expire, asked.desk, asked.actor)
    return Receipts(receipts=[leaving.receipt_to_json(receipt) for receipt in found])
