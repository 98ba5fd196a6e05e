"""`report.html`: one file that says what a run found, and needs nothing else to be read.

Every text from outside passes `html.escape`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from veilface_common import page as pages
from veilface_common.files import PUBLIC, write_atomically
from veilface_common.metrics import Interval
from veilface_simulations import plots
from veilface_simulations.auditing.record import Record
from veilface_simulations.findings import (
    all_warnings,
    headline,
    is_drawn,
    percent,
    qualification,
)
from veilface_simulations.privacy_section import privacy_section
from veilface_simulations.reported import reported_scores
from veilface_simulations.results import Arm, Result, local_mean

FILE_NAME = "report.html"
_HEADS = (
    *("Trained", "People", "Photos", "EER", "TAR at FAR 1%", "TAR at FAR 0.1%"),
    *("Rank-1", "Missed at FPIR 10%", "Time"),
)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A mistake worth looking at: two photographs as PNG, and what is wrong with their score."""

    title: str
    left: bytes
    right: bytes


def write_report(
    result: Result, path: Path, *, examples: Sequence[Example] = (), audit: Record | None = None
) -> None:
    """Write the report of `result` to the file `path`: whole, or not at all.

    Raises:
        ValueError: examples of people who were not drawn; real faces never go into a report.
        OSError: the file cannot be written.
    """
    text = render(result, examples=examples, audit=audit)
    write_atomically(path, text.encode(), mode=PUBLIC)


def render(result: Result, *, examples: Sequence[Example] = (), audit: Record | None = None) -> str:
    """Return the report as HTML. Raises ValueError as `write_report`."""
    if examples and not is_drawn(result):
        raise ValueError("expected examples of drawn faces alone")
    sections = [
        _tiles(result),
        warnings_section(all_warnings(result)),
        _arms(result),
        privacy_section(result, audit),
        figures_section([*plots.all_plots(result), *filter(None, [reported_scores(result)])]),
        _pairs(result),
        _mistakes(result, examples),
    ]
    return page(
        title=f"Veilface: {result.data}",
        kicker=f"Veilface run \N{MIDDLE DOT} {_source(result)} \N{MIDDLE DOT} {result.started}",
        headline=headline(result),
        lead=qualification(result),
        body="\n".join(filter(None, sections)),
        settings=_settings(result),
    )


def page(*, title: str, kicker: str, headline: str, lead: str, body: str, settings: str) -> str:
    """Return a whole page; `body` and `settings` are HTML, the others are text."""
    glossary = pages.package_text("veilface_simulations", "glossary.html")
    return pages.page(
        title=title,
        kicker=kicker,
        headline=headline,
        lead=lead,
        body=f"{body}\n{glossary}{settings}",
    )


def _source(result: Result) -> str:
    tested = f", evaluated on {result.evaluate_on}" if result.evaluate_on else ""
    return result.data + tested


def _tiles(result: Result) -> str:
    alone = local_mean([arm.eer for arm in result.local])
    figures = [
        ("federated", "trained together", result.federated.eer if result.federated else None),
        ("plain", "together, no privacy", result.plain.eer if result.plain else None),
        ("local", "each alone, mean", alone),
        ("central", "all in one place", result.central.eer if result.central else None),
    ]
    tiles = [
        f'<div class="tile {kind}"><b>{percent(eer)}</b><span>EER, {label}</span></div>'
        for kind, label, eer in figures
        if eer is not None
    ]
    if result.gap_closed is not None:
        closed = percent(result.gap_closed, digits=0)
        tiles.append(f'<div class="tile"><b>{closed}</b><span>of the EER gap closed</span></div>')
    return f'<div class="tiles">{"".join(tiles)}</div>'


def warnings_section(warnings: Iterable[str]) -> str:
    """Return warnings as HTML; empty where there are none."""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return f'<section class="notice"><h2>Warnings</h2><ul>{items}</ul></section>' if items else ""


def _arms(result: Result) -> str:
    together = (result.federated, result.plain, result.central)
    rows = [_arm_row(arm) for arm in together if arm is not None]
    if len(result.local) > 1:
        rows.append(_mean_row(result.local))
    rows += [_arm_row(arm) for arm in result.local]
    head = "".join(f'<th scope="col">{name}</th>' for name in _HEADS)
    return (
        f'<section class="long"><h2>Every way of training</h2><div class="scroll">'
        f'<table class="arms"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        f"</div>{_note(result.arms)}</section>"
    )


def _note(arms: Sequence[Arm]) -> str:
    """Return what every figure of the table was computed from; it is the same for all arms."""
    if not arms:
        return ""
    figures = arms[0].figures
    sampled = ""
    if figures.impostor_pairs_scored < figures.impostor_pairs:
        sampled = f" ({figures.impostor_pairs_scored:,} of them drawn and scored)"
    return (
        f"<p>Small figures are 95% bootstrap intervals ({figures.resamples} resamples of people); "
        "a dash means too little data to say. "
        f"EER and TAR: {figures.genuine_pairs:,} genuine and {figures.impostor_pairs:,} impostor "
        f"pairs{sampled}. Rank-1: {figures.probes:,} searches among {figures.gallery:,} people. "
        f"FPIR: N = {figures.enrolled:,} enrolled, R = {figures.open_set_rank}; "
        f"{figures.mated_probes:,} mated and {figures.non_mated_probes:,} non-mated searches.</p>"
    )


