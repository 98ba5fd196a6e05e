"""The organisation's account of what it released: one SQLite file for each data set, append-only.

    CREATE TABLE entries (
      sequence INTEGER PRIMARY KEY, time TEXT, kind TEXT, body TEXT,
      previous BLOB, hash BLOB, signature BLOB)

`reserve` writes the charge and waits for the disk before it returns; only then may a gradient be
taken. `settle` says what came of it. What was reserved counts in full, settled or not, so a crash,
a lost message or a refused round can only over-count. `release` charges in the same way for figures
that leave at once; there is nothing to settle. Opening verifies every entry; a reservation
and the check that it fits are one transaction, so two processes never overspend together.

The file alone cannot show that it is the newest: whoever copies an old one back turns time back.
Its head is therefore given to others with every update, and `verify_holds` compares.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NoReturn

from veilface_common import typed_json
from veilface_common.budget.accountant import Epsilon, epsilon, largest_steps
from veilface_common.budget.entries import Entry, Head, Kind, State, next_entry, rotation
from veilface_common.budget.events import Event, Mechanism, Unit, to_body, total_steps
from veilface_common.budget.policy import Policy, policy_to_body
from veilface_common.budget.store import (
    TABLES,
    caught_up,
    connected,
    entries_after,
    first_key,
    insert,
)
from veilface_common.crypto.signing import SigningKey
from veilface_common.errors import (
    ArtifactError,
    BudgetError,
    BudgetExceeded,
    LedgerError,
)
from veilface_common.files import sync_folder

Clock = Callable[[], str]
SCHEMA = 1
MAX_ATTEMPTS = 3  # at training on one charge


def utc_now() -> str:
    """Return the time as entries hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What the first entry says of the data set: nothing from which a face could be told."""

    organisation: str
    commitment: str  # keyed digest of the data's content, hex
    people_declared: int  # by the organisation; what is divided by, not what is counted
    images_declared: int  # the same, where an image is the unit

    def units_declared(self, unit: Unit) -> int:
        """Return how many units of a kind the organisation says it has."""
        return self.people_declared if unit == "identity" else self.images_declared


class Reservation:
    """A charge that is on disk: what is asked for before a gradient or a figure is computed.

    `Ledger.reserve` alone makes one that `Ledger.settle` takes, and it buys one event, once; so
    does one of `Ledger.release`.
    """

    def __init__(self, number: int, event: Event, head: Head) -> None:
        self.number = number
        self.event = event
        self.head = head  # the ledger's, once this was written
        self._spent = False

    def spend(self, event: Event) -> None:
        """Use the charge for `event`.

        Raises:
            BudgetError: it was made for another event, or was used before.
        """
        if event != self.event:
            raise BudgetError(f"expected to spend {self.event}, got {event}")
        if self._spent:
            raise BudgetError(f"reservation {self.number} was spent before")
        self._spent = True


class Ledger:
    """An open ledger: verified up to its newest entry, and again before each that is added."""

    def __init__(self, path: Path, key: SigningKey, clock: Clock = utc_now) -> None:
        """Open the ledger at `path` and verify all of it.

        Raises:
            LedgerError: there is none, it is damaged or altered, or its key in force is not `key`.
        """
        self._path = path
        self._key = key
        self._clock = clock
        with connected(path) as connection:
            first = first_key(connection)
            self._registration = _registration(connection)
            self._state = caught_up(connection, State.before_all(first))
        if self._state.key.fingerprint != key.public.fingerprint:
            raise LedgerError(
                f"expected the ledger of key {key.public.fingerprint}, "
                f"got one of {self._state.key.fingerprint}"
            )

    @property
    def head(self) -> Head:
        """How far the ledger has come; it travels with every update."""
        return self._state.head

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        assert self._state.policy is not None  # `create_ledger` writes one
        return self._state.policy

    @property
    def registration(self) -> Registration:
        """What the ledger says of its data set."""
        return self._registration

    @property
    def unsettled(self) -> frozenset[int]:
        """The reservations of which nobody said what came of them; they count in full."""
        return self._state.unsettled

    @property
    def steps(self) -> Mapping[Mechanism, int]:
        """How many steps of each mechanism were reserved or released."""
        return self._state.steps

    def spent(self) -> Epsilon:
        """Return the epsilon of all charges so far, at the policy's delta."""
        return epsilon(self._state.steps, self.policy.delta)

    def steps_left(self, mechanism: Mechanism) -> int:
        """Return how many more steps of `mechanism` the policy's epsilon allows."""
        policy = self.policy
        return largest_steps(self._state.steps, mechanism, policy.delta, policy.epsilon)

    def reserve(self, event: Event, context: Mapping[str, object]) -> Reservation:
        """Charge for `event` and return when that is on disk; `context` says what it is for.

        Raises:
            BudgetExceeded: the policy does not allow it; the refusal is an entry too.
            LedgerError: the ledger cannot be written, or is not what it was.
        """
        return self._charge("reserve", event, context)

    def release(self, event: Event, context: Mapping[str, object]) -> Reservation:
        """Charge for figures that are about to leave; return when that is on disk.

        There is nothing to settle: what is charged counts, whether the figures leave or not.

        Raises:
            BudgetError: `event` is not one step that takes everybody.
            BudgetExceeded: the policy does not allow it; the refusal is an entry too.
            LedgerError: the ledger cannot be written, or is not what it was.
        """
        if not event.takes_everybody_once:
            raise BudgetError(f"expected a release that takes everybody once, got {event}")
        return self._charge("release", event, context)

    def resume(self, event: Event, request: str) -> Reservation | None:
        """Return the open reservation of a request whose training a crash cut off, if any.

        What is not settled was never sent, since a reply is kept before it is settled: training
        may begin again on the same charge, and an entry says so. A crash tells its onlookers a
        little each time: the charge lasts for `MAX_ATTEMPTS`, and not beyond a policy that came to
        forbid it. That nobody else trains on it still is for the caller to know.

        `request` is its name, which the context of the reservation holds under "request".

        Raises:
            LedgerError: the ledger cannot be written, or is not what it was.
        """
        with self._writing() as connection:
            mine = self._open_of(connection, request)
            entry = next((e for e in mine if e.content["event"] == to_body(event)), None)
            if entry is None or not self._allows(event):
                return None
            text = f"reservation {entry.sequence} begins again after a crash"
            notes = sum(
                later.kind == "note" and later.content.get("text") == text
                for later in entries_after(connection, after=entry.sequence)
            )
            if notes >= MAX_ATTEMPTS - 1:
                return None
            self._append(connection, "note", {"text": text})
        head = Head(sequence=entry.sequence, hash=entry.hash.hex())
        return Reservation(entry.sequence, event, head)

    def settle_sent(self, request: str) -> None:
        """Settle what a crash left open of a request whose reply was kept all the same."""
        if not self.unsettled:
            return
        with self._writing() as connection:
            for entry in list(self._open_of(connection, request)):
                body = {"outcome": "sent", "reservation": entry.sequence}
                self._append(connection, "settle", body)

    def _open_of(self, connection: sqlite3.Connection, request: str) -> Iterator[Entry]:
        """Yield what is reserved for a request and not settled, the newest first."""
        for number in sorted(self._state.unsettled, reverse=True):
            entry = next(entries_after(connection, after=number - 1))
            if entry.content["context"].get("request") == request:
                yield entry

    def _allows(self, event: Event) -> bool:
        with suppress(BudgetExceeded):
            self.policy.verify_allows(event)
            return True
        return False

    def settle(self, reservation: Reservation, outcome: Mapping[str, object]) -> None:
        """Say what came of a reservation. The charge stays as it is.

        Raises:
            LedgerError: it was settled before, or the ledger cannot be written.
        """
        with self._writing() as connection:
            self._append(connection, "settle", {**outcome, "reservation": reservation.number})

    def refuse(self, reason: str, context: Mapping[str, object]) -> NoReturn:
        """Write down that something was asked for that is no event at all, and refuse it.

        Raises:
            BudgetExceeded: always, once the refusal is on disk.
        """
        with self._writing() as connection:
            self._append(connection, "refuse", {"context": dict(context), "reason": reason})
        raise BudgetExceeded(reason)

    def set_policy(self, policy: Policy, *, allow_looser: bool = False) -> None:
        """Record a policy if it differs from the one in force.

        Raises:
            BudgetExceeded: it allows more than the one in force, and nobody said that it may.
            LedgerError: it is of another unit, or the ledger cannot be written.
        """
        with self._writing() as connection:
            if policy == self.policy:
                return
            loosened = policy.is_looser_than(self.policy)
            if loosened and not allow_looser:
                raise BudgetExceeded(
                    "the policy allows more than the one that is recorded",
                    hint="if that is meant, say so; the report will show it for ever",
                )
            self._append(connection, "policy", _policy_body(policy, loosened=loosened))

    def note(self, text: str) -> None:
        """Write down something that an auditor should read."""
        with self._writing() as connection:
            self._append(connection, "note", {"text": text})

    def rotate_key(self, key: SigningKey) -> None:
        """Let `key` sign from now on; the key until now signs that."""
        with self._writing() as connection:
            self._append(connection, "key-rotated", rotation(self.head, key))
        self._key = key

    def verify_holds(self, head: Head) -> None:
        """Do nothing if `head`, which somebody else remembers, is of this ledger's past.

        Raises:
            LedgerError: an older file was copied back, or history was written anew.
        """
        with connected(self._path) as connection:
            row = connection.execute(
                "SELECT hash FROM entries WHERE sequence = ?", (head.sequence,)
            ).fetchone()
        if row is None or bytes(row[0]).hex() != head.hash:
            raise LedgerError(
                f"others hold entry {head.sequence} of this ledger, which it does not contain",
                hint="an old copy was put back? Restore the newest; see docs/ledger.md",
            )

    def _charge(
        self, kind: Literal["reserve", "release"], event: Event, context: Mapping[str, object]
    ) -> Reservation:
        body = {"event": to_body(event), "context": dict(context)}
        with self._writing() as connection:
            refusal = self._refusal(kind, event)
            if refusal is None:
                self._append(connection, kind, body)
                return Reservation(self.head.sequence, event, self.head)
            self._append(connection, "refuse", {**body, "reason": str(refusal)})
        raise refusal

    def _refusal(self, kind: Literal["reserve", "release"], event: Event) -> BudgetExceeded | None:
        """Return why the policy does not allow `event` on top of all that is charged, if so."""
        policy = self.policy
        try:
            if kind == "release":
                policy.verify_allows_release(event)
            else:
                policy.verify_allows(event)
        except BudgetExceeded as error:
            return error
        total = total_steps([event])
        for mechanism, count in self._state.steps.items():
            total[mechanism] = total.get(mechanism, 0) + count
        charged = epsilon(total, policy.delta).charged
        if charged <= policy.epsilon:
            return None
        left = self.steps_left(event.mechanism)
        return BudgetExceeded(
            f"expected epsilon at most {policy.epsilon:g} at delta {policy.delta:g}: spent are "
            f"{self.spent().charged:.4g}, {event.steps} steps more would make it {charged:.4g}",
            hint=f"{left} steps of this kind still fit" if left else "no step of this kind fits",
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the ledger alone, caught up with what others added; written when this ends."""
        before = self._state
        try:
            with connected(self._path) as connection:
                connection.execute("BEGIN IMMEDIATE")
                self._state = caught_up(connection, self._state)
                yield connection
                connection.execute("COMMIT")
        except BaseException:
            self._state = before  # what was not committed is not so
            raise

    def _append(
        self, connection: sqlite3.Connection, kind: Kind, content: Mapping[str, object]
    ) -> None:
        entry = next_entry(self._state.head, kind, content, self._clock(), self._key)
        self._state = self._state.after(entry)
        insert(connection, entry)


def create_ledger(
    path: Path,
    key: SigningKey,
    registration: Registration,
    policy: Policy,
    clock: Clock = utc_now,
) -> Ledger:
    """Start the ledger of a data set and open it; a crash leaves a whole one or none.

    Raises:
        LedgerError: there is one already, or it cannot be written.
    """
    if path.exists():
        raise LedgerError(f"expected no ledger at {path} yet, got one", hint="open it")
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    head = State.before_all(key.public).head
    first = next_entry(head, "registered", _registration_body(registration, key), clock(), key)
    head = Head(sequence=first.sequence, hash=first.hash.hex())
    second = next_entry(head, "policy", _policy_body(policy, loosened=False), clock(), key)
    temporary.touch(mode=0o600)
    with connected(temporary) as connection:
        connection.executescript(TABLES)
        connection.execute("BEGIN IMMEDIATE")
        insert(connection, first)
        insert(connection, second)
        connection.execute("COMMIT")
    try:
        path.hardlink_to(temporary)  # unlike a rename, it never replaces a ledger
    except FileExistsError:
        raise LedgerError(f"expected no ledger at {path} yet, got one", hint="open it") from None
    temporary.unlink()
    sync_folder(path.parent)
    return Ledger(path, key, clock)


def _registration_body(registration: Registration, key: SigningKey) -> dict[str, object]:
    return {**asdict(registration), "schema": SCHEMA, "public_key": key.public.pem.decode()}


def _policy_body(policy: Policy, *, loosened: bool) -> dict[str, object]:
    return {"policy": policy_to_body(policy), "loosened": loosened}


def _registration(connection: sqlite3.Connection) -> Registration:
    entry = next(iter(entries_after(connection, after=0)))
    try:
        return typed_json.from_json(Registration, entry.content, "entry 1")
    except ArtifactError as error:
        raise LedgerError(str(error)) from None
