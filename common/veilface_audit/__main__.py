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

from veilface_audit.verify import AuditFailed, Verdict, audit

PASS, FAIL, USAGE = 0, 1, 2


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="veilface-audit",
        description="Verify a privacy ledger and recompute its epsilon from the file alone.",
    )
    parser.add_argument("ledger", type=Path, metavar="LEDGER", help="an organisation's ledger.db")
    parser.add_argument(
        "--key", type=Path, required=True, metavar="PUB", help="its public key, from elsewhere"
    )
    parser.add_argument(
        "--heads", type=Path, metavar="ROUNDS", help="the coordinator's rounds.jsonl"
    )
    parser.add_argument(
        "--server-key", type=Path, metavar="PUB", help="the coordinator's key, which signed those"
    )
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    called = build_parser().parse_args(arguments)
    try:
        key = called.key.read_bytes()
        called.ledger.open("rb").close()
        records = called.heads.read_text(encoding="utf-8") if called.heads else ""
        server_key = called.server_key.read_bytes() if called.server_key else None
    except OSError as error:
        print(f"veilface-audit: {error.filename}: {error.strerror}", file=sys.stderr)
        return USAGE
    try:
        verdict = audit(called.ledger, key, records, server_key)
    except AuditFailed as failure:
        _print_failure(str(failure), as_json=called.json)
        return FAIL
    _print_verdict(verdict, as_json=called.json)
    return PASS


def _print_failure(reason: str, *, as_json: bool) -> None:
    if as_json:
        empty = dict.fromkeys(("entries", "unit", "epsilon", "delta"))
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
        f"{verdict.refused} refused, policy loosened {verdict.loosened} times"
    )
    if verdict.unsafe_random:
        print(
            f"      WARNING: the noise of {verdict.unsafe_random} reservations came from a seed; "
            "whoever knows it can remove it. Fit for simulations alone."
        )


if __name__ == "__main__":
    sys.exit(main())
