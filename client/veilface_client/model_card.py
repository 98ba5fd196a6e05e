"""A model card: what a model is, what it is for, and what it is not (Mitchell et al. 2019).

It is made from the manifest alone. What the manifest does not say, the card does not guess: it says
that it is not known.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from veilface_common.artifact import Manifest
from veilface_common.page import facts_table, page
from veilface_common.preprocessing import preprocessing_of
from veilface_common.release import Contribution, Release
from veilface_common.robustness_table import Perturbed, RobustnessTable

_UNIT = {"identity": "person", "image": "photograph", "none": "nobody"}
_COLUMNS = ("Organisation", "Rounds", "Figures", "Epsilon", "Newest ledger entry")

_STYLE = """
td.shade { background: color-mix(in srgb, var(--federated) var(--part), transparent); }
"""
_FULL = 0.5  # opacity: beyond it, ink on top is hard to read
_HOLDS = 2  # times the false match rate that was meant: beyond it, the threshold does not hold

_USE = (
    (
        "Intended: telling whether two photographs show one person, and which of the people "
        "enrolled at one organisation a photograph shows, for people who agreed to that, on the "
        "organisation's own premises, by `veilface`."
    ),
    (
        "For organisations that are members of the federation, and whoever they may pass it on to "
        "under the licence."
    ),
    (
        "Not intended: searching for people who did not agree; decisions about a person that "
        "nobody can overrule; telling age, sex, origin, mood or health from a face; forensic "
        "identification."
    ),
)
_FACTORS = (
    "Light, pose, age of the photograph, glasses, masks and the camera change a pair's score.",
    (
        "Recognizers have been found to err more often for some groups of people than for others. "
        "Nothing here says of which groups this model was trained on, nor how it does for each of "
        "them: organisations do not tell."
    ),
)
_CAVEATS = (
    "The figures are of people at the organisations that took part, and photographs like theirs.",
    "A threshold is to be chosen on the organisation's own people: `veilface calibrate`.",
    "Nothing here tells a face from a picture of a face: use it where somebody looks on.",
    "Templates of this model and of any other cannot be compared.",
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, what is said under it, and perhaps a table."""

    title: str
    lines: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    shades: tuple[tuple[float, ...], ...] = ()  # of a row's first cells, 0 to 1; empty: none


@dataclass(frozen=True, kw_only=True)
class Card:
    """All that a card says, in the order of the paper's figure 1."""

    title: str
    lead: str
    sections: tuple[Section, ...]


def card_of(manifest: Manifest, signer: str) -> Card:
    """Return the card of a model.

    Args:
        manifest: of the model.
        signer: the fingerprint of the pinned coordinator who signed it; empty: nobody.
    """
    release = manifest.release
    if release is None:
        title = f"Model {manifest.sha256[:16]}"
        lead = "A model that nobody signs: what it says of itself is its maker's word."
    else:
        title = f"{release.federation}, release {release.sequence}"
        lead = (
            f"Signed by coordinator {signer}, whose key this organisation has pinned."
            if signer
            else "The signature is of no coordinator that is pinned here: believe none of this."
        )
    sections = (
        _details(manifest, signer),
        Section(title="Intended use", lines=_USE),
        Section(title="Factors", lines=_FACTORS),
        _metrics(release),
        _robustness(release),
        _data(release),
        _privacy(release),
        Section(title="Caveats and recommendations", lines=_CAVEATS),
    )
    return Card(title=title, lead=lead, sections=sections)


def to_text(card: Card) -> str:
    """Return the card as plain text."""
    parts = [card.title, card.lead]
    for section in card.sections:
        lines = ["", section.title, "-" * len(section.title)]
        lines += [f"{name}: {value}" for name, value in section.facts]
        lines += [textwrap.fill(f"* {line}", 96, subsequent_indent="  ") for line in section.lines]
        lines += _columns([section.columns, *section.rows]) if section.rows else []
        parts += lines
    return "\n".join(parts)


def to_page(card: Card) -> str:
    """Return the card as HTML."""
    return page(
        title=f"Model card: {card.title}",
        kicker="Model card",
        headline=card.title,
        lead=card.lead,
        body="\n".join(map(_section, card.sections)),
        style=_STYLE,
    )


def _details(manifest: Manifest, signer: str) -> Section:
    model, release = manifest.model, manifest.release
    before = preprocessing_of(model)
    size = f"{before.pixels} x {before.pixels} pixels"
    facts = [
        ("Network", f"{model.name}, templates of {model.dimension} numbers"),
        ("Input", f"aligned to {before.alignment}, {size}, {before.values}"),
        ("Normalised", before.normalisation),
        ("Weights, SHA-256", manifest.sha256),
    ]
    if release is not None:
        software = ", ".join(f"{name} {number}" for name, number in release.software.items())
        facts += [
            ("Federation", release.federation),
            ("Release", f"{release.sequence}, of {release.made}"),
            ("Coordinator", f"key {release.coordinator}{'' if signer else ' (not pinned here)'}"),
            ("Trained", f"{release.rounds} rounds, settings {release.settings[:16]}"),
            ("Started from", _parent(release)),
            ("Licence", release.licence),
            ("Made with", software),
        ]
    else:
        facts += [
            (f"Its maker says: {name}", str(value))
            for name, value in manifest.training.items()
            if isinstance(value, str | int | float)
        ]
    return Section(title="Model details", facts=tuple(facts))


