"""What a verified ledger says, entry by entry: for reports. No key is needed but the public one.

The rules of `entries` are verified of every entry. What they leave free (the context of a
reservation, the words of a refusal) may be missing or odd, and is then None: not recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from veilface_common.budget import events
from veilface_common.budget.entries import Entry, State
from veilface_common.budget.events import Event
from veilface_common.budget.policy import Policy, policy_from_body
from veilface_common.budget.store import read_entries
from veilface_common.crypto.signing import VerifyKey, parse_verify_key
from veilface_common.errors import BudgetError, KeyFileError, LedgerError

T = TypeVar("T", bound=int | float | str)


@dataclass(frozen=True, kw_only=True)
class Reserved:
    """A charge, what it was for, and what came of it."""

    sequence: int
    time: str
    event: Event
    run: str | None
    round: int | None
    rounds: int | None
    max_gradient_norm: float | None  # C
    images_per_unit: int | None  # at most, in a step
    units_declared: int | None
    head: str | None
    trained: str | None
    random: str | None  # where the noise came from
    settled: bool = False
    outcome: str | None = None


@dataclass(frozen=True, kw_only=True)
class Released:
    """Figures that were charged before they left; there is nothing to settle."""

    sequence: int
    time: str
    event: Event
    run: str | None
    what: str | None  # which figures
    held_out_share: float | None  # of the organisation's people: those whom they are of
    random: str | None  # where the noise came from


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A request that the policy did not allow; nothing was charged."""

    sequence: int
    time: str
    asked: Event | None  # None also where it was for no private training at all
    run: str | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class PolicyChange:
    """A policy, from that entry on."""

    sequence: int
    time: str
    policy: Policy
    loosened: bool  # it allows something that the one before did not


@dataclass(frozen=True, kw_only=True)
class Note:
    """A sentence that somebody wrote into the ledger, or a change of its key."""

    sequence: int
    time: str
    text: str


@dataclass(frozen=True, kw_only=True)
class History:
    """A whole ledger, verified."""

    organisation: str
    commitment: str | None  # keyed digest of the data's content
    people_declared: int | None
    images_declared: int | None
    started: str
    newest: str  # time of the newest entry
    state: State  # after all entries
    reserved: tuple[Reserved, ...]
    released: tuple[Released, ...]
    refused: tuple[Refused, ...]
    policies: tuple[PolicyChange, ...]  # at least one
    notes: tuple[Note, ...]

    @property
    def charges(self) -> tuple[Reserved | Released, ...]:
        """All that counts, in the order in which it was charged."""
        return tuple(sorted((*self.reserved, *self.released), key=lambda item: item.sequence))


def read_history(path: Path, key: VerifyKey) -> History:
    """Return what the ledger in a file says.

    Raises:
        LedgerError: it cannot be read, or an entry breaks a rule or is not signed by `key`.
    """
    return history_of(read_entries(path), key)


def history_of(entries: Iterable[Entry], key: VerifyKey) -> History:
    """Return what entries say, of which the first is to be signed by `key`; raises as above."""
    state, kept = State.before_all(key), list(entries)
    for entry in kept:
        state = _after(state, entry)
    if not kept or state.policy is None:
        raise LedgerError("expected a registration and a policy in the ledger, got none")
    first = kept[0].content
    _verify_named(first, key)
    return History(
        organisation=_recorded(first, "organisation", str) or "not recorded",
        commitment=_recorded(first, "commitment", str),
        people_declared=_recorded(first, "people_declared", int),
        images_declared=_recorded(first, "images_declared", int),
        started=kept[0].time,
        newest=kept[-1].time,
        state=state,
        reserved=_reserved(kept),
        released=tuple(_released(entry) for entry in kept if entry.kind == "release"),
        refused=tuple(_refused(entry) for entry in kept if entry.kind == "refuse"),
        policies=_policies(kept),
        notes=tuple(_note(entry) for entry in kept if entry.kind in {"note", "key-rotated"}),
    )


