"""Where the line is drawn: as the organisation calibrated, else as the model's maker measured."""

from __future__ import annotations

import json

from veilface_client.calibration import STRICTER, Calibration, Question
from veilface_client.recognition.answers import Line
from veilface_client.recognition.desk import Desk
from veilface_common import typed_json
from veilface_common.errors import ConfigError

LENIENT = 0.1


def calibration(desk: Desk, question: Question) -> Calibration | None:
    """Return the organisation's own threshold for this model, if it was calibrated."""
    stored = desk.vault.secret(_calibration_name(question, desk.model))
    if stored is None:
        return None
    return typed_json.from_json(Calibration, json.loads(stored), "the calibration")


def set_calibration(desk: Desk, found: Calibration) -> None:
    """Decide by this from now on."""
    text = json.dumps(typed_json.to_json(found), sort_keys=True).encode()
    desk.vault.set_secret(_calibration_name(found.question, desk.model), text)


def line(desk: Desk, question: Question, comparisons: int = 1) -> Line:
    """Return where the line is drawn: as calibrated, else as the model's manifest says.

    Args:
        desk: the organisation's.
        question: of which the answer is.
        comparisons: with how many templates a probe is compared for it. The best of them
            counts, so each is one more chance to be mistaken.

    Raises:
        ConfigError: neither says anything.
    """
    own = calibration(desk, question)
    if own is None:
        return _line_of_model(desk, question, comparisons)
    threshold = own.threshold_for(max(1, len(desk.names())))
    return Line(threshold=threshold, strong=max(own.strong, threshold), warning=own.warning)


def lenient(desk: Desk) -> float:
    """Return the cosine below which two photographs do not even look alike.

    It is what one pair of strangers in ten has: too low to recognise anybody by, and as much
    as may be asked of two photographs of one person before either is enrolled.
    """
    if not is_drawn(desk, "verify"):
        return -1.0  # nothing is known of strangers yet: everything looks alike
    known = desk.embedder.impostors
    loosest = known.threshold(LENIENT)[0] if known else 1.0
    return min(loosest, line(desk, "verify").threshold)


def is_drawn(desk: Desk, question: Question) -> bool:
    """Return whether there is a line at all: a calibration, or what the model's manifest says."""
    return desk.embedder.impostors is not None or calibration(desk, question) is not None


def _line_of_model(desk: Desk, question: Question, comparisons: int) -> Line:
    known = desk.embedder.impostors
    if known is None:
        raise ConfigError(
            "expected a threshold, got a model that says nothing of strangers",
            hint="veilface calibrate --impostors folder:PATH chooses one",
        )
    rates = {
        "verify": desk.settings.false_match_rate,
        "identify": desk.settings.false_positive_rate,
    }
    rate = rates[question] / max(1, comparisons)
    threshold, given = known.threshold(rate)
    warning = f"the threshold is of the model's maker, from {known.people} people"
    if given > rate * (1 + 1e-9):
        warning += f"; they are too few for a rate of {rates[question]:g}"
    strong, _ = known.threshold(rate * STRICTER)
    return Line(threshold=threshold, strong=strong, warning=warning)


def _calibration_name(question: Question, model: str) -> str:
    return f"calibration {question} {model}"
