"""The page of a drawn film: people found, followed, named, hidden, and how much of it is true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from veilface_common import page as pages
from veilface_simulations.film_report.judging import VERDICTS, Judged, Presence
from veilface_simulations.film_report.pictures import Pair
from veilface_simulations.film_report.told import STRANGER, Watched
from veilface_simulations.plots import Plot
from veilface_simulations.report import figures_section, warnings_section

_STYLE = """
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0.6rem; }
.pair img, .sheet img { display: block; width: 100%; height: auto; border-radius: 6px; }
.sheet img { max-width: 54rem; }
.figures { columns: 1; }
.figures svg { max-width: 44rem; }
@media (max-width: 40rem) { .pair { grid-template-columns: 1fr; } }
"""


@dataclass(frozen=True, kw_only=True)
class FilmReport:
    """All that the page shows."""

    length: float  # of the film, in seconds
    watched: Watched
    judged: tuple[Judged, ...]
    people: tuple[Presence, ...]
    kept: tuple[str, ...]  # who was not to be hidden
    again: tuple[Judged, ...] | None  # tracks of the hidden film; None: it was not watched
    drawing: Plot
    sheet: str  # a data URI, as all pictures are
    pairs: tuple[Pair, ...]


def render(report: FilmReport) -> str:
    """Return the page as HTML; every text from outside passes `html.escape`."""
    sections = [
        _tiles(report),
        warnings_section(filter(None, [report.watched.warning])),
        figures_section([report.drawing]),
        _people(report),
        _sheet(report),
        _pairs(report),
        _words(report),
    ]
    return pages.page(
        title="Veilface: a drawn film, watched and hidden",
        kicker="Veilface film \N{MIDDLE DOT} people who do not exist",
        headline=headline(report),
        lead="A drawn film of people who come in, stay, pass one another and go out. Some of them "
        "are enrolled, strangers are among them, and frames are darkened, blurred, salted or lost. "
        "What veilface watch and veilface hide made of it stands beside what is true.",
        body="\n".join(filter(None, sections)),
        style=_STYLE,
    )


def headline(report: FilmReport) -> str:
    """Return in one sentence what came of it."""
    counts = Counter(one.verdict for one in report.judged)
    named = counts["right"] + counts["wrong"]
    found = sum(person.tracks > 0 for person in report.people)
    return (
        f"{found} of {len(report.people)} people were found and followed; "
        f"{counts['right']} of {named} names were right."
        if named
        else f"{found} of {len(report.people)} people were found and followed; nobody was named."
    )


def summary(report: FilmReport) -> str:
    """Return the counts as lines for a terminal."""
    counts = Counter(one.verdict for one in report.judged)
    lines = [
        headline(report),
        f"{_tracks(len(report.judged))}, {_switches(report.judged)} switches: "
        + ", ".join(f"{counts[kind]} {what}" for kind, what in VERDICTS.items() if counts[kind]),
    ]
    if report.again is not None:
        lines.append(_again(report.again, report.kept))
    return "\n".join(lines)


def _switches(judged: Sequence[Judged]) -> int:
    return sum(one.switches for one in judged)


def _tiles(report: FilmReport) -> str:
    counts = Counter(one.verdict for one in report.judged)
    seconds = sum(person.seconds for person in report.people)
    followed = sum(person.followed for person in report.people)
    tiles = [
        ("federated", f"{len(report.judged)}", f"tracks of {len(report.people)} people"),
        ("federated", f"{followed / seconds:.0%}" if seconds else "-", "of their time followed"),
        ("local", f"{_switches(report.judged)}", "switches to another person"),
        ("central", f"{counts['right']}", "names right"),
        ("local", f"{counts['wrong']}", "names wrong"),
        ("plain", f"{counts['missed']}", "enrolled, but unknown"),
        ("central", f"{counts['stranger']}", "strangers who stayed unknown"),
    ]
    shown = (
        f'<div class="tile {kind}"><b>{value}</b><span>{escape(label)}</span></div>'
        for kind, value, label in tiles
    )
    return f'<div class="tiles">{"".join(shown)}</div>'


def _people(report: FilmReport) -> str:
    columns = ("Person", "To be seen", "Followed", "Tracks", "Names given")
    names = "".join(f'<th scope="col">{name}</th>' for name in columns)
    rows = "".join(_row(person, report.judged) for person in report.people)
    return (
        '<section class="long"><h2>Everybody</h2><div class="scroll"><table><thead><tr>'
        f"{names}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _row(person: Presence, judged: Sequence[Judged]) -> str:
    given = Counter(one.track.name or "unknown" for one in judged if one.person == person.name)
    told = ", ".join(f"{name} \N{MULTIPLICATION SIGN} {n}" for name, n in given.items())
    share = person.followed / person.seconds if person.seconds else 0.0
    return (
        f'<tr><th scope="row">{escape(person.name)}</th><td>{person.seconds:.1f} s</td>'
        f"<td>{share:.0%}</td><td>{person.tracks}</td><td>{escape(told or 'none')}</td></tr>"
    )


def _sheet(report: FilmReport) -> str:
    return (
        '<section class="long sheet"><h2>The contact sheet</h2>'
        "<p>A row for each track, as <code>--contact-sheet</code> writes it.</p>"
        f'<img alt="faces of each track" src="{report.sheet}"></section>'
    )


def _pairs(report: FilmReport) -> str:
    kept = ", ".join(report.kept) or "nobody"
    shown = "".join(
        f'<figure><div class="pair"><img alt="with boxes and names" src="{pair.watched}">'
        f'<img alt="hidden" src="{pair.hidden}"></div>'
        f"<figcaption>{pair.moment.seconds:.1f} s: {escape(_who(pair))}</figcaption></figure>"
        for pair in report.pairs
    )
    again = ""
    if report.again is not None:
        again = f"<p>{escape(_again(report.again, report.kept))}</p>"
    return (
        '<section class="long"><h2>Watched, and hidden</h2>'
        f"<p>Left with boxes and names, right after hiding everybody but {escape(kept)}.</p>"
        f"{again}</section>{shown}"
    )


def _who(pair: Pair) -> str:
    people = [person.name for person in pair.moment.people if person.seen]
    damaged = "; this frame is damaged" if pair.moment.corrupted else ""
    return "in truth " + (", ".join(people) or "nobody") + damaged


def _again(judged: Sequence[Judged], kept: Sequence[str]) -> str:
    given = Counter(one.track.name for one in judged if one.track.name is not None)
    others = {name: n for name, n in given.items() if name not in kept}
    told = ", ".join(f"{name} ({_tracks(n)})" for name, n in given.items()) or "nobody"
    return f"Watched again after hiding: {_tracks(len(judged))}, named: {told}. " + (
        "Not all are hidden." if others else "Nobody is known who was to be hidden."
    )


def _tracks(count: int) -> str:
    return f"{count} track" if count == 1 else f"{count} tracks"


def _words(report: FilmReport) -> str:
    strangers = [one.name for one in report.people if one.name.startswith(STRANGER)]
    return (
        '<section class="long"><h2>What the figures mean</h2><dl>'
        "<dt>Track</dt><dd>One person's way through the film, as it was followed. Somebody who was "
        "lost and found again has two.</dd>"
        "<dt>Switch</dt><dd>A track that goes on with another person.</dd>"
        "<dt>Right, wrong, unknown</dt><dd>The name at the end of a track, against whose face its "
        f"boxes are on. {len(strangers)} people are strangers: unknown is right for them.</dd>"
        "<dt>Followed</dt><dd>Share of the time in which a person is to be seen, more than half of "
        "the face, that lies in a track of theirs.</dd></dl></section>"
    )