def _after(state: State, entry: Entry) -> State:
    """Return the state after one more entry, however oddly that is written."""
    try:
        return state.after(entry)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        number = state.head.sequence + 1
        raise LedgerError(f"entry {number}: it cannot be read as an entry") from error


def _verify_named(registration: Mapping[str, Any], key: VerifyKey) -> None:
    try:
        named = parse_verify_key(str(registration["public_key"]).encode())
    except (KeyFileError, KeyError) as error:
        raise LedgerError("entry 1: expected the key of the ledger") from error
    if named.fingerprint != key.fingerprint:
        raise LedgerError(f"entry 1: expected key {key.fingerprint}, got {named.fingerprint}")


def _reserved(entries: Iterable[Entry]) -> tuple[Reserved, ...]:
    found: dict[int, Reserved] = {}
    for entry in entries:
        if entry.kind == "reserve":
            found[entry.sequence] = _charge(entry)
        elif entry.kind == "settle":
            number = int(entry.content["reservation"])
            outcome = _recorded(entry.content, "outcome", str)
            found[number] = replace(found[number], settled=True, outcome=outcome)
    return tuple(found.values())


def _charge(entry: Entry) -> Reserved:
    context = _context(entry)
    return Reserved(
        sequence=entry.sequence,
        time=entry.time,
        event=events.from_body(entry.content["event"]),
        run=_recorded(context, "run", str),
        round=_recorded(context, "round", int),
        rounds=_recorded(context, "rounds", int),
        max_gradient_norm=_recorded(context, "max_gradient_norm", float),
        images_per_unit=_recorded(context, "images_per_unit", int),
        units_declared=_recorded(context, "units_declared", int),
        head=_recorded(context, "head", str),
        trained=_recorded(context, "trained", str),
        random=_recorded(context, "random", str),
    )


def _released(entry: Entry) -> Released:
    context = _context(entry)
    return Released(
        sequence=entry.sequence,
        time=entry.time,
        event=events.from_body(entry.content["event"]),
        run=_recorded(context, "run", str),
        what=_recorded(context, "what", str),
        held_out_share=_recorded(context, "held_out_share", float),
        random=_recorded(context, "random", str),
    )


def _refused(entry: Entry) -> Refused:
    try:
        asked = events.from_body(entry.content["event"])
    except (AttributeError, BudgetError, KeyError, TypeError):
        asked = None
    return Refused(
        sequence=entry.sequence,
        time=entry.time,
        asked=asked,
        run=_recorded(_context(entry), "run", str),
        reason=_recorded(entry.content, "reason", str),
    )


def _policies(entries: Iterable[Entry]) -> tuple[PolicyChange, ...]:
    """Return the policies; whether one is looser is compared here, not taken from the entry."""
    changes: list[PolicyChange] = []
    for entry in entries:
        if entry.kind != "policy":
            continue
        policy = policy_from_body(entry.content["policy"])
        loosened = bool(changes) and policy.is_looser_than(changes[-1].policy)
        changes.append(
            PolicyChange(sequence=entry.sequence, time=entry.time, policy=policy, loosened=loosened)
        )
    return tuple(changes)


def _note(entry: Entry) -> Note:
    if entry.kind == "note":
        text = _recorded(entry.content, "text", str) or "not recorded"
    else:
        key = parse_verify_key(str(entry.content["public_key"]).encode())
        text = f"From here on key {key.fingerprint} signs; the key before it said so."
    return Note(sequence=entry.sequence, time=entry.time, text=text)


def _context(entry: Entry) -> Mapping[str, Any]:
    context = entry.content.get("context")
    return context if isinstance(context, dict) else {}


def _recorded(body: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    """Return a value of the body if it is there and of that type."""
    value = body.get(name)
    if kind is float and type(value) is int:
        return kind(value)
    return value if type(value) is kind else None
