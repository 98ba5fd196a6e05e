"""Lines over rounds and a grid of who took part, as SVG in the colours of the page around it.

Nothing is told by colour alone: lines carry their names, and who was left out is a cross.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 480, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 104, 14, 34  # margins that hold the texts
_GRID_WIDTH = 760
_TICKS = 5
_DOTS = 40  # rounds, beyond which points would touch
_LABEL = 15  # height of one
_ROW = 24
_NAME = 170  # width of an organisation's name in the grid
_LONGEST_NAME = 22
STYLE = """
svg text { font-size: 12px; fill: var(--muted); }
svg .rule { stroke: var(--line); stroke-width: 1; fill: none; }
svg .line { stroke: var(--tone); stroke-width: 2; fill: none; }
svg .dot { fill: var(--tone); }
svg .name { fill: var(--tone); font-weight: 600; }
svg .limit { stroke: var(--muted); stroke-width: 1.5; stroke-dasharray: 5 4; fill: none; }
svg .in { fill: var(--federated); }
svg .out { stroke: var(--local); stroke-width: 2; fill: none; }
svg .gap { fill: var(--line); }
svg text.row { fill: var(--ink); }
.many .dot { display: none; }
.many { --tone: color-mix(in srgb, var(--muted) 45%, transparent); }
.a { --tone: var(--federated); } .b { --tone: var(--local); } .c { --tone: var(--central); }
.d { --tone: #8a4fbf; } .e { --tone: #b3366b; } .f { --tone: #5f6b12; }
@media (prefers-color-scheme: dark) {
  .d { --tone: #c397ee; } .e { --tone: #f08ab4; } .f { --tone: #bcc95a; }
}
"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Values by round, in the tone of a CSS class; its name stands at its right end."""

    name: str
    tone: str
    points: Mapping[int, float]


def lines_svg(
    lines: Sequence[Line], *, words: str, joins: bool = False, limit: float | None = None
) -> str:
    """Return lines over rounds, each with a point at least; the drawing starts at 0.

    Args:
        lines: what is drawn, the last one on top.
        words: what the drawing says, for who cannot see it.
        joins: draw on over rounds of which a line knows nothing.
        limit: a value to draw a dashed line at.
    """
    rounds = sorted({number for line in lines for number in line.points})
    values = [value for line in lines for value in line.points.values()]
    ticks = _ticks(max([*values, limit or 0.0]))
    top = 1.04 * max(ticks[-1], *values, limit or 0.0) or 1.0
    places = _Places(first=rounds[0], last=rounds[-1], top=top)
    parts = [_rule(places, tick) for tick in ticks]
    parts += [_round_label(places, number) for number in _shown_rounds(rounds)]
    if limit is not None:
        y = places.y(limit)
        parts.append(f'<path class="limit" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
    parts += [_drawn(line, places, joins=joins, dots=len(rounds) <= _DOTS) for line in lines]
    parts += _names([line for line in lines if line.name], places)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(words)}">'
        f"{''.join(parts)}</svg>"
    )


def grid_svg(
    names: Sequence[str],
    rounds: Sequence[int],
    state: Callable[[str, int], str],
    words: str,
) -> str:
    """Return a row for each organisation and a column for each round.

    `state` says `in` of who took part, a reason of who was left out, and nothing of everybody else.
    """
    room = _GRID_WIDTH - _NAME - 8
    cell = min(24.0, room / max(1, len(rounds)))
    height = _ROW * len(names) + 26
    parts = []
    for row, name in enumerate(names):
        y = _ROW * row + 4
        parts.append(f'<text class="row" x="0" y="{y + 13}">{escape(_short(name))}</text>')
        for column, number in enumerate(rounds):
            what = state(name, number)
            parts.append(_cell(_NAME + cell * column, y, cell, f"{name}, round {number}", what))
    for number in _shown_rounds(rounds):
        x = _NAME + cell * (rounds.index(number) + 0.5)
        parts.append(f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{number}</text>')
    return (
        f'<svg viewBox="0 0 {_GRID_WIDTH} {height}" role="img" aria-label="{escape(words)}">'
        f"{''.join(parts)}</svg>"
    )


@dataclass(frozen=True, kw_only=True)
class _Places:
    first: int
    last: int
    top: float

    def x(self, number: int) -> float:
        share = (number - self.first) / max(1, self.last - self.first)
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share

    def y(self, value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value / self.top)


def _cell(x: float, y: float, size: float, where: str, what: str) -> str:
    """Return a full square for who took part, a cross for who was left out, a dot for neither."""
    side = max(1.0, size - 3)
    title = f"<title>{escape(where)}: {escape(what or 'not asked')}</title>"
    if what == "in":
        return f'<rect class="in" x="{x:.1f}" y="{y}" width="{side:.1f}" height="16">{title}</rect>'
    if what:
        cross = f"M{x:.1f} {y}l{side:.1f} 16M{x:.1f} {y + 16}l{side:.1f} -16"
        return f'<path class="out" d="{cross}">{title}</path>'
    return f'<circle class="gap" cx="{x + side / 2:.1f}" cy="{y + 8}" r="1.5">{title}</circle>'


def _drawn(line: Line, places: _Places, *, joins: bool, dots: bool) -> str:
    parts, before = [], None
    for number, value in sorted(line.points.items()):
        goes_on = before is not None and (joins or number == before + 1)
        parts.append(f"{'L' if goes_on else 'M'}{places.x(number):.1f} {places.y(value):.1f}")
        before = number
    marks = "".join(
        f'<circle class="dot" cx="{places.x(number):.1f}" cy="{places.y(value):.1f}" r="3"/>'
        for number, value in line.points.items()
    )
    path = f'<path class="line" d="{"".join(parts)}"/>'
    return f'<g class="{line.tone}">{path}{marks if dots else ""}</g>'


def _names(lines: Sequence[Line], places: _Places) -> list[str]:
    """Return the lines' names at their right ends, moved apart where they would touch."""
    ends = [(places.y(line.points[max(line.points)]), line) for line in lines]
    ends.sort(key=lambda end: end[0])
    heights = _apart([height for height, _ in ends])
    return [
        f'<text class="name {line.tone}" x="{_WIDTH - _RIGHT + 10}" y="{height + 4:.1f}">'
        f"{escape(_short(line.name, 14))}</text>"
        for height, (_, line) in zip(heights, ends, strict=True)
    ]


def _apart(heights: Sequence[float]) -> list[float]:
    """Return rising heights moved so far apart that names do not touch, above the lower margin."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + _LABEL) if placed else height)
    bottom = float(_HEIGHT - _BOTTOM)
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], bottom)
        bottom = placed[index] - _LABEL
    return placed


def _rule(places: _Places, value: float) -> str:
    y = places.y(value)
    return (
        f'<path class="rule" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    )


def _round_label(places: _Places, number: int) -> str:
    x = places.x(number)
    return f'<text x="{x:.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{number}</text>'


def _shown_rounds(rounds: Sequence[int]) -> list[int]:
    """Return at most about ten of them, the first and the last among them."""
    step = math.ceil(len(rounds) / 10)
    shown = [number for index, number in enumerate(rounds) if index % step == 0]
    if shown[-1] != rounds[-1]:
        is_close = (len(rounds) - 1) % step < step / 2
        shown = [*(shown[:-1] if is_close and len(shown) > 1 else shown), rounds[-1]]
    return shown


def _ticks(largest: float) -> list[float]:
    """Return round numbers from 0 to about the largest value."""
    rough = max(largest, 1e-6) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * (1 - 1e-9))
    return [index * step for index in range(math.floor(largest / step + 1e-9) + 1)]


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
