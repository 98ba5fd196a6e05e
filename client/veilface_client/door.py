"""The keeper's door: a signed request in, a signed reply out; all that is not in order ends here.

What stands between a coordinator and the faces, in this order: size and form, signature of a known
coordinator, addressee, model and settings as signed (`protocol`); the organisation's rules; the
order of a run's rounds (`asked`); policy and budget (`account`); then the keeper trains.

A refusal says why to the coordinator, and is an entry of the ledger, where there is one. Anything
else that goes wrong stays at home: the coordinator hears of which kind it was.

    DIR/door.lock    held while a request is worked on, by one keeper of those that share DIR
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from veilface_client import asked
from veilface_client.account import open_ledger
from veilface_client.failures import kept_at_home
from veilface_client.identity import load_coordinators, load_identity
from veilface_client.keeper import Keeper
from veilface_client.organisation import load_organisation
from veilface_client.rules import load_rules
from veilface_common import protocol
from veilface_common.budget.ledger import Ledger
from veilface_common.crypto.signing import VerifyKey
from veilface_common.errors import (
    BudgetExceeded,
    ProtocolError,
    RequestRefused,
    SignatureError,
    VeilfaceError,
)
from veilface_common.locks import held
from veilface_common.protocol import EvaluateReply, EvaluateRequest, Reply, TrainReply, TrainRequest
from veilface_common.wire import Envelope

Now = Callable[[], datetime]
LOCK = "door.lock"
STRANGERS_NOTED = 10  # entries of the ledger that requests of strangers may write in an hour
REFUSED_IN_AN_HOUR = 60  # or failed; then a coordinator's requests are not looked at any more
_STRANGERS = ""


def local_now() -> datetime:
    """Return the time at the organisation."""
    return datetime.now().astimezone()


class Door:
    """One organisation's door. Threads may share it: one round is worked on at a time."""

    def __init__(self, folder: Path, now: Now = local_now) -> None:
        self._folder = folder
        self._now = now
        self._refused: defaultdict[str, list[datetime]] = defaultdict(list)  # by whom it was asked

    @property
    def max_model_bytes(self) -> int:
        """How large a model may be that a request brings. Raises ProtocolError, as `answer`."""
        with kept_at_home(self._folder, "request"):
            return load_rules(self._folder).max_model_bytes

    def answer(self, envelope: Envelope) -> Envelope:
        """Return the signed reply to a request.

        Raises:
            RequestRefused: it is not taken, and there is no run that could be told so.
            ProtocolError: answering it failed; of which kind, the message says, and no more.
        """
        with kept_at_home(self._folder, "request", passing=RequestRefused):
            return self._answer(envelope)

    def _answer(self, envelope: Envelope) -> Envelope:
        name = load_organisation(self._folder).name
        key = load_identity(self._folder)
        try:
            opened = protocol.open_request(
                envelope, name=name, coordinators=load_coordinators(self._folder)
            )
        except (ProtocolError, SignatureError) as error:
            if self._counted(_STRANGERS) <= STRANGERS_NOTED:
                who = (
                    "nobody who is known here" if isinstance(error, SignatureError) else "not said"
                )
                self._note(str(error), {"from": who})
            raise RequestRefused(str(error)) from None
        request = opened.request
        if isinstance(request, protocol.DescribeRequest):
            return protocol.encode_description(name, key)
        what = f"{request.kind} {request.round}"
        # Nobody else works on a request of this folder: an open charge is then one that a crash
        # left behind, and may be trained on again.
        with kept_at_home(self._folder, what), held(self._folder / LOCK):
            reply = self._decided(name, request, opened.coordinator)
        return protocol.encode_reply(reply, request=request, key=key)

    def _decided(
        self, name: str, request: TrainRequest | EvaluateRequest, coordinator: VerifyKey
    ) -> Reply:
        """Return what was granted, or the refusal and why."""
        who = coordinator.fingerprint
        try:
            if len(self._recent(who)) >= REFUSED_IN_AN_HOUR:
                # Each is an entry: whoever asks for refusals must not make the ledger endless.
                why = f"refused, or failed, {REFUSED_IN_AN_HOUR} times within an hour"
                return _refusal(name, request, RequestRefused(why))
            load_rules(self._folder).verify_takes(request, coordinator, self._now().time())
            asked.verify_next(self._folder, request, coordinator)
            return self._granted(request)
        except BudgetExceeded as refusal:  # the ledger has its entry
            self._counted(who)
            return _refusal(name, request, refusal)
        except RequestRefused as refusal:
            self._counted(who)
            run = request.config.run or request.config.digest[:16]
            self._note(str(refusal), {"from": who, "round": request.round, "run": run})
            return _refusal(name, request, refusal)
        except Exception:  # each run that is begun leaves a line in `asked`, whatever comes of it
            self._counted(who)
            raise

    def _granted(self, request: TrainRequest | EvaluateRequest) -> Reply:
        keeper = Keeper.open(self._folder)
        if isinstance(request, TrainRequest):
            return keeper.train(request)
        return keeper.evaluate(request)

    def _recent(self, who: str) -> list[datetime]:
        now = self._now()
        recent = [then for then in self._refused[who] if (now - then).total_seconds() < 3600]
        self._refused[who] = recent
        return recent

    def _counted(self, who: str) -> int:
        """Count one more refusal of the last hour, and return how many there are."""
        recent = self._recent(who)
        if len(recent) <= REFUSED_IN_AN_HOUR:
            recent.append(self._now())
        return len(recent)

    def _note(self, reason: str, context: dict[str, object]) -> None:
        ledger = self._ledger()
        if ledger is None:
            return
        with suppress(BudgetExceeded):  # that is how a refusal ends, once it is on disk
            ledger.refuse(reason[: protocol.MAX_REFUSAL], context)

    def _ledger(self) -> Ledger | None:
        with suppress(VeilfaceError):  # what is wrong with it, the next request to train says
            return open_ledger(self._folder)
        return None


def _refusal(
    name: str, request: TrainRequest | EvaluateRequest, refusal: BudgetExceeded | RequestRefused
) -> Reply:
    reason, by_rules = str(refusal), isinstance(refusal, RequestRefused)
    number = request.round
    if isinstance(request, EvaluateRequest):
        return EvaluateReply(
            organisation=name, round=number, scores=None, refusal=reason, by_rules=by_rules
        )
    return TrainReply(
        organisation=name, round=number, update=b"", refusal=reason, by_rules=by_rules
    )
