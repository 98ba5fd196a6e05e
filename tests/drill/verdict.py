"""What a disturbed run came to: its models, its charges, its audits, and what is left running."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import psutil
from tests.drill.federation import ORGANISATIONS, ROUNDS, Federation
from tests.drill.services import wait_until
from tests.drill.stages import COURIER, charges, folder_of

from veilface_common.tensors import to_bytes
from veilface_server import runs
from veilface_server.checkpoint import load_all_records, load_records, load_state, server_key


@dataclass(kw_only=True)
class Row:
    """A line of the table, which is filled in as the case goes on."""

    case: str
    stage: str
    outcome: str = "**the drill failed**"
    rounds: str = ""
    model: str = ""
    charges: str = ""
    seconds: str = ""


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table that a page of the documentation takes."""
    head = tuple(field.name for field in fields(Row))
    lines = [head, tuple("---" for _ in head), *(astuple(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def model_of(federation: Federation, run: str, reference: Sequence[str]) -> tuple[str, str]:
    """Return how many rounds there were, and "equal" if every round's model is the undisturbed one.

    Else who was left out.

    A model that differs although all replies arrived fails the drill.
    """
    folder = folder_of(federation, run)
    records = load_records(folder)
    assert [record.round for record in records] == list(range(1, ROUNDS + 1)), records
    for record in load_all_records(folder):
        record.verify(server_key(folder).public)
    config = runs.load_run(federation.home, run).config
    state = load_state(folder, config)
    assert state is not None
    assert hashlib.sha256(to_bytes(state.model)).hexdigest() == records[-1].model_sha256
    complete = True
    for record, digest in zip(records, reference, strict=True):
        complete = complete and set(record.accepted) == set(ORGANISATIONS)
        assert not complete or record.model_sha256 == digest, record
    if complete:
        return str(len(records)), "equal"
    without = [f"{n}: {why}" for record in records for n, why in record.left_out.items()]
    return str(len(records)), "without " + "; ".join(dict.fromkeys(without))


def charges_of(federation: Federation, run: str) -> str:
    """Return how often rounds were charged; each accepted update once, and no round twice."""
    records = load_all_records(folder_of(federation, run))
    total = 0
    for name, organisation in federation.organisations.items():
        counted = Counter(context["round"] for context in charges(organisation, run))
        assert all(count == 1 for count in counted.values()), (name, counted)
        for record in records:
            assert name not in record.accepted or counted[record.round] == 1, (name, record)
        total += counted.total()
    accepted = sum(len(record.accepted) for record in load_records(folder_of(federation, run)))
    return f"{total} for {accepted} updates"


def verify_audits(federation: Federation, run: str) -> None:
    """Have every ledger audited, against what the coordinator remembers of it."""
    heads = folder_of(federation, run) / "rounds.jsonl"
    for organisation in federation.organisations.values():
        training = organisation.training
        words = f"{training}/ledger.db --key {training}/ledger.pub --heads {heads}"
        words += f" --server-key {federation.home.folder}/server.pub"
        assert federation.audited(words).startswith("PASS"), organisation.name


def verify_no_orphans(federation: Federation) -> None:
    """Each part runs once, no more: nothing that a crash left behind is still there."""
    wait_until(lambda: not _too_many(federation), f"no orphans: {_too_many(federation)}", 90)


def verify_nothing_left(federation: Federation) -> None:
    """Nothing runs any more that the drill started."""
    left = [process for service in federation.services for process in service.everything]
    place = str(federation.place)
    left += [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(place in word for word in process.info["cmdline"] or ())
    ]
    assert not left, left


def _too_many(federation: Federation) -> list[str]:
    link = federation.coordinator
    most = {"flower-superlink": 1, "flower-superexec": 1, "proxy_process": 1, "flwr-serverapp": 0}
    found = [f"{word} of the coordinator" for word, n in most.items() if len(link.of(word)) > n]
    most = {"flower-supernode": 1, "flower-superexec": 1, COURIER: 0}
    for name, organisation in federation.organisations.items():
        node = organisation.node
        found += [f"{word} of {name}" for word, n in most.items() if len(node.of(word)) > n]
    return found
