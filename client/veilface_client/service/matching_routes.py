"""Verify, identify, explain."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import Response

from veilface_client.recognition import explaining, matching
from veilface_client.recognition.answers import Identification, Verification
from veilface_client.recognition.enrolment import MAX_NAME
from veilface_client.service.asking import Asked, KnownRoute

router = APIRouter(route_class=KnownRoute, tags=["recognise"])
Person = Annotated[
    str, Form(min_length=1, max_length=MAX_NAME, description="a name", examples=["Anna Berg"])
]
Photo = Annotated[UploadFile, File(description="a picture of one person, PNG, JPEG, WebP, ...")]
Card = Annotated[
    str | None, Form(max_length=200, description="what stands on the card, where they hold one")
]


@router.post("/verify", summary="Is this the person that they claim to be?")
async def verify(asked: Asked, person: Person, photo: Photo, card: Card = None) -> Verification:
    """Compare a photograph with the person of that name. Roles: operator."""
    data = await photo.read()
    return await asked.work.photographs(
        matching.verify, asked.desk, asked.actor, person, data, card or None
    )


@router.post("/identify", summary="Who is this? A name, or nobody that we know")
async def identify(asked: Asked, photo: Photo) -> Identification:
    """Look for the person among all who are enrolled without a card. Roles: operator."""
    data = await photo.read()
    return await asked.work.photographs(matching.identify, asked.desk, asked.actor, data)


@router.post(
    "/explain",
    summary="Which parts of the face speak for this person?",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "the face, and a map beside it"}},
)
async def explain(asked: Asked, person: Person, photo: Photo, card: Card = None) -> Response:
    """Return a picture: an aid for people, and no proof. Roles: operator."""
    data = await photo.read()
    picture = await asked.work.photographs(
        explaining.explain, asked.desk, asked.actor, person, data, card or None
    )
    return Response(picture, media_type="image/png")
