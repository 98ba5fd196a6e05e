"""A page of a run's curves, from its signed records alone; it is one file and loads nothing.

Seconds, norms of updates, who took part, what the plans cost, figures of the model. What is not
believed (`proven`) is named at the top, and no number of it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from veilface_common import page as pages
from veilface_common.config import PrivacyConfig, from_flat
from veilface_common.score_histograms import Reported, estimate
from veilface_server.checkpoint import RoundRecord
from veilface_server.costs import epsilon_by_round
from veilface_server.curves import STYLE, Line, grid_svg, lines_svg
from veilface_server.proven import Proven

_TONES = "abcdef"
_COLUMNS = 60  # rounds of the grid, the newest
_MOST_REASONS = 20


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A run, and what stands beside its records."""

    federation: str
    run: str
    rounds: int  # planned
    settings: str  # digest
    epsilon: float  # planned; 0: without privacy
    delta: float  # at which epsilon is told
    key: str  # of the coordinator: fingerprint
    proven: Proven


def dashboard(shown: Shown, *, made: str) -> str:
    """Return the page as HTML; `made` is the time, as it shall stand there."""
    records = shown.proven.finished
    costs = epsilon_by_round(shown.proven, shown.delta)
    sections = [
        _tiles(shown, costs),
        _rejected(shown.proven.rejected),
        _figures(shown, costs) if records else "",
        _taking_part(shown.proven, costs) if records else "",
        _reasons(records),
        _provenance(shown),
    ]
    done = len(records)
    return pages.page(
        title=f"{shown.federation}: run {shown.run}",
        kicker=f"{shown.federation} \N{MIDDLE DOT} run {shown.run} \N{MIDDLE DOT} {made}",
        headline=f"{done} of {shown.rounds} rounds, signed",
        lead=_lead(shown),
        body="\n".join(filter(None, sections)),
        style=STYLE,
    )


def _lead(shown: Shown) -> str:
    if not shown.proven.finished:
        return "No round of this run has a record that can be believed yet."
    missing = sorted(
        set(range(1, shown.proven.finished[-1].round + 1))
        - {record.round for record in shown.proven.finished}
    )
    text = "Every number here is from a record that the coordinator's key signed."
    if missing:
        some = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        text += f" Of round {some} there is none."
    return text


def _tiles(shown: Shown, costs: Mapping[str, Mapping[int, float]]) -> str:
    records = shown.proven.finished
    tiles = [(f"{len(records)} of {shown.rounds}", "rounds", "federated")]
    tiles.append((str(len(shown.proven.organisations)), "organisations", ""))
    if records:
        seconds = median(record.seconds for record in records)
        tiles.append((f"{seconds:,.1f} s", "a round, median", ""))
    spent = [max(line.values()) for line in costs.values() if line]
    if spent:
        of = f" of {shown.epsilon:g}" if shown.epsilon else ""
        tiles.append((f"{max(spent):.3g}{of}", f"epsilon at delta {shown.delta:g}, most", "local"))
    told = _told(shown.proven)
    if told:
        interval = f"EER, noised: {100 * told.low:.1f} to {100 * told.high:.1f}%"
        tiles.append((f"{100 * told.eer:.1f}%", interval, "central"))
    drawn = "".join(
        f'<div class="tile {tone}"><b>{escape(figure)}</b><span>{escape(words)}</span></div>'
        for figure, words, tone in tiles
    )
    return f'<div class="tiles">{drawn}</div>'


def _rejected(rejected: Sequence[str]) -> str:
    if not rejected:
        return ""
    items = "".join(f"<li>{escape(reason)}</li>" for reason in rejected)
    return (
        '<section class="notice"><h2>Not believed</h2><p>These are not what the coordinator '
        "signed for this run. Nothing of them is drawn below.</p>"
        f"<ul>{items}</ul></section>"
    )


def _figures(shown: Shown, costs: Mapping[str, Mapping[int, float]]) -> str:
    records = shown.proven.finished
    seconds = {record.round: record.seconds for record in records}
    parts = [
        _figure(
            "Seconds of a round",
            lines_svg([Line(name="", tone="a", points=seconds)], words="Seconds of each round"),
            "From the first request to the record; the slowest organisation decides.",
        )
    ]
    norms = {
        name: {
            record.round: record.update_norms[name]
            for record in records
            if name in record.update_norms
        }
        for name in shown.proven.organisations
    }
    norms = {name: line for name, line in norms.items() if line}
    if norms:
        parts.append(
            _figure(
                "Norm of each organisation's update",
                lines_svg(_toned(norms), words="Norm of each organisation's update by round"),
                _norms_caption(len(norms)),
            )
        )
    if costs:
        limit = shown.epsilon or None
        parts.append(
            _figure(
                "Epsilon by round",
                lines_svg(_toned(costs), words="Epsilon by round", joins=True, limit=limit),
                f"At delta {shown.delta:g}, of the plans of the rounds that each took part in. "
                "What it spent elsewhere, only its own ledger says."
                + (f" Dashed: the run's plan, {shown.epsilon:g}." if limit else ""),
            )
        )
    return f'<div class="figures">{"".join(parts)}</div>'


def _norms_caption(count: int) -> str:
    many = " The line with a name is their median." if count > len(_TONES) else ""
    return f"L2 norm of all weights' changes, after the checks; a gap: left out.{many}"


