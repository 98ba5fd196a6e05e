"""Who stays visible: those who were named to be kept, or all but those who were named to be hidden.

In doubt a face is hidden. It is in doubt where it is too poor a picture to know anybody by; for
`--except` also where the house would not name it; for `--only` where it is anything like one of
the people named, as one stranger in ten is. Who is asked about goes through the doors of every
identification, and stands in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from veilface_client.access_events import Outcome
from veilface_client.hiding.films import Judge, Templates
from veilface_client.limits import LimitReached, verify_allowed
from veilface_client.recognition import lines, matching
from veilface_client.recognition.desk import Desk
from veilface_client.roles import Actor
from veilface_client.video.desks import Answering
from veilface_common.errors import ConfigError


def keeping(desk: Desk, naming: Answering, names: Sequence[str]) -> Judge:
    """Return what keeps the people of these names and nobody else.

    Args:
        desk: the organisation's.
        naming: says who somebody is, as `video.desks.answering_of` does.
        names: of people who are enrolled.

    Raises:
        UnknownPerson: one of them is not.
        WrongKey: the templates of one open with their card alone.
        ConfigError: one of them has no template that can be compared.
    """
    kept = {desk.name_of(desk.person(name)) for name in names}
    known = [template for of_one in _templates(desk, names) for template in of_one]

    def stays(looks: Templates, before: bool | None) -> bool:  # noqa: FBT001 -- as `Judge` has it
        # The mean of the looks is steadier than one; the newest alone tells of a change of person.
        if matching.best_score(looks[-1], known) < lines.lenient(desk):
            return False
        probe = np.mean(looks, axis=0)
        if before:  # named already, and in the log
            with desk.gallery() as gallery:
                line = lines.line(desk, "identify", len(gallery))
            return line.band(matching.best_score(probe, known)) != "none"
        name, _ = naming(probe, before is not None)
        return name in kept

    return stays


def hiding(desk: Desk, actor: Actor, names: Sequence[str], tell: Callable[[str], None]) -> Judge:
    """Return what keeps everybody who is certainly none of these people.

    Args:
        desk: the organisation's.
        actor: who asks.
        names: of people who are enrolled without a card of their own.
        tell: is told, once, that a limit is reached; everybody is hidden beyond it.

    Raises:
        UnknownPerson, WrongKey, ConfigError: as `keeping` does.
    """
    known = _templates(desk, names)
    people = [desk.vault.pseudonym(desk.person(name)) for name in names]
    told: list[str] = []

    def stays(looks: Templates, before: bool | None) -> bool:  # noqa: FBT001 -- as `Judge` has it
        if before is False:  # once alike, always hidden
            return False
        # One look at which somebody is not like himself must not show him: all count.
        alike = [max(matching.best_score(look, of_one) for look in looks) for of_one in known]
        nearest = int(np.argmax(alike))
        is_nobody = alike[nearest] < lines.lenient(desk)
        if before == is_nobody:
            return is_nobody
        with desk.log.exclusive():
            try:
                verify_allowed(desk.log, desk.settings.limits, actor, None, desk.clock())
            except LimitReached as limit:
                if not told:
                    told.append(f"{limit}; {limit.hint}; until then everybody is hidden")
                    tell(told[0])
                return False
            subject = None if is_nobody else people[nearest]
            outcome: Outcome = "unknown" if is_nobody else "known"
            desk.write("identified", actor, outcome, subject=subject, reason="to be hidden")
        return is_nobody

    desk.verify_may(actor, "identify")
    return stays


def _templates(desk: Desk, names: Sequence[str]) -> list[list[NDArray[np.float32]]]:
    found = [matching.templates_of(desk, desk.person(name)) for name in names]
    if not all(found):
        raise ConfigError(
            "expected people with templates of the model in use, got somebody without",
            hint="enrol them again",
        )
    return found