def _metrics(release: Release | None) -> Section:
    title = "Metrics and quantitative analyses"
    found = release.evaluation if release else None
    if found is None:
        return Section(title=title, lines=("No figures were released with this model.",))
    facts = [("Equal error rate", _interval(found.eer, found.low, found.high))]
    if (
        found.tar_at_far_1e_2 is not None
        and found.tar_low is not None
        and found.tar_high is not None
    ):
        told = _interval(found.tar_at_far_1e_2, found.tar_low, found.tar_high)
        facts.append(("Pairs of one person that are accepted, where 1% of strangers are", told))
    line = (
        f"Of pairs of people whom {found.organisations} organisations held out of the training, "
        "summed over all of them; noise was added before the figures left. 95% intervals."
    )
    return Section(title=title, facts=tuple(facts), lines=(line,))


def _robustness(release: Release | None) -> Section:
    title = "Robustness: bad light, poor cameras, covered faces"
    table = release.robustness if release else None
    if table is None:
        return Section(title=title, lines=("It was not measured, or not told.",))
    facts = [
        ("Measured on", f"{table.people} people of {table.data}"),
        ("Found by", table.detector or "no detector: where the makers of the set have them"),
        ("Right people accepted, clean", _percent(table.clean.tar)),
        ("Right people accepted, perturbed, mean", _percent(table.mean_tar())),
    ]
    if table.mean_relative_loss is not None:
        facts.append(("Of them lost (mean relative loss)", _percent(table.mean_relative_loss)))
    levels = range(1, len(table.perturbations[0].tar) + 1)
    kept = [(table.clean.tar, *one.tar) for one in table.perturbations]
    most = max(map(max, kept)) or 1.0
    return Section(
        title=title,
        facts=tuple(facts),
        lines=_about(table),
        columns=("Perturbation", "clean", *map(str, levels), "Strangers, at most"),
        rows=tuple(_kept(table, one) for one in table.perturbations),
        shades=tuple(tuple(rate / most for rate in row) for row in kept),
    )


def _about(table: RobustnessTable) -> tuple[str, ...]:
    name, level, most = table.most_open()
    line = (
        "Of the right people so many are accepted, clean and at each level, at the one threshold "
        f"that accepts {_percent(table.rate)} of strangers on clean faces; the last column is how "
        "many strangers it accepts at the worst level. docs/robustness.md has what levels mean."
    )
    broken = (
        f"The threshold does not hold everywhere: under {name}, level {level}, "
        f"{_percent(most)} of strangers are accepted."
    )
    return (line, broken) if most > _HOLDS * table.rate else (line,)


def _kept(table: RobustnessTable, one: Perturbed) -> tuple[str, ...]:
    accepted = map(_percent, (table.clean.tar, *one.tar))
    return one.name, *accepted, _percent(max(one.false_match_rate))


def _percent(share: float) -> str:
    """Return a share in percent, as short as a cell is: one decimal below ten."""
    percent = 100 * share
    return f"{percent:.0f}%" if percent >= 9.95 else f"{percent:.1f}%"


def _data(release: Release | None) -> Section:
    title = "Training and evaluation data"
    if release is None:
        return Section(title=title, lines=("Not said.",))
    line = (
        "Photographs at the organisations in the table below. Nobody but each of them knows of "
        "whom, or how many."
    )
    return Section(title=title, lines=(line,))


def _privacy(release: Release | None) -> Section:
    title = "Ethical considerations: what the model tells of whom it was trained on"
    if release is None:
        return Section(title=title, lines=("Nothing bounds what can be learned from it.",))
    if release.unit == "none":
        first = (
            "Trained without privacy: nothing bounds what the model tells of a person in the data."
        )
    else:
        first = (
            f"Epsilon is for each {_UNIT[release.unit]} of an organisation, at delta "
            f"{release.delta:g}, of all updates and figures of this run that were accepted. What "
            "else the organisation released, or paid for in vain, comes on top: its own ledger "
            "has the sum."
        )
    second = (
        "Somebody whose photographs are at two of the organisations is told of by both: "
        "epsilons add."
    )
    rows = tuple(_row(one) for one in release.organisations)
    return Section(title=title, lines=(first, second), columns=_COLUMNS, rows=rows)


def _row(one: Contribution) -> tuple[str, ...]:
    ledger = "none" if one.ledger is None else f"{one.ledger.sequence}, {one.ledger.hash[:16]}"
    epsilon = "no bound" if one.epsilon is None else f"{one.epsilon:.3g}"
    return one.name, str(one.rounds), "yes" if one.figures else "no", epsilon, ledger


def _parent(release: Release) -> str:
    return f"the model {release.parent}" if release.parent else "weights drawn at random"


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.1%} ({low:.1%} to {high:.1%})"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _section(section: Section) -> str:
    lines = "".join(f"<p>{escape(line)}</p>" for line in section.lines)
    return (
        f'<section class="long"><h2>{escape(section.title)}</h2>'
        + facts_table(section.facts)
        + lines
        + (_table(section) if section.rows else "")
        + "</section>"
    )


def _table(section: Section) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in section.columns)
    shades = section.shades or ((),) * len(section.rows)
    rows = "".join(map(_shown, section.rows, shades))
    return (
        '<div class="scroll"><table><thead><tr>'
        f"{names}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _shown(row: tuple[str, ...], shades: tuple[float, ...]) -> str:
    first, *cells = map(escape, row)
    shaded = "".join(
        f'<td class="shade" style="--part: {100 * _FULL * part:.0f}%">{cell}</td>'
        for cell, part in zip(cells, shades, strict=False)
    )
    rest = "".join(f"<td>{cell}</td>" for cell in cells[len(shades) :])
    return f'<tr><th scope="row">{first}</th>{shaded}{rest}</tr>'
