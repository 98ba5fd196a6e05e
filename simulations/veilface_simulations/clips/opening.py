"""Which clips a text names."""

from __future__ import annotations

from pathlib import Path

from veilface_common.errors import ConfigError
from veilface_simulations.clips.clip import ClipSource, Split
from veilface_simulations.clips.drawn_clips import DrawnClips
from veilface_simulations.clips.photographs import Photographs

CLIPS_HELP = "drawn or wider:PATH"


def open_clips(text: str, split: Split) -> ClipSource:
    """Return the source that `drawn` or `wider:PATH` names.

    Raises:
        ConfigError: it names none.
        DataError: later, by the clips: the folder cannot be used.
    """
    kind, _, where = text.partition(":")
    if text == "drawn":
        return DrawnClips(split=split)
    if kind == "wider" and where:
        return Photographs(name=text, folder=Path(where), split=split)
    raise ConfigError(f"expected {CLIPS_HELP}, got {text!r}")
