"""How far each organisation's ledger had come when an update was taken: none turns back.

An old copy of a ledger verifies by itself, and who trains on its account spends a budget twice.
But the entry that then pays for an update is no newer than one that this coordinator was shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from veilface_common.errors import FederationError
from veilface_common.protocol import LedgerHead
from veilface_server.checkpoint import RoundRecord


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The newest entry that an organisation has paid with, and the round in which it was shown."""

    entry: LedgerHead
    round: int


def newest_shown(records: Iterable[RoundRecord]) -> dict[str, Shown]:
    """Return of each organisation the newest entry in `records`, repeated rounds included."""
    newest: dict[str, Shown] = {}
    for record in records:
        for name, body in record.ledger_heads.items():
            entry = LedgerHead(sequence=int(body["sequence"]), hash=str(body["hash"]))
            if name not in newest or entry.sequence >= newest[name].entry.sequence:
                newest[name] = Shown(entry=entry, round=record.round)
    return newest


def verify_grown(shown: Shown | None, entry: LedgerHead, *, update_of: int | None) -> None:
    """Do nothing if `entry` is newer than what was shown; or the same, in the same round again.

    A round that is asked for again, after a crash, gets the update that was kept, which is not paid
    for twice. Anywhere else the same entry would pay for two things.

    Args:
        shown: the newest entry that the organisation has paid with, if any.
        entry: what it pays with now.
        update_of: the round whose update is paid for; None where it is not for an update.

    Raises:
        FederationError: an older ledger was put back, or one entry pays twice.
    """
    if shown is None or entry.sequence > shown.entry.sequence:
        return
    if entry != shown.entry:
        raise FederationError(
            f"expected a ledger beyond entry {shown.entry.sequence}, which paid in round "
            f"{shown.round}, got another entry {entry.sequence}: was an older copy put back?"
        )
    if update_of != shown.round:
        raise FederationError(
            f"expected a charge of its own, got entry {entry.sequence} of the ledger, which paid "
            f"in round {shown.round}"
        )
