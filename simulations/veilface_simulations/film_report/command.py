"""`veilface-sim film-report`: a drawn film that was watched and hidden, as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from veilface_common.errors import ConfigError
from veilface_common.files import PUBLIC, write_atomically
from veilface_simulations.film_command import TRUTH
from veilface_simulations.film_report.judging import judge, presences
from veilface_simulations.film_report.page import FilmReport, render, summary
from veilface_simulations.film_report.pictures import moments_of, pairs_of, sheet_of, timeline
from veilface_simulations.film_report.told import load_truth, load_watched


def add_film_report(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("film", type=Path, metavar="DIR", help="what `veilface-sim film` wrote")
    for option, what in (
        ("--watched", "lines of `veilface watch --json`"),
        ("--sheet", "its --contact-sheet"),
        ("--overlay", "its --overlay"),
        ("--hidden", "the film as `veilface hide` wrote it"),
    ):
        parser.add_argument(option, type=Path, required=True, metavar="FILE", help=what)
    parser.add_argument(
        "--again", type=Path, metavar="FILE", help="lines of `veilface watch --json` of that"
    )
    parser.add_argument(
        "--except", dest="kept", nargs="+", default=[], metavar="NAME", help="who was not hidden"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="HTML", help="the page")


def run_film_report(arguments: argparse.Namespace) -> int:
    """Write the page, print the counts, and return the exit code.

    Raises:
        ConfigError: it would not be a page.
        DataError, ArtifactError: a file is missing, or is something else.
    """
    if arguments.out.suffix != ".html":
        raise ConfigError(f"expected --out to end in .html, got {arguments.out}")
    truth = load_truth(arguments.film / TRUTH)
    watched = load_watched(arguments.watched)
    judged = judge(watched.tracks, truth)
    people = presences(judged, truth)
    length = truth.frames[-1].seconds + 1 / truth.rate
    again = None
    if arguments.again is not None:
        again = judge(load_watched(arguments.again).tracks, truth)
    report = FilmReport(
        length=length,
        watched=watched,
        judged=judged,
        people=people,
        kept=tuple(arguments.kept),
        again=again,
        drawing=timeline(judged, people, length),
        sheet=sheet_of(arguments.sheet),
        pairs=pairs_of(moments_of(truth), arguments.overlay, arguments.hidden),
    )
    write_atomically(arguments.out, render(report).encode(), mode=PUBLIC)
    print(f"{summary(report)}\nreport: {arguments.out}")
    return 0
