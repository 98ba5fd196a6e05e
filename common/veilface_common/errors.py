"""Every error that Veilface raises on purpose.

VeilfaceError              1   the root: a message, an optional hint, an exit code
|-- ConfigError            2   a setting that cannot be used
|-- DataError              3   photographs that cannot be used
|-- ArtifactError          4   a model or checkpoint file that cannot be trusted
|-- ProtocolError          5   a message that is not what the protocol allows
|   `-- UpdateRejected     5   an organisation's update that must not be summed
|-- FederationError        6   a federation that cannot go on
|-- EngineError            7   Flower or Ray failed underneath
`-- TrainingDiverged       8   training that left the finite numbers
"""

from __future__ import annotations

from typing import ClassVar


class VeilfaceError(Exception):
    """The root of the tree: what went wrong in one line, and a hint what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(VeilfaceError):
    """A setting that cannot be used."""

    exit_code = 2


class DataError(VeilfaceError):
    """Photographs that cannot be used."""

    exit_code = 3


class ArtifactError(VeilfaceError):
    """A model or checkpoint file that is damaged, foreign or not what its manifest says."""

    exit_code = 4


class ProtocolError(VeilfaceError):
    """A message that is not what the protocol allows."""

    exit_code = 5


class UpdateRejected(ProtocolError):  # noqa: N818 -- named for what happened
    """An organisation's update that must not be summed: wrong shape, not finite, too large."""


class FederationError(VeilfaceError):
    """A federation that cannot go on, such as too few replies in a round."""

    exit_code = 6


class EngineError(VeilfaceError):
    """Flower or Ray failed underneath."""

    exit_code = 7


class TrainingDiverged(VeilfaceError):  # noqa: N818 -- named for what happened
    """Training that left the finite numbers; the network it was given is spoilt."""

    exit_code = 8
