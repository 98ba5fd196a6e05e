"""The budget over time as a small SVG: one rising line under a limit, in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from html import escape

from veilface_common.budget.report import Point

_WIDTH, _HEIGHT = 760, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 92, 14, 34  # margins that hold the labels
_TICKS = 5


def curve_svg(points: Sequence[Point], started: str) -> str:
    """Return the drawing of a curve with at least one point, which begins at 0 when `started`."""
    across = _across([started, *(point.time for point in points)])
    spent = [0.0, *(point.epsilon for point in points)]
    limits = [points[0].limit, *(point.limit for point in points)]
    ticks = _ticks(max(value for value in (*spent, *limits) if math.isfinite(value)))
    top = 1.04 * max(ticks[-1], *filter(math.isfinite, (*spent, *limits)))
    parts = [
        *(_gridline(tick, _y(tick, top)) for tick in ticks),
        _line("limit", _stairs(across, [_y(value, top) for value in limits])),
        _line("spent", _stairs(across, [_y(value, top) for value in spent])),
        _label("limit", f"limit {limits[-1]:g}", _y(limits[-1], top), spent[-1] > limits[-1]),
        _label("spent", f"{spent[-1]:.3g} spent", _y(spent[-1], top), spent[-1] <= limits[-1]),
        _date(started, _LEFT, "start"),
        _date(points[-1].time, _WIDTH - _RIGHT, "end"),
    ]
    words = f"Epsilon so far, {spent[-1]:.3g}, and its limit, {limits[-1]:g}, over time"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(words)}">'
        f"{''.join(parts)}</svg>"
    )


def _across(times: Sequence[str]) -> list[float]:
    """Return how far right each time stands; in even steps where the times cannot tell."""
    try:
        seconds = [datetime.fromisoformat(time).timestamp() for time in times]
    except (OverflowError, ValueError):
        seconds = []
    if not seconds or seconds[-1] <= seconds[0]:
        seconds = [float(index) for index in range(len(times))]
    first, last = seconds[0], seconds[-1]
    latest, places = first, []
    for second in seconds:
        latest = min(max(latest, second), last)  # a clock that was set back draws no loop
        places.append(_LEFT + (_WIDTH - _LEFT - _RIGHT) * (latest - first) / (last - first))
    return places


def _y(value: float, top: float) -> float:
    room = _HEIGHT - _TOP - _BOTTOM
    return _TOP + room * (1 - min(value, top) / top)


def _ticks(largest: float) -> list[float]:
    """Return round numbers from 0 to about the largest value."""
    rough = max(largest, 1e-6) / _TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * (1 - 1e-9))
    return [index * step for index in range(math.floor(largest / step + 1e-9) + 1)] or [0.0]


def _stairs(across: Sequence[float], heights: Sequence[float]) -> str:
    """Return a path that keeps its height until the next value."""
    parts = [f"M{across[0]:.1f} {heights[0]:.1f}"]
    parts += [f"H{x:.1f}V{y:.1f}" for x, y in zip(across[1:], heights[1:], strict=True)]
    return "".join(parts)


def _line(kind: str, path: str) -> str:
    return f'<path class="{kind}" d="{path}"/>'


def _gridline(value: float, y: float) -> str:
    return (
        f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    )


def _label(kind: str, text: str, y: float, below: bool) -> str:  # noqa: FBT001 -- of two labels
    """Return a label at the right end of a line, on the side where the other line is not."""
    shift = 12 if below else -2
    return f'<text class="{kind}" x="{_WIDTH - _RIGHT + 8}" y="{y + shift:.1f}">{text}</text>'


def _date(time: str, x: float, anchor: str) -> str:
    return f'<text x="{x}" y="{_HEIGHT - 10}" text-anchor="{anchor}">{escape(time[:10])}</text>'
