"""The command `veilface-audit`: PASS, or the first entry that fails and why.

Exit codes: 0 pass, 1 fail, 2 the command was called wrongly or a file is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from veilface_audit.log import LogVerdict, audit_log, is_log
from veilface_audit.receipt import ReceiptVerdict, audit_receipt, is_receipt
from veilface_audit.verify import AuditFailed, Verdict, audit

PASS, FAIL, USAGE = 0, 1, 2


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="veilface-audit",
        description="Verify a privacy ledger and recompute its epsilon from the file alone; "
        "or verify an access log, or a receipt of somebody who was forgotten.",
    )
    parser.add_argument(
        "ledger", type=Path, metavar="FILE", help="a ledger.db, log.db or receipt (.json)"
    )
    parser.add_argument(
        "--key", type=Path, required=True, metavar="PUB", help="its public key, from elsewhere"
    )
    parser.add_argument(
        "--heads",
        type=Path,
        action="append",
        default=[],
        metavar="RECORDS",
        help="the coordinator's rounds.jsonl; again, for its evaluation.jsonl",
    )
    parser.add_argument(
        "--server-key", type=Path, metavar="PUB", help="the coordinator's key, which signed those"
    )
    parser.add_argument(
        "--head",
        type=_head,
        metavar="N:HASH",
        help="of a log: an earlier verdict's head, which must be in it",
    )
    parser.add_argument(
        "--log", type=Path, metavar="LOG", help="of a receipt: the log that must hold it"
    )
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = build_parser()
    called = parser.parse_args(arguments)
    try:
        key = called.key.read_bytes()
        called.ledger.open("rb").close()
        held = [path.read_text(encoding="utf-8").rstrip("\n") for path in called.heads]
        records = "\n".join(filter(None, held))
        server_key = called.server_key.read_bytes() if called.server_key else None
    except OSError as error:
        print(f"veilface-audit: {error.filename}: {error.strerror}", file=sys.stderr)
        return USAGE
    if is_receipt(called.ledger):
        return _audit_receipt(called.ledger, key, called.log, as_json=called.json)
    of_log = called.head is not None or is_log(called.ledger)
    if of_log and (called.heads or called.server_key):
        parser.error("--heads and --server-key are for a ledger; of a log give --head")
    try:
        if of_log:
            _print_log_verdict(audit_log(called.ledger, key, called.head), as_json=called.json)
        else:
            _print_verdict(audit(called.ledger, key, records, server_key), as_json=called.json)
    except AuditFailed as failure:
        told = ("entries", "counts") if of_log else ("entries", "unit", "epsilon", "delta")
        _print_failure(str(failure), told, as_json=called.json)
        return FAIL
    return PASS


def _audit_receipt(path: Path, key: bytes, log: Path | None, *, as_json: bool) -> int:
    try:
        verdict = audit_receipt(path, key, log)
    except AuditFailed as failure:
        _print_failure(str(failure), ("pseudonym", "time"), as_json=as_json)
        return FAIL
    if as_json:
        body = dataclasses.asdict(verdict)
        print(json.dumps({"verdict": "pass", "reason": None, **body}))
        return PASS
    print(_receipt_text(verdict))
    return PASS


def _receipt_text(verdict: ReceiptVerdict) -> str:
    where = "and its log says so too" if verdict.in_log else "(compare with its log: --log)"
    return (
        f"PASS  {verdict.organisation} says that {verdict.pseudonym} was {verdict.what} at "
        f"{verdict.time}, {where}"
    )


def _head(text: str) -> tuple[int, str]:
    """Return sequence number and hash of a head as a log's verdict prints it."""
    number, _, digest = text.partition(":")
    if len(bytes.fromhex(digest)) != 32:
        raise ValueError
    return int(number), digest


def _print_failure(reason: str, told: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        empty = dict.fromkeys(told)
        print(json.dumps({"verdict": "fail", "reason": reason, **empty}))
    else:
        print(f"FAIL  {reason}")


def _print_verdict(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        body = dataclasses.asdict(verdict)
        print(json.dumps({"verdict": "pass", "reason": None, **body}))
        return
    print(
        f"PASS  {verdict.entries} entries of {verdict.organisation}, head {verdict.head[:16]}\n"
        f"      epsilon {verdict.epsilon:.4g} of {verdict.limit:g} at delta {verdict.delta:g}, "
        f"unit {verdict.unit} (PLD {verdict.epsilon_pld:.4g}, RDP {verdict.epsilon_rdp:.4g})\n"
        f"      {verdict.steps} steps reserved, {verdict.unsettled} reservations unsettled, "
        f"{verdict.released} releases of figures, "
        f"{verdict.refused} refused, policy loosened {verdict.loosened} times"
    )
    if verdict.unsafe_random:
        print(
            f"      WARNING: the noise of {verdict.unsafe_random} charges came from a seed; "
            "whoever knows it can remove it. Fit for simulations alone."
        )


def _print_log_verdict(verdict: LogVerdict, *, as_json: bool) -> None:
    if as_json:
        body = dataclasses.asdict(verdict)
        print(json.dumps({"verdict": "pass", "reason": None, **body}))
        return
    print(f"PASS  {verdict.entries} entries of {verdict.organisation}")
    for kind, outcomes in sorted(verdict.counts.items()):
        told = ", ".join(f"{count} {outcome}".rstrip() for outcome, count in outcomes.items())
        print(f"      {kind}: {told}")
    if verdict.root:
        print(f"      the vault's generation {verdict.generation}, root {verdict.root}")
    if verdict.clock_set_back:
        print(f"      WARNING: an entry is older than the one before it {verdict.clock_set_back}x")
    if verdict.unsigned:
        print(f"      WARNING: no signature covers the newest {verdict.unsigned} entries yet")
    print(f"      next time: --head {verdict.entries}:{verdict.head}")


if __name__ == "__main__":
    sys.exit(main())
