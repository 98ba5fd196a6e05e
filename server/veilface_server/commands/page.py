"""`veilface-server page`: a run's curves as one file, from its signed records alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from veilface_common.files import PUBLIC, write_atomically
from veilface_server.commands.opening import now, opened


def add_page(parser: argparse.ArgumentParser) -> None:
    """Add the options of `page`."""
    parser.add_argument("which", nargs="?", metavar="RUN", help="default: the newest")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="HTML")
    parser.set_defaults(run=_page)


def _page(arguments: argparse.Namespace) -> int:
    from veilface_server.watching import page_of  # noqa: PLC0415 -- brings what serves it, too

    home, settings = opened(arguments)
    text = page_of(home, settings.name, arguments.which, now())
    write_atomically(arguments.out, text.encode(), mode=PUBLIC)
    print(f"page: {arguments.out}")
    return 0
