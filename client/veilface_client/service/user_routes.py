"""Accounts, and what one's own may do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from veilface_client.recognition import upkeep
from veilface_client.roles import ACTS, Act, Role
from veilface_client.service.asking import Asked, KnownRoute
from veilface_client.tokens import MAX_DAYS, User

router = APIRouter(route_class=KnownRoute, tags=["accounts"])


class Myself(BaseModel):
    """Whose token this is, and what it may do."""

    name: str
    role: Role
    acts: list[Act]
    organisation: str


class Account(BaseModel):
    """An account, without anything of its token."""

    name: str
    role: Role
    scopes: list[Act]
    created: str
    expires: str


class NewAccount(BaseModel):
    """An account to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=40, examples=["door-1"])
    role: Role = Field(examples=["operator"])
    days: int = Field(90, ge=1, le=MAX_DAYS)
    scopes: list[Act] = Field(default_factory=list, max_length=len(ACTS))


class Made(BaseModel):
    """A new account; its token is shown this once."""

    name: str
    token: str


@router.get("/me", summary="Who am I, and what may I do?")
async def me(asked: Asked) -> Myself:
    """Return name, role and acts. Any role."""
    actor = asked.actor
    acts = [act for act in ACTS if actor.may(act)]
    return Myself(
        name=actor.name, role=actor.role, acts=acts, organisation=asked.desk.settings.name
    )


@router.get("/users", summary="All accounts")
async def users(asked: Asked) -> list[Account]:
    """List the accounts. Roles: administrator."""
    return list(map(_shown, await asked.work.other(upkeep.list_users, asked.desk, asked.actor)))


@router.post("/users", status_code=201, summary="Make an account")
async def add_user(asked: Asked, new: NewAccount) -> Made:
    """Make an account and return its token, which is shown this once. Roles: administrator."""
    token = await asked.work.other(
        upkeep.add_user,
        asked.desk,
        asked.actor,
        new.name,
        new.role,
        days=new.days,
        scopes=tuple(new.scopes),
    )
    return Made(name=new.name, token=token)


@router.delete("/users/{name}", status_code=204, summary="End an account at once")
async def remove_user(asked: Asked, name: Annotated[str, Path(max_length=40)]) -> None:
    """End an account. Roles: administrator."""
    known = await asked.work.other(upkeep.list_users, asked.desk, asked.actor)
    if not any(user.name == name for user in known):
        raise HTTPException(404)
    await asked.work.other(upkeep.remove_user, asked.desk, asked.actor, name)


def _shown(user: User) -> Account:
    return Account(
        name=user.name,
        role=user.role,
        scopes=list(user.scopes),
        created=user.created,
        expires=user.expires,
    )