def _arm_row(arm: Arm) -> str:
    figures, intervals = arm.figures, arm.figures.intervals
    one = " one" if arm.arm == "local" else ""
    cells = [
        f"<td>{arm.people:,}</td><td>{arm.images:,}</td>",
        rate_cell(figures.eer, intervals.get("eer")),
        rate_cell(figures.tar_at_far.get("1e-2"), intervals.get("tar@1e-2")),
        rate_cell(figures.tar_at_far.get("1e-3"), intervals.get("tar@1e-3")),
        rate_cell(figures.rank1, intervals.get("rank1")),
        rate_cell(figures.fnir_at_fpir.get("1e-1"), intervals.get("fnir@1e-1")),
        f"<td>{_duration(arm.seconds)}</td>",
    ]
    name = escape(plots.arm_label(arm))
    return f'<tr class="{arm.arm}{one}"><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _mean_row(arms: Sequence[Arm]) -> str:
    figures = [arm.figures for arm in arms]
    means = [
        local_mean([figure.eer for figure in figures]),
        local_mean([figure.tar_at_far.get("1e-2") for figure in figures]),
        local_mean([figure.tar_at_far.get("1e-3") for figure in figures]),
        local_mean([figure.rank1 for figure in figures]),
        local_mean([figure.fnir_at_fpir.get("1e-1") for figure in figures]),
    ]
    cells = "".join(f"<td>{percent(mean)}</td>" for mean in means)
    sizes = "".join(
        f"<td>{sum(counts) / len(counts):,.0f}</td>"
        for counts in ([arm.people for arm in arms], [arm.images for arm in arms])
    )
    seconds = _duration(sum(arm.seconds for arm in arms) / len(arms))
    head = f'<th scope="row">Each alone, mean of {len(arms)}</th>'
    return f'<tr class="local">{head}{sizes}{cells}<td>{seconds}</td></tr>'


def rate_cell(rate: float | None, interval: Interval | None) -> str:
    """Return a cell of a table: a rate, and its interval in small figures."""
    small = ""
    if rate is not None and interval is not None:
        small = f"<small>{100 * interval[0]:.1f} to {percent(interval[1])}</small>"
    return f"<td>{percent(rate)}{small}</td>"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def repeat_section(command: str, settings: Iterable[tuple[str, str]], *, what: str = "this") -> str:
    """Return the command that measures the same again, and what it was measured with."""
    return (
        f'<section class="long"><h2>To repeat {what}</h2><pre>{escape(command)}</pre>'
        f"{pages.facts_table(settings)}</section>"
    )


def figures_section(drawn: Iterable[plots.Plot]) -> str:
    """Return plots as HTML, each with its title and its caption."""
    figures = "".join(
        f"<figure><h3>{escape(plot.title)}</h3>{plot.svg}"
        f"<figcaption>{escape(plot.caption)}</figcaption></figure>"
        for plot in drawn
    )
    return f'<div class="figures">{figures}</div>'


def _pairs(result: Result) -> str:
    rows = "".join(
        f'<tr class="{arm.arm}"><th scope="row">{escape(plots.arm_label(arm))}</th>'
        f"<td>{percent(arm.pairs.accuracy)} ± {percent(arm.pairs.standard_error)}</td>"
        f"<td>{arm.pairs.folds}</td><td>{arm.pairs.pairs:,}</td>"
        f"<td>{arm.pairs.missing_pairs:,}</td></tr>"
        for arm in result.arms
        if arm.pairs is not None
    )
    if not rows:
        return ""
    return (
        '<section><h2>The LFW pairs protocol</h2><div class="scroll"><table class="arms"><thead>'
        '<tr><th scope="col">Trained</th><th scope="col">Accuracy ± standard error</th>'
        '<th scope="col">Folds</th><th scope="col">Pairs scored</th>'
        f'<th scope="col">Pairs left out</th></tr></thead><tbody>{rows}</tbody></table></div>'
        "<p>The mean over the folds; the threshold of each fold is chosen on all the others "
        "(Huang et al. 2007, View 2).</p></section>"
    )


def _mistakes(result: Result, examples: Sequence[Example]) -> str:
    if examples:
        shown = "".join(
            f'<div class="mistake"><div>{_image(example.left)}{_image(example.right)}</div>'
            f"{escape(example.title)}</div>"
            for example in examples
        )
        return (
            "<section><h2>The worst mistakes</h2><p>These people are drawn; none of them exists."
            f'</p><div class="mistakes">{shown}</div></section>'
        )
    if is_drawn(result):
        return ""
    return (
        "<section><h2>The worst mistakes</h2><p>They are not shown: these are photographs of real "
        "people, and a report is passed on. With <code>drawn:</code> faces they would be.</p>"
        "</section>"
    )


def _image(png: bytes) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _start(result: Result) -> str:
    if result.initial is None:
        return "random weights"
    return f"a model with an EER of {percent(result.initial.eer)} on these people"


def _settings(result: Result) -> str:
    settings = [
        ("Faces to train on", result.data),
        ("People held out", f"{result.held_out.people:,}, {result.held_out.images:,} photographs"),
        ("Evaluated on", result.evaluate_on or "the people held out of the same source"),
        ("Organisations", str(len(result.organisations))),
        ("Preset", f"{result.preset}: model {result.model}, {result.rounds} rounds"),
        ("Engine", result.engine),
        ("Seed", str(result.seed)),
        ("Started", f"{result.started}, took {_duration(result.seconds)}"),
        ("Privacy", "trained without differential privacy"),
        ("Started from", _start(result)),
        ("Versions", ", ".join(f"{name} {text}" for name, text in result.versions.items())),
    ]
    if any(arm.privacy is not None for arm in result.arms):
        settings = [entry for entry in settings if entry[0] != "Privacy"]
    return repeat_section(result.command, settings, what="this run")
