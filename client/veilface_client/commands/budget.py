"""`veilface report`: what an organisation's ledger adds up to, for its data-protection officer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from veilface_common.errors import ConfigError, KeyFileError, LedgerError
from veilface_common.files import PUBLIC, write_atomically

_SUFFIXES = (".html", ".json")
_REPAIR = "see 'When something is wrong' in docs/ledger.md"


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("ledger", type=Path, metavar="LEDGER", help="an organisation's ledger.db")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a page (.html) or figures (.json)"
    )
    parser.add_argument(
        "--key",
        type=Path,
        metavar="PUB",
        help="the public key that the ledger began with; default: LEDGER with .pub for its suffix",
    )
    parser.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    out, ledger = arguments.out, arguments.ledger
    if out.suffix not in _SUFFIXES:
        raise ConfigError(
            f"expected --out to end in .html or .json, got {out}", hint="--out report.html"
        )
    key = arguments.key or ledger.with_suffix(".pub")
    if not key.is_file():
        raise KeyFileError(f"expected a public key in {key}, got none", hint="name it with --key")
    write_atomically(out, _rendered(ledger, key, as_page=out.suffix == ".html"), mode=PUBLIC)
    print(f"report: {out}")
    return 0


def _rendered(ledger: Path, key: Path, *, as_page: bool) -> bytes:
    from veilface_client.budget_page import render  # noqa: PLC0415 -- brings PyTorch
    from veilface_common.budget.ledger import utc_now  # noqa: PLC0415
    from veilface_common.budget.report import read_report, to_json  # noqa: PLC0415
    from veilface_common.crypto.signing import load_verify_key  # noqa: PLC0415

    try:
        report = read_report(ledger, load_verify_key(key), utc_now())
    except LedgerError as error:
        raise LedgerError(str(error), hint=f"no report was written; {_REPAIR}") from None
    if as_page:
        return render(report).encode()
    return (json.dumps(to_json(report), indent=2, ensure_ascii=False) + "\n").encode()
