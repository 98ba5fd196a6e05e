"""Every error that Veilface raises on purpose.

VeilfaceError              1   the root: a message, an optional hint, an exit code
|-- ConfigError            2   a setting that cannot be used
|-- DataError              3   photographs that cannot be used
|-- ArtifactError          4   a model or checkpoint file that cannot be trusted
|   |-- KeyFileError       4   a key that is missing, foreign or open to others
|   `-- SignatureError     4   something that its signer did not sign
|-- ProtocolError          5   a message that is not what the protocol allows
|   |-- RequestRefused     5   a request that an organisation does not take; the reason may be told
|   `-- UpdateRejected     5   an organisation's update that must not be summed
|-- FederationError        6   a federation that cannot go on
|-- EngineError            7   Flower or Ray failed underneath
|-- TrainingDiverged       8   training that left the finite numbers
|-- BudgetError            9   a privacy plan or event that cannot be used
|   `-- BudgetExceeded     9   a release that the organisation's policy does not allow
|-- LedgerError           10   a ledger that is damaged, altered or rolled back
|   `-- LogError           10   an access log of which the same is true
|-- VaultError            11   a vault, or a key to one, that is damaged, altered or foreign
|   `-- WrongKey          11   a passphrase, key or token that does not open this vault
`-- AccessDenied          12   something that the one who asks may not do
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


class KeyFileError(ArtifactError):
    """A key that is missing, of another kind, or open to others."""


class SignatureError(ArtifactError):
    """Something that its signer did not sign, or that was altered since."""


class ProtocolError(VeilfaceError):
    """A message that is not what the protocol allows."""

    exit_code = 5


class RequestRefused(ProtocolError):  # noqa: N818 -- named for what happened
    """A request that an organisation does not take; its message is for the coordinator's eyes."""


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


class BudgetError(VeilfaceError):
    """A privacy plan or event that cannot be used."""

    exit_code = 9


class BudgetExceeded(BudgetError):  # noqa: N818 -- named for what happened
    """A release that the organisation's policy does not allow; nothing was charged for it."""


class LedgerError(VeilfaceError):
    """A ledger that is damaged, altered, signed by another key or older than others know it."""

    exit_code = 10


class LogError(LedgerError):
    """An access log that is damaged, altered, signed by another key or rolled back."""


class VaultError(VeilfaceError):
    """A vault, or a wrapped key to one, that is damaged, altered, foreign or of another format."""

    exit_code = 11


class WrongKey(VaultError):  # noqa: N818 -- named for what happened
    """A passphrase, key, token or recovery key that does not open this vault."""


class AccessDenied(VeilfaceError):  # noqa: N818 -- named for what happened
    """Something that the one who asks may not do."""

    exit_code = 12
