"""A service with a user of each role, whose photographs may be words or pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image
from tests.client.recognition.desks import Clock, WordDesk, model_folder, open_desk, provider

from veilface_client.faces import Aligned
from veilface_client.home import Settings, create_home
from veilface_client.limits import Limits
from veilface_client.recognition.desk import Desk
from veilface_client.recognition.upkeep import add_user
from veilface_client.roles import ROLES, TERMINAL
from veilface_client.service import build_app
from veilface_common.thresholds import Impostors
from veilface_simulations.drawn import photograph

STAFF = tuple(role for role in ROLES if role != "terminal")
WIDE = Limits(
    failures_per_person_per_hour=100_000,
    failures_per_person_per_day=100_000,
    requests_per_operator_per_minute=100_000,
    failures_per_operator_per_hour=100_000,
)
Header = dict[str, str]


class AnyDesk(WordDesk):
    """Photographs are words such as `anna/2`; anything else is decoded as a photograph is."""

    def look(self, photo: bytes) -> Aligned:
        if photo.isascii() and 0 < len(photo) < 40 and photo.decode().isprintable():
            return super().look(photo)
        return Desk.look(self, photo)


def bearer(token: str) -> Header:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def service(
    folder: Path, limits: Limits = WIDE, clock: Clock | None = None
) -> Iterator[tuple[TestClient, dict[str, Header], AnyDesk]]:
    """Yield (client, {role: header}, desk)."""
    clock = clock or Clock()
    open_desk(folder, clock, lambda settings: with_limits(settings, limits)).close()
    with AnyDesk(folder, provider(), clock) as desk:
        tokens = {role: bearer(add_user(desk, TERMINAL, role, role, days=90)) for role in STAFF}
        with TestClient(build_app(desk), base_url="https://localhost") as client:
            yield client, tokens, desk


def with_limits(settings: Settings, limits: Limits) -> Settings:
    return replace(settings, limits=limits)


def enrol(client: TestClient, header: Header, name: str, *photos: bytes, **fields: str):  # type: ignore[no-untyped-def]
    """Enrol and return the answer."""
    files = [("photos", ("photo.jpg", photo, "image/jpeg")) for photo in photos]
    data = {"person": name, "consent": "en-0123456789ab", **fields}
    return client.post("/api/people", headers=header, data=data, files=files)


def ask(client: TestClient, header: Header, what: str, photo: bytes, **fields: str):  # type: ignore[no-untyped-def]
    """Verify, identify or explain, and return the answer."""
    files = {"photo": ("photo.jpg", photo, "image/jpeg")}
    return client.post(f"/api/{what}", headers=header, data=fields, files=files)


def picture_home(folder: Path, limits: Limits = WIDE) -> None:
    """Make an organisation that looks at real pictures, faces cut out already.

    Its network has random weights: it knows the same picture again, whatever camera and JPEG did
    to it (cosine above 0.99), and takes others for strangers (below 0.95).
    """
    known = Impostors(people=900, pairs=404_550, rates=(0.1, 1e-4), cosines=(0.97, 0.97))
    model = model_folder(folder.with_name(f"{folder.name}-model"), impostors=known)
    settings = Settings(name="Harbour Clinic", model="", detector="centre", limits=limits)
    create_home(folder, settings, model, provider())


def drawn_photo(person: int, photo: int = 0, pixels: int = 240) -> Image.Image:
    """Return a drawn person's photograph."""
    return Image.fromarray(
        np.ascontiguousarray(photograph(1, person, photo, pixels).transpose(1, 2, 0))
    )


def as_jpeg(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=92)
    return content.getvalue()
