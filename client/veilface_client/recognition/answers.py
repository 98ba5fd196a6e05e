"""What is answered: a decision and a band. Scores and templates never leave.

A hundred exact scores rebuild a template that passes for most people, and rounding is no defence;
three bands stop that attack (docs/recognition.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from veilface_common.errors import DataError

Band = Literal["strong", "match", "none"]
Reason = Literal[
    "above the threshold",
    "below the threshold",
    "second best too near",
    "nobody is enrolled",
    "photograph refused",
]
ABOVE: Reason = "above the threshold"
BELOW: Reason = "below the threshold"
TOO_NEAR: Reason = "second best too near"
NOBODY: Reason = "nobody is enrolled"
UNUSABLE: Reason = "photograph refused"


class UnknownPerson(DataError):  # noqa: N818 -- named for what happened
    """A name that nobody enrolled has; the name is not repeated."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Is this the person that they claim to be?"""

    match: bool
    band: Band
    reason: Reason
    detail: str = ""  # of a photograph that was refused: what to do
    warning: str = ""  # of a threshold that rests on too little


@dataclass(frozen=True, kw_only=True)
class Identification:
    """Who is this? A name, or nobody that we know."""

    answer: str | None
    reason: Reason
    detail: str = ""
    warning: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Where a decision is drawn, in cosine; it stays inside."""

    threshold: float
    strong: float
    warning: str = ""

    def band(self, score: float) -> Band:
        """Return the band of a score; one on the line does not count."""
        if score > max(self.strong, self.threshold):
            return "strong"
        return "match" if score > self.threshold else "none"


def decide(cosines: Sequence[float], line: Line, margin: float) -> Reason:
    """Return why the likest person is named, or nobody.

    Args:
        cosines: of the probe with the people most like it, the likest first; two are enough.
        line: where the threshold lies.
        margin: by which the likest must be ahead of the second.
    """
    if not cosines:
        return NOBODY
    if line.band(cosines[0]) == "none":
        return BELOW
    if len(cosines) > 1 and cosines[0] - cosines[1] < margin:
        return TOO_NEAR
    return ABOVE
