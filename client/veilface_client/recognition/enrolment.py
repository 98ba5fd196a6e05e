"""People come in: enrolled from photographs, with a consent that is kept beside them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np

from veilface_client.faces import Aligned
from veilface_client.quality import FaceRefused
from veilface_client.recognition import lines
from veilface_client.recognition.desk import Desk
from veilface_client.recognition.matching import best_score, templates_of
from veilface_client.roles import Actor
from veilface_client.vault import Form, Record, Sample
from veilface_client.vault.records import Mode
from veilface_common.errors import ConfigError, DataError

MAX_PHOTOGRAPHS = 20
MAX_NAME = 200


@dataclass(frozen=True, kw_only=True)
class Consent:
    """On what grounds a person is enrolled."""

    version: str  # of the text that they agreed to
    purpose: str = "recognition at this organisation"
    legal_basis: str = "explicit consent, article 9(2)(a) GDPR"
    retention_date: str | None = None  # YYYY-MM-DD; None: as the organisation's settings say


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A photograph that could not be used, and what to do about it."""

    photo: int  # which one, from 1
    reason: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """Somebody who was enrolled."""

    person: str  # the name
    photographs: int  # that were used
    left_out: tuple[LeftOut, ...]
    retention_date: str
    pseudonym: str
    card: str | None = field(default=None, repr=False)  # for a holder, told this once


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Somebody in the list of people."""

    person: str
    mode: Mode
    purpose: str
    legal_basis: str
    consent_version: str
    consent_time: str
    retention_date: str
    last_use: str | None
    templates: int  # by the model in use
    crops: int
    pseudonym: str


def enrol(
    desk: Desk,
    actor: Actor,
    name: str,
    photos: Sequence[bytes],
    consent: Consent,
    *,
    mode: Mode = "organisation",
    keep_crops: bool | None = None,
    twin: bool = False,
) -> Enrolment:
    """Enrol a person from photographs; those that cannot be used are named in the answer.

    Args:
        desk: the organisation's.
        actor: who asks.
        name: the person's; nobody else enrolled has it.
        photos: picture files, each of the person alone.
        consent: on what grounds.
        mode: `holder` seals the templates with a secret that the person carries.
        keep_crops: keep the aligned faces, sealed, for the next model; None: as the settings say.
        twin: enrol somebody who looks like another one, who was compared by eye.

    Raises:
        AccessDenied: they may not.
        ConfigError: the name is no name, or there are too many photographs.
        DataError: the name is taken, the face is enrolled under another name, or no photograph
            looks like another.
        FaceRefused: no photograph can be used.
        VaultError, LogError: it could not be written; nothing was enrolled.
    """
    desk.verify_may(actor, "enrol")
    name = checked_name(name)
    _verify_free(desk, name)
    keep = desk.settings.keep_crops if keep_crops is None else keep_crops
    samples, left_out = samples_of(desk, photos, keep_crops=keep)
    samples, left_out = _of_one_person(desk, samples, left_out, len(photos))
    with desk.changes:
        _verify_free(desk, name)  # others may have been enrolled meanwhile
        if not twin:
            _verify_new(desk, actor, samples)
        record = _record(desk, name, consent, mode)
        enrolled = desk.vault.enrol(record, samples)
        desk.settle(actor, details={"photographs": len(samples), "mode": mode})
        desk.joined(enrolled.person, name, samples, mode)
    return Enrolment(
        person=name,
        photographs=len(samples),
        left_out=left_out,
        retention_date=record.retention_date,
        pseudonym=enrolled.pseudonym,
        card=enrolled.card,
    )


def add(
    desk: Desk, actor: Actor, name: str, photos: Sequence[bytes], card: str | None = None
) -> int:
    """Add photographs to a person who is enrolled; return how many templates there are then.

    Raises:
        AccessDenied: they may not.
        DataError: nobody of that name is enrolled, or the photographs do not show them.
        FaceRefused: no photograph can be used.
        WrongKey: the person's card is needed.
    """
    desk.verify_may(actor, "enrol")
    person = desk.person(name)
    known = templates_of(desk, person, card)
    keeps = any(form.kind == "crop" for form in _forms(desk, person))
    samples, _ = samples_of(desk, photos, keep_crops=keeps or desk.settings.keep_crops)
    for sample in samples:
        vector = np.asarray(sample.vector, dtype=np.float32)
        if known and best_score(vector, known) <= lines.lenient(desk):
            raise DataError(
                "expected photographs of the same person, got one of somebody else",
                hint="a photograph that the system does not recognise adds nothing to it",
            )
    with desk.changes:
        desk.vault.add(person, samples, card)
        desk.settle(actor, details={"photographs": len(samples)})
    return len(known) + len(samples)


def people(desk: Desk, actor: Actor) -> list[Listed]:
    """Return everybody who is enrolled, by name. Raises AccessDenied."""
    desk.verify_may(actor, "people")
    found = [
        Listed(
            person=person.record.name,
            mode=person.record.mode,
            purpose=person.record.purpose,
            legal_basis=person.record.legal_basis,
            consent_version=person.record.consent_version,
            consent_time=person.record.consent_time,
            retention_date=person.record.retention_date,
            last_use=person.record.last_use,
            templates=sum(form.model == desk.model for form in person.forms),
            crops=sum(form.kind == "crop" for form in person.forms),
            pseudonym=desk.vault.pseudonym(person.person),
        )
        for person in desk.vault.people()
    ]
    return sorted(found, key=lambda person: person.person)


def change_consent(desk: Desk, actor: Actor, name: str, consent: Consent) -> str:
    """Write a new consent down and return the date until which the person is kept.

    Raises:
        AccessDenied: they may not.
        DataError: nobody of that name is enrolled.
        ConfigError: the date is none.
    """
    desk.verify_may(actor, "consent")
    person = desk.person(name)
    before = desk.vault.record(person)
    record = replace(
        before,
        purpose=consent.purpose,
        legal_basis=consent.legal_basis,
        consent_version=consent.version,
        consent_time=_now(desk),
        retention_date=consent.retention_date or _default_retention(desk),
    )
    with desk.changes:
        desk.vault.update(person, record)
        desk.settle(actor)
        desk.unchanged()
    return record.retention_date


def samples_of(
    desk: Desk, photos: Sequence[bytes], *, keep_crops: bool
) -> tuple[list[Sample], tuple[LeftOut, ...]]:
    """Return what is kept of photographs, and which of them cannot be used.

    Raises:
        ConfigError: there is none, or too many.
        DataError: one is no photograph.
        FaceRefused: none can be used.
    """
    if not 1 <= len(photos) <= MAX_PHOTOGRAPHS:
        raise ConfigError(f"expected 1 to {MAX_PHOTOGRAPHS} photographs, got {len(photos)}")
    samples, left_out, last = [], [], None
    for number, photo in enumerate(photos, start=1):
        try:
            samples.append(_sample(desk, desk.look(photo), keep_crops=keep_crops))
        except FaceRefused as refused:
            last = refused
            hint = refused.hint or ""
            left_out.append(LeftOut(photo=number, reason=refused.reason, hint=hint))
    if last is not None and not samples:
        raise last
    return samples, tuple(left_out)


def checked_name(name: str) -> str:
    """Return a person's name as it is kept: NFC, without spaces around it. Raises ConfigError."""
    kept = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(kept) <= MAX_NAME or not kept.isprintable():
        raise ConfigError(f"expected a name of 1 to {MAX_NAME} printable characters")
    return kept


