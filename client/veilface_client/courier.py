"""To the keeper and back, over its Unix socket; what is carried is read by nobody on the way.

A keeper that ends in the middle is asked again, and gives the same answer on the same charge. That
lasts for a few attempts (`MAX_ATTEMPTS` of the ledger): one that a request kills each time must not
be charged for it for ever, so it is not asked more often than that.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path

from veilface_common import wire
from veilface_common.errors import ProtocolError, RequestRefused
from veilface_common.wire import Envelope

AWAY_SECONDS = 120.0  # a keeper that starts again is waited for
_RETRY_SECONDS = 1.0
_ATTEMPTS = 3  # at which the keeper may end while it is at work


def carry(path: Path, envelope: Envelope, away_seconds: float = AWAY_SECONDS) -> Envelope:
    """Return the keeper's answer to a request, however long it trains.

    Raises:
        RequestRefused: it does not take the request, and says why.
        ProtocolError: it stayed away for `away_seconds`, ended too often, or answered in another
            protocol.
    """
    ends = time.monotonic() + away_seconds
    ended = 0
    while True:
        began = time.monotonic()
        try:
            return _asked(path, envelope)
        except OSError as error:
            if time.monotonic() - began >= _RETRY_SECONDS:  # it was at work: away from now on
                ends = time.monotonic() + away_seconds
                ended += 1
            if ended >= _ATTEMPTS or time.monotonic() >= ends:
                what = f"it ended {ended} times" if ended else f"nobody for {away_seconds:g} s"
                raise ProtocolError(
                    f"expected the organisation's keeper, got {what} "
                    f"({error.strerror or 'it hung up'})",
                    hint="at the organisation: veilface serve",
                ) from None
            time.sleep(min(_RETRY_SECONDS, max(0.0, ends - time.monotonic())))


def _asked(path: Path, envelope: Envelope) -> Envelope:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))
        # Refused before its end: the reason is there to be read.
        with suppress(BrokenPipeError, ConnectionResetError):
            wire.write_frame(connection, wire.REQUEST, envelope)
        kind, answer = wire.read_frame(connection)
    if kind == wire.REFUSED:
        raise RequestRefused(answer.header)
    return answer
