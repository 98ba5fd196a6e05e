"""Verify, identify, and what in a face a decision hung on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veilface_client.access_events import Kind, Outcome
from veilface_client.limits import verify_allowed
from veilface_client.quality import FaceRefused
from veilface_client.recognition import lines
from veilface_client.recognition.answers import (
    ABOVE,
    BELOW,
    NOBODY,
    UNUSABLE,
    Identification,
    Reason,
    Verification,
    decide,
)
from veilface_client.recognition.desk import Desk
from veilface_client.roles import Actor
from veilface_common.errors import WrongKey


def verify(
    desk: Desk, actor: Actor, name: str, photo: bytes, card: str | None = None
) -> Verification:
    """Return whether the photograph shows the person of this name.

    Args:
        desk: the organisation's.
        actor: who asks.
        name: whom the person claims to be.
        photo: a picture file.
        card: the secret on the person's card, where the templates open only with it.

    Raises:
        AccessDenied: they may not ask, or too much was asked.
        DataError: nobody of that name is enrolled.
        WrongKey: the card is missing or another's.
        VaultError, LogError: the answer could not be made or written down.
    """
    desk.verify_may(actor, "verify")
    person = desk.person(name)
    subject = desk.vault.pseudonym(person)
    probe = _probe(desk, photo)  # slow, and says nothing yet: others may ask meanwhile
    with desk.log.exclusive():
        verify_allowed(desk.log, desk.settings.limits, actor, subject, desk.clock())
        try:
            answer = _verified(desk, person, probe, card)
        except WrongKey:
            _write(desk, "verified", actor, "failed", subject, "card")
            raise
        outcome: Outcome = "match" if answer.match else "no-match"
        _write(desk, "verified", actor, outcome, subject, answer.reason)
    if answer.match:
        desk.used(person)
    return answer


def identify(desk: Desk, actor: Actor, photo: bytes) -> Identification:
    """Return who the photograph shows, of the people enrolled without a card, or that nobody knows.

    Raises:
        AccessDenied: they may not ask, or too much was asked.
        VaultError, LogError: the answer could not be made or written down.
    """
    desk.verify_may(actor, "identify")
    probe = _probe(desk, photo)
    with desk.log.exclusive():
        verify_allowed(desk.log, desk.settings.limits, actor, None, desk.clock())
        answer, person = _identified(desk, probe)
        subject = desk.vault.pseudonym(person) if person else None
        _write(desk, "identified", actor, "known" if person else "unknown", subject, answer.reason)
    if person:
        desk.used(person)
    return answer


def identify_track(
    desk: Desk, actor: Actor, probe: NDArray[np.float32], *, again: bool = False
) -> Identification:
    """Return who is followed through a video, of the people enrolled without a card, or nobody.

    Each track is written down when it is first asked about, and once more if it is named later.

    Args:
        desk: the organisation's.
        actor: who asks.
        probe: [D], a weighted mean of the track's templates, not brought to unit length: its cosine
            is the mean of theirs, for which a threshold that was chosen on photographs holds.
        again: this track was asked about before, and not named.

    Raises:
        AccessDenied: they may not ask, or too much was asked.
        VaultError, LogError: the answer could not be made or written down.
    """
    desk.verify_may(actor, "identify")
    with desk.log.exclusive():
        verify_allowed(desk.log, desk.settings.limits, actor, None, desk.clock())
        answer, person = _identified(desk, probe)
        if person or not again:
            subject = desk.vault.pseudonym(person) if person else None
            outcome: Outcome = "known" if person else "unknown"
            _write(desk, "identified", actor, outcome, subject, answer.reason)
    if person:
        desk.used(person)
    return answer


def best_score(probe: NDArray[np.float32], templates: Sequence[NDArray[np.float32]]) -> float:
    """Return the cosine of a probe [D] with the nearest of a person's templates."""
    return max(float(np.dot(probe, template)) for template in templates)


def templates_of(desk: Desk, person: str, card: str | None = None) -> list[NDArray[np.float32]]:
    """Return a person's templates of the model in use, [D] each.

    Raises:
        WrongKey: the person's card is needed.
    """
    kept = desk.vault.templates(person, card)
    return [
        template.array.astype(np.float32) for template in kept if template.form.model == desk.model
    ]


def _probe(desk: Desk, photo: bytes) -> NDArray[np.float32] | FaceRefused:
    """Return the template of a photograph, [D], or why there is none."""
    try:
        return desk.template(desk.look(photo))
    except FaceRefused as refused:
        return refused


def _verified(
    desk: Desk,
    person: str,
    probe: NDArray[np.float32] | FaceRefused,
    card: str | None,
) -> Verification:
    templates = templates_of(desk, person, card)
    if not templates:  # of another model: there is nothing to compare with
        return Verification(match=False, band="none", reason=NOBODY, detail="enrol them again")
    if isinstance(probe, FaceRefused):
        return Verification(match=False, band="none", reason=UNUSABLE, detail=_advice(probe))
    line = lines.line(desk, "verify", len(templates))
    band = line.band(best_score(probe, templates))
    reason: Reason = BELOW if band == "none" else ABOVE
    return Verification(match=band != "none", band=band, reason=reason, warning=line.warning)


def _identified(
    desk: Desk, probe: NDArray[np.float32] | FaceRefused
) -> tuple[Identification, str | None]:
    """Return the answer, and the vault's name for the person where it names one."""
    if isinstance(probe, FaceRefused):
        return Identification(answer=None, reason=UNUSABLE, detail=_advice(probe)), None
    with desk.gallery() as gallery:
        line = lines.line(desk, "identify", len(gallery))
        found = gallery.search(probe, 2) if len(gallery) else []
        names = [desk.name_of(match.person) for match in found]
    reason = decide([match.cosine for match in found], line, desk.settings.margin)
    named = reason == ABOVE
    answer = Identification(
        answer=names[0] if named else None, reason=reason, warning=line.warning if found else ""
    )
    return answer, found[0].person if named else None


def _advice(refused: FaceRefused) -> str:
    return refused.hint or str(refused)


def _write(
    desk: Desk, kind: Kind, actor: Actor, outcome: Outcome, subject: str | None, reason: str
) -> None:
    desk.write(kind, actor, outcome, subject=subject, reason=reason)
