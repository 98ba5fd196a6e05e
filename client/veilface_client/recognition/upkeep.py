"""What keeps the recognizer right: thresholds, accounts, the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilface_client.access_events import Kind
from veilface_client.calibration import (
    MAX_PEOPLE,
    Calibration,
    Question,
    calibrate_identify,
    calibrate_verify,
    strangers_within,
)
from veilface_client.images import Pixels
from veilface_client.quality import FaceRefused
from veilface_client.recognition import lines
from veilface_client.recognition.desk import Desk
from veilface_client.roles import Actor
from veilface_client.sources import Source
from veilface_client.tokens import User, without_digest
from veilface_common.errors import DataError

Progress = Callable[[str, int, int], None]


def no_progress(_what: str, _done: int, _total: int) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A threshold that is now in force; the score itself stays inside."""

    question: Question
    asked: float
    rate: float
    low: float
    high: float
    strangers: int
    people: int  # in the gallery
    left_out: int  # strangers whose face was not found
    warning: str


def calibrate(
    desk: Desk,
    actor: Actor,
    question: Question,
    rate: float,
    *,
    strangers: Source | None = None,
    second: Actor | None = None,
    progress: Progress = no_progress,
) -> Calibrated:
    """Choose a threshold for a rate of false answers on the gallery itself, and others.

    Args:
        desk: the organisation's.
        actor: who asks.
        question: whose threshold.
        rate: of false answers.
        strangers: photographs of people who are not enrolled; one of each person is looked at.
        second: who consents, where the rate is larger than the one in force, or strangers whom
            somebody chose make the threshold lower.
        progress: is told (what, done, of how many).

    Raises:
        AccessDenied: they may not, or the rate is larger and a second person is missing.
        ConfigError: the rate is out of range.
        DataError: there are too few people.
    """
    desk.verify_may(actor, "calibrate")
    before = lines.calibration(desk, question)
    looser = rate > (before.asked if before else _rate_of_settings(desk, question))
    if looser:
        desk.verify_may(actor, "loosen-threshold", second)
    templates, owners = desk.templates()
    others, left_out = _strangers(desk, strangers, progress)
    people = len(np.unique(owners))
    if question == "verify":
        numbers = people + np.arange(len(others))
        found = calibrate_verify(
            np.concatenate([templates, others]), np.concatenate([owners, numbers]), rate
        )
    else:
        best = [strangers_within(templates, owners)] if people > 1 else []
        if people and len(others):
            best.append((others @ templates.T).max(1))
        scores = np.concatenate(best) if best else np.empty(0, np.float32)
        found = calibrate_identify(scores, people, rate)
    if strangers is not None and _is_lower(desk, found):
        looser = True  # chosen people can pull a threshold down as a larger rate does
        desk.verify_may(actor, "loosen-threshold", second)
    details = {"asked": rate, "strangers": found.strangers, "question": question}
    kind: Kind = "threshold-loosened" if looser else "calibrated"
    with desk.changes:
        lines.set_calibration(desk, found)
        desk.settle(actor, kind=kind, second=second, details=details)
        desk.unchanged()
    return _public(found, people, left_out)


def add_user(
    desk: Desk, actor: Actor, name: str, role: str, *, days: int, scopes: tuple[str, ...] = ()
) -> str:
    """Make an account and return its token, which is shown this once.

    Raises:
        AccessDenied: they may not.
        ConfigError: name, role, days or scopes cannot be used.
    """
    desk.verify_may(actor, "users")
    with desk.changes:
        token = desk.users.add(name, role, desk.clock(), days=days, scopes=scopes)
        desk.settle(actor, kind="user-added", details={"account": name, "as": role})
        desk.unchanged()
    return token


def remove_user(desk: Desk, actor: Actor, name: str) -> None:
    """End an account. Raises AccessDenied, or ConfigError where there is none."""
    desk.verify_may(actor, "users")
    with desk.changes:
        desk.users.remove(name)
        desk.settle(actor, kind="user-removed", details={"account": name})
        desk.unchanged()


def list_users(desk: Desk, actor: Actor) -> list[User]:
    """Return all accounts, without what their tokens are compared with. Raises AccessDenied."""
    desk.verify_may(actor, "users")
    return [without_digest(user) for user in desk.users.all()]


def log_lines(desk: Desk, actor: Actor, since: int = 0) -> Iterator[dict[str, object]]:
    """Return what was done after an entry, oldest first. Raises AccessDenied."""
    desk.verify_may(actor, "log")
    return _lines(desk, since)


def _lines(desk: Desk, since: int) -> Iterator[dict[str, object]]:
    for entry in desk.log.entries(since):
        yield {
            "sequence": entry.sequence,
            "time": entry.time,
            "kind": entry.kind,
            **entry.content,
        }


def _is_lower(desk: Desk, found: Calibration) -> bool:
    """Return whether a threshold is below the one in force."""
    if not lines.is_drawn(desk, found.question):
        return False
    return found.threshold < lines.line(desk, found.question).threshold


def _rate_of_settings(desk: Desk, question: Question) -> float:
    settings = desk.settings
    return settings.false_match_rate if question == "verify" else settings.false_positive_rate


def _public(found: Calibration, people: int, left_out: int) -> Calibrated:
    return Calibrated(
        question=found.question,
        asked=found.asked,
        rate=found.rate,
        low=found.low,
        high=found.high,
        strangers=found.strangers,
        people=people,
        left_out=left_out,
        warning=found.warning,
    )


def _strangers(
    desk: Desk, source: Source | None, progress: Progress
) -> tuple[NDArray[np.float32], int]:
    """Return a template of each person of a source [M, D], and how many showed no face."""
    found, left_out = [], 0
    for number, pixels in enumerate(_first_of_each(source) if source else ()):
        progress("strangers", number, MAX_PEOPLE)
        try:
            found.append(desk.template(desk.look_at(pixels)))
        except FaceRefused:
            left_out += 1
    if source is not None and not found:
        raise DataError(
            f"expected faces in {source.name}, found none",
            hint="--impostors takes photographs as people are enrolled from",
        )
    if not found:
        return np.empty((0, desk.embedder.dimension), np.float32), left_out
    return np.stack(found), left_out


def _first_of_each(source: Source) -> Iterable[Pixels]:
    seen: set[str] = set()
    for photograph in source.photographs():
        if photograph.person not in seen:
            seen.add(photograph.person)
            yield photograph.load()
        if len(seen) == MAX_PEOPLE:
            return
