"""`sweep.html`: what joining buys at which epsilon, in one sentence, two plots and a table."""

from __future__ import annotations

from collections.abc import Sequence

from veilface_simulations.findings import CLEAR_GAP, percent
from veilface_simulations.privacy_section import WHOM
from veilface_simulations.report import (
    figures_section,
    page,
    rate_cell,
    repeat_section,
    warnings_section,
)
from veilface_simulations.sweep import Level, Point, Sweep
from veilface_simulations.sweep_plots import against_epsilon

_HEADS = (
    *("Epsilon", "EER", "TAR at FAR 1%", "Won by joining"),
    *("Noise multiplier", "Private steps", "Epsilon spent"),
)
_NOTHING = "<td>\N{EN DASH}</td>"


def render(sweep: Sweep) -> str:
    """Return the page as HTML; every text from outside passes `html.escape`."""
    sections = [
        warnings_section(sweep.warnings),
        figures_section(against_epsilon(sweep)),
        _table(sweep),
    ]
    return page(
        title=f"Veilface: {sweep.data}",
        kicker=f"Veilface sweep \N{MIDDLE DOT} {_source(sweep)}",
        headline=headline(sweep),
        lead=_lead(sweep),
        body="\n".join(filter(None, sections)),
        settings=_settings(sweep),
    )


def headline(sweep: Sweep) -> str:
    """Return in one sentence at which epsilon joining pays, and what it buys there."""
    without, name = _without_joining(sweep)
    paying = [point for point in sweep.points if without - point.eer >= CLEAR_GAP]
    shown = [paying[0], paying[-1]] if paying else [min(sweep.points, key=lambda p: p.eer)]
    rates = " and ".join(dict.fromkeys(f"{percent(point.eer)} {_at(point)}" for point in shown))
    best = "" if paying else "at best "
    return (
        f"{_where(sweep.points, paying)}: equal error rate {best}{rates}, against "
        f"{percent(without)} {name}."
    )


def _without_joining(sweep: Sweep) -> tuple[float, str]:
    """Return the EER of what an organisation has anyway, the better where it has two models."""
    if sweep.initial is not None and sweep.initial.eer < sweep.local.eer:
        return sweep.initial.eer, "for the model that all start from"
    return sweep.local.eer, "for an organisation alone"


def _where(points: Sequence[Point], paying: Sequence[Point]) -> str:
    if not paying:
        return "Joining does not pay at any epsilon tried"
    if len(paying) == len(points) > 1:
        return "Joining pays at every epsilon tried"
    if len(paying) > 1 and list(paying) == list(points[-len(paying) :]):
        return f"Joining pays from epsilon {paying[0].name} on"
    only = "only " if len(paying) < len(points) else ""
    return f"Joining pays {only}{' and '.join(_at(point) for point in paying)}"


def _at(point: Point) -> str:
    return "without privacy" if point.epsilon is None else f"at epsilon {point.epsilon:g}"


def _lead(sweep: Sweep) -> str:
    held = sweep.held_out
    text = (
        f"Measured on {held.images:,} photographs of {held.people:,} people whom nobody trained on."
    )
    if sweep.unit in WHOM:
        text += (
            " Epsilon is the price: the smaller it is, the less can be told of "
            f"{WHOM[sweep.unit]}, from all that leaves an organisation."
        )
    without, name = _without_joining(sweep)
    unsure = [point for point in sweep.points if _includes(point, without)]
    if unsure:
        text += (
            f" The interval {' and '.join(_at(point) for point in unsure)} includes the "
            f"{percent(without)} {name}: with so few people, chance could explain the difference."
        )
    return text


def _includes(point: Point, eer: float) -> bool:
    low, high = point.intervals.get("eer", (point.eer, point.eer))
    return low <= eer <= high


def _table(sweep: Sweep) -> str:
    without, name = _without_joining(sweep)
    rows = [_point_row(point, without) for point in sweep.points]
    rows.append(_level_row("Each alone, mean", "local", sweep.local))
    rows.append(_level_row("All in one place", "central", sweep.central))
    if sweep.initial is not None:
        rows.append(_level_row("Started from", "", sweep.initial))
    head = "".join(f'<th scope="col">{text}</th>' for text in _HEADS)
    return (
        '<section class="long"><h2>Every epsilon</h2><div class="scroll"><table class="arms">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"<p>Won by joining: percentage points of EER below the {percent(without)} {name}. Small "
        "figures are 95% bootstrap intervals over people; a dash means too little data to say, or "
        "no price. Epsilon spent is that of the organisation that spent most.</p>"
        "<p>Each epsilon is a run of its own, with its report in its own folder. Without privacy "
        "the federation trains by its ordinary recipe, not by the private one with the noise left "
        "out; so the last step of the curve is not due to noise alone.</p></section>"
    )


def _point_row(point: Point, without: float) -> str:
    cells = [
        rate_cell(point.eer, point.intervals.get("eer")),
        rate_cell(point.tar_at_far.get("1e-2"), point.intervals.get("tar@1e-2")),
        f"<td>{100 * (without - point.eer):+.1f}</td>",
        _NOTHING if point.noise_multiplier is None else f"<td>{point.noise_multiplier:g}</td>",
        _NOTHING if point.steps is None else f"<td>{point.steps:,}</td>",
        _NOTHING if point.spent is None else f"<td>{point.spent:.2f}</td>",
    ]
    name = point.name if point.epsilon is not None else "inf: without privacy"
    return f'<tr class="federated"><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _level_row(name: str, kind: str, level: Level) -> str:
    cells = [
        rate_cell(level.eer, level.intervals.get("eer")),
        rate_cell(level.tar_at_far.get("1e-2"), level.intervals.get("tar@1e-2")),
    ]
    empty = _NOTHING * (len(_HEADS) - 1 - len(cells))
    return f'<tr class="{kind}"><th scope="row">{name}</th>{"".join(cells)}{empty}</tr>'


def _source(sweep: Sweep) -> str:
    return sweep.data + (f", evaluated on {sweep.evaluate_on}" if sweep.evaluate_on else "")


def _settings(sweep: Sweep) -> str:
    settings = [
        ("Faces to train on", sweep.data),
        ("Evaluated on", sweep.evaluate_on or "the people held out of the same source"),
        ("Organisations", str(sweep.organisations)),
        ("Protected", WHOM.get(sweep.unit, "nobody")),
        ("Delta", f"{sweep.delta:g}"),
        ("Preset", f"{sweep.preset}: model {sweep.model}, {sweep.rounds} rounds"),
        ("Engine", sweep.engine),
        ("Seed", str(sweep.seed)),
    ]
    return repeat_section(sweep.command, settings, what="this sweep")