def _sample(desk: Desk, face: Aligned, *, keep_crops: bool) -> Sample:
    return Sample(
        model=desk.model,
        alignment=face.path,
        vector=desk.template(face),
        crop=face.pixels if keep_crops else None,
    )


def _record(desk: Desk, name: str, consent: Consent, mode: Mode) -> Record:
    now = _now(desk)
    return Record(
        name=name,
        purpose=consent.purpose,
        legal_basis=consent.legal_basis,
        consent_version=consent.version,
        consent_time=now,
        retention_date=consent.retention_date or _default_retention(desk),
        created=now,
        mode=mode,
    )


def _verify_free(desk: Desk, name: str) -> None:
    """Do nothing if nobody enrolled has this name. Raises DataError."""
    if name in desk.names():
        raise DataError(
            "expected somebody new, got a name that is enrolled",
            hint="--add gives a person more photographs; veilface people shows the names",
        )


def _of_one_person(
    desk: Desk, samples: Sequence[Sample], left_out: tuple[LeftOut, ...], total: int
) -> tuple[list[Sample], tuple[LeftOut, ...]]:
    """Return the photographs that look like another of them; the odd ones are left out too.

    Raises:
        DataError: none looks like another.
    """
    if len(samples) < 2:
        return list(samples), left_out
    vectors = np.stack([np.asarray(sample.vector, np.float32) for sample in samples])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    is_alone = cosines.max(1) <= lines.lenient(desk)
    if is_alone.all():
        raise DataError(
            "expected photographs of one person, got ones that do not look alike",
            hint="take them anew, one person in the same light, or give fewer",
        )
    gone = {one.photo for one in left_out}
    numbers = [number for number in range(1, total + 1) if number not in gone]
    odd = tuple(
        LeftOut(photo=number, reason="unlike the others", hint="leave it out or take a clearer one")
        for number, alone in zip(numbers, is_alone, strict=True)
        if alone
    )
    kept = [sample for sample, alone in zip(samples, is_alone, strict=True) if not alone]
    return kept, tuple(sorted((*left_out, *odd), key=lambda one: one.photo))


def _verify_new(desk: Desk, actor: Actor, samples: Sequence[Sample]) -> None:
    """Do nothing if nobody enrolled has this face, as far as that can be told yet.

    Raises:
        DataError: somebody has; it is not said who.
    """
    if not lines.is_drawn(desk, "identify"):
        return
    with desk.gallery() as gallery:
        line = lines.line(desk, "identify", len(gallery))
        found = [match for sample in samples for match in gallery.search(sample.vector, 1)]
    for match in found:
        if match.cosine > line.strong:
            subject = desk.vault.pseudonym(match.person)
            desk.write("refused", actor, "refused", subject=subject, reason="face is enrolled")
            raise DataError(
                "expected somebody new, got a face that is enrolled under another name",
                hint="--twin enrols somebody who only looks alike; the log says who was found",
            )


def _forms(desk: Desk, person: str) -> Sequence[Form]:
    return [
        found for known in desk.vault.people() if known.person == person for found in known.forms
    ]


def _now(desk: Desk) -> str:
    return desk.clock().isoformat(timespec="seconds")


def _default_retention(desk: Desk) -> str:
    today: date = desk.clock().date()
    return (today + timedelta(days=desk.settings.retention_days)).isoformat()
