"""Reaching the coordinator: over TLS that its own authority vouches for, and with what clock.

The authority came with the invitation; no other is asked, so a certificate that the whole world
trusts does not help whoever stands in between.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from veilface_common.errors import ArtifactError, EngineError, FederationError

if TYPE_CHECKING:
    import httpx

HEALTH = "/veilface/health"
BEHIND_SECONDS = 300.0  # Flower takes signatures this old, ...
AHEAD_SECONDS = 5.0  # ... and from this far in the future
_WARN_BEHIND_SECONDS = 60.0
_WARN_AHEAD_SECONDS = 2.0  # the Date header has whole seconds
_PATIENCE_SECONDS = 15.0


class Unreachable(FederationError):  # noqa: N818 -- named for what happened
    """A coordinator that is away: nobody answers at its address."""


class AnswerLost(Unreachable):
    """A coordinator that may have heard us: the connection broke after we had asked."""


class WrongAuthority(FederationError):  # noqa: N818 -- named for what happened
    """Somebody answers for whom the coordinator's authority does not vouch."""


def verify_clock(address: str, authority: str) -> str | None:
    """Return a warning about this machine's clock, as against the coordinator's, or nothing.

    Raises:
        EngineError: the clocks are so far apart that Flower refuses what the node signs.
        Unreachable, WrongAuthority: it could not be asked.
    """
    with connected(address, authority) as client, client.stream("GET", HEALTH) as answer:
        date = answer.headers.get("date", "")
    try:
        theirs = parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
    if theirs.tzinfo is None:
        return None
    return clock_warning(datetime.now(UTC), theirs)


def clock_warning(ours: datetime, theirs: datetime) -> str | None:
    """Return a warning where the clocks differ. Raises EngineError where they differ too much."""
    ahead = (ours - theirs).total_seconds()
    if not -BEHIND_SECONDS <= ahead <= AHEAD_SECONDS + 1:
        raise EngineError(
            f"expected this machine's clock within {BEHIND_SECONDS:g} s behind and "
            f"{AHEAD_SECONDS:g} s ahead of the coordinator's, got {_apart(ahead)}",
            hint="set the clock, on both sides by NTP",
        )
    if -_WARN_BEHIND_SECONDS <= ahead <= _WARN_AHEAD_SECONDS:
        return None
    return f"this machine's clock is {_apart(ahead)} of the coordinator's; set both by NTP"


@contextmanager
def connected(address: str, authority: str) -> Iterator[httpx.Client]:
    """Give an HTTP client for `https://address`; what goes wrong inside is said in our words.

    Raises:
        ArtifactError: the authority is no certificate.
        WrongAuthority: another one vouches for who answers.
        AnswerLost: the connection broke, or the answer took too long.
        Unreachable: nobody answers.
    """
    import httpx  # noqa: PLC0415 -- a tenth of a second that most commands do not need

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=authority)
    except (ssl.SSLError, ValueError):
        raise ArtifactError(
            "expected the certificate of an authority, got something else"
        ) from None
    try:
        with httpx.Client(
            base_url=f"https://{address}",
            verify=context,
            timeout=_PATIENCE_SECONDS,
            headers={"accept-encoding": "identity"},
        ) as client:
            yield client
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise WrongAuthority(
                f"expected the coordinator at {address}, got somebody for whom its authority "
                "does not vouch",
                hint="ask the coordinator by telephone: was its certificate or its name changed?",
            ) from None
        raise Unreachable(
            f"expected the coordinator at {address}, got no connection",
            hint="is veilface-server running, and does a firewall let the port through?",
        ) from None
    except httpx.TransportError as error:
        raise AnswerLost(
            f"expected an answer from {address}, got {type(error).__name__}",
            hint="try the same again",
        ) from None


def body_of(answer: httpx.Response, most: int) -> bytes:
    """Return what is answered, as it comes: nothing that was packed small is unpacked.

    Raises:
        ArtifactError: it is longer than `most` bytes, and was not read to its end.
    """
    content = bytearray()
    for piece in answer.iter_raw():
        content += piece
        if len(content) > most:
            raise ArtifactError(f"expected at most {most} bytes of an answer, got more")
    return bytes(content)


def _apart(ahead: float) -> str:
    return f"{abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
