"""Which parts of a face a decision hung on: an aid for people, and no proof.

Occlusion (Zeiler & Fergus 2014, section 4.2): a grey square is moved over the aligned face, and
what is drawn is how much less alike the rest then is. Only the pattern is shown, stretched to its
own largest value, so that no score can be read from it.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veilface_client.limits import verify_allowed
from veilface_client.recognition.desk import Desk
from veilface_client.recognition.matching import best_score, templates_of
from veilface_client.roles import Actor
from veilface_common.errors import DataError

PATCH = 28  # pixels of the 112, about an eye and its brow
STRIDE = 14
_GREY = 128
_SHOWN = 336  # pixels of a side


def explain(desk: Desk, actor: Actor, name: str, photo: bytes, card: str | None = None) -> bytes:
    """Return a PNG: the aligned face, and beside it what made it look like the person of this name.

    Raises:
        AccessDenied: they may not ask, or too much was asked.
        DataError: nobody of that name is enrolled.
        FaceRefused: the photograph cannot be used.
        WrongKey: the person's card is needed.
    """
    desk.verify_may(actor, "explain")
    person = desk.person(name)
    templates = templates_of(desk, person, card)
    if not templates:
        raise DataError("expected templates by the model in use, got none", hint="enrol them again")
    face = desk.look(photo)
    subject = desk.vault.pseudonym(person)
    with desk.log.exclusive():  # nor is a picture had of somebody whom nobody may ask about
        verify_allowed(desk.log, desk.settings.limits, actor, subject, desk.clock())
        desk.write("note", actor, "done", subject=subject, reason="explained")
    return picture(face.pixels, occlusion(desk, face.pixels, templates))


def occlusion(
    desk: Desk, pixels: NDArray[np.uint8], templates: list[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Return how much each place matters: [H, W] of the aligned face, in [0, 1]."""
    side = len(pixels)
    whole = best_score(desk.embedder.embed(pixels), templates)
    loss, times = np.zeros((side, side)), np.zeros((side, side))
    for top in range(0, side - PATCH + 1, STRIDE):
        for left in range(0, side - PATCH + 1, STRIDE):
            place = slice(top, top + PATCH), slice(left, left + PATCH)
            hidden = pixels.copy()
            hidden[place] = _GREY
            drop = whole - best_score(desk.embedder.embed(hidden), templates)
            loss[place] += max(0.0, drop)
            times[place] += 1
    mean = loss / np.maximum(times, 1)
    largest = float(mean.max())
    return mean / largest if largest > 0 else mean


def picture(pixels: NDArray[np.uint8], weight: NDArray[np.float64]) -> bytes:
    """Return face and map side by side as a PNG: the redder, the more it mattered."""
    face = Image.fromarray(pixels).resize((_SHOWN, _SHOWN), Image.Resampling.BICUBIC)
    map_of = Image.fromarray((255 * weight).astype(np.uint8)).resize(
        (_SHOWN, _SHOWN), Image.Resampling.BICUBIC
    )
    red = Image.new("RGB", (_SHOWN, _SHOWN), (214, 40, 40))
    grey = face.convert("L").convert("RGB")
    shown = Image.composite(red, grey, map_of.point(lambda value: int(0.7 * value)))
    both = Image.new("RGB", (2 * _SHOWN, _SHOWN))
    both.paste(face, (0, 0))
    both.paste(shown, (_SHOWN, 0))
    content = io.BytesIO()
    both.save(content, format="PNG")
    return content.getvalue()