def _toned(values: Mapping[str, Mapping[int, float]]) -> list[Line]:
    """Return a line in a tone of its own for each, those that are the same as one.

    Of too many, one tone for all, and the median.
    """
    alike: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for name, points in values.items():
        alike.setdefault(tuple(sorted(points.items())), []).append(name)
    if len(alike) <= len(_TONES):
        named = {_together(names): dict(points) for points, names in alike.items()}
        tones = zip(_TONES, named.items(), strict=False)
        return [Line(name=name, tone=tone, points=points) for tone, (name, points) in tones]
    lines = [Line(name="", tone="many", points=points) for points in values.values()]
    rounds = sorted({number for points in values.values() for number in points})
    middle = {
        number: median(points[number] for points in values.values() if number in points)
        for number in rounds
    }
    return [*lines, Line(name="median", tone="a", points=middle)]


def _together(names: Sequence[str]) -> str:
    """Return a name for organisations of the same line."""
    return names[0] if len(names) == 1 else f"{names[0]} + {len(names) - 1}"


def _figure(title: str, svg: str, caption: str) -> str:
    return (
        f"<figure><h3>{escape(title)}</h3>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _taking_part(proven: Proven, costs: Mapping[str, Mapping[int, float]]) -> str:
    records = {record.round: record for record in proven.finished}
    rounds = sorted(records)[-_COLUMNS:]

    def state(name: str, number: int) -> str:
        record = records[number]
        return "in" if name in record.accepted else record.left_out.get(name, "")

    drawn = grid_svg(proven.organisations, rounds, state, "Who took part in which round")
    rows = "".join(
        _row(name, proven.finished, costs.get(name, {})) for name in proven.organisations
    )
    head_row = "".join(
        f'<th scope="col">{name}</th>'
        for name in (
            "Organisation",
            "Took part",
            "Left out",
            "Epsilon",
            "Newest entry of its ledger",
        )
    )
    newest = f"The newest {_COLUMNS} rounds. " if len(records) > _COLUMNS else ""
    return (
        f'<section class="long"><h2>Who took part</h2>{drawn}<p>{newest}A square took part, '
        "a cross was left out, a dot was not asked.</p>"
        f'<div class="scroll"><table class="arms"><thead><tr>{head_row}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _row(name: str, records: Sequence[RoundRecord], cost: Mapping[int, float]) -> str:
    took = sum(name in record.accepted for record in records)
    out = sum(name in record.left_out for record in records)
    entries = [
        record.ledger_heads[name]["sequence"] for record in records if name in record.ledger_heads
    ]
    cells = (
        str(took),
        str(out),
        f"{max(cost.values()):.3g}" if cost else "\N{EN DASH}",
        str(entries[-1]) if entries else "\N{EN DASH}",
    )
    return (
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
    )


def _reasons(records: Sequence[RoundRecord]) -> str:
    found = [
        (record.round, name, reason)
        for record in reversed(records)
        for name, reason in sorted(record.left_out.items())
    ]
    if not found:
        return ""
    rows = pages.facts_table(
        (f"Round {number}, {name}", reason) for number, name, reason in found[:_MOST_REASONS]
    )
    more = (
        f"<p>The newest {_MOST_REASONS} of {len(found)}.</p>" if len(found) > _MOST_REASONS else ""
    )
    return f'<section class="long"><h2>Left out, and why</h2>{rows}{more}</section>'


def _provenance(shown: Shown) -> str:
    plan = _plan(shown.proven.finished)
    settings = [
        ("Coordinator's key", shown.key),
        ("Settings of the run", shown.settings),
        ("Newest model", shown.proven.finished[-1].model_sha256 if shown.proven.finished else ""),
        ("Privacy asked for", plan),
        ("Figures of the model", _figures_told(shown.proven)),
        ("Records", f"{len(shown.proven.written)} believed, {len(shown.proven.rejected)} not"),
    ]
    known = pages.facts_table((name, text) for name, text in settings if text)
    return f'<section class="long"><h2>Where this is from</h2>{known}</section>'


def _told(proven: Proven) -> Reported | None:
    """Return what the noised histograms of the model say, where there are any and they do."""
    figures = proven.figures
    if figures is None or figures.scores is None:
        return None
    return estimate(figures.scores, figures.deviation, len(figures.accepted))


def _figures_told(proven: Proven) -> str:
    if proven.figures is None:
        return ""
    told = _told(proven)
    gave = ", ".join(proven.figures.accepted) or "nobody"
    if told is None:
        return f"given by {gave}; the noise in them hides how well it does"
    return (
        f"given by {gave}: EER {100 * told.eer:.1f}%, 95% interval {100 * told.low:.1f} to "
        f"{100 * told.high:.1f}%"
    )


def _plan(records: Sequence[RoundRecord]) -> str:
    if not records:
        return ""
    private = from_flat(PrivacyConfig, records[-1].plan)
    if private.unit == "none":
        return "none: nothing bounds what the updates tell"
    return (
        f"unit {private.unit}; in each round {private.steps} steps, sample rate "
        f"{private.sample_rate:g}, noise multiplier {private.noise_multiplier:g}, norm at most "
        f"{private.max_gradient_norm:g}"
    )
