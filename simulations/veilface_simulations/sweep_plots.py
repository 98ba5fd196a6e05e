"""Error rates against epsilon: how much of what joining buys is left at each price."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from veilface_common.metrics import Interval
from veilface_simulations.plots import (
    CENTRAL,
    FEDERATED,
    LOCAL,
    MUTED,
    Plot,
    canvas,
    legend,
    to_svg,
)
from veilface_simulations.sweep import Level, Point, Sweep

_DOTTED, _DASHED, _SPARSE = (0, (1, 1.5)), (0, (5, 2)), (0, (1, 3))


@dataclass(frozen=True, kw_only=True)
class _Measure:
    """A figure that is drawn against epsilon."""

    name: str
    title: str
    caption: str
    axis: str
    interval: str  # its name among the intervals
    of: Callable[[Level], float | None]


_MEASURES = (
    _Measure(
        name="sweep-eer",
        title="Equal error rate against epsilon",
        caption="Lower is better. Bars are 95% intervals over people.",
        axis="Equal error rate",
        interval="eer",
        of=lambda level: level.eer,
    ),
    _Measure(
        name="sweep-tar",
        title="True accept rate at FAR 1% against epsilon",
        caption="Higher is better. Bars are 95% intervals over people.",
        axis="Right people accepted (TAR)",
        interval="tar@1e-2",
        of=lambda level: level.tar_at_far.get("1e-2"),
    ),
)


def against_epsilon(sweep: Sweep) -> tuple[Plot, ...]:
    """Return a plot for each figure that the sweep has at some epsilon."""
    return tuple(
        _draw(sweep, measure)
        for measure in _MEASURES
        if any(measure.of(point) is not None for point in sweep.points)
    )


def places(epsilons: Sequence[float | None]) -> list[float]:
    """Return where rising epsilons stand on a logarithmic axis: None, no privacy, at its end."""
    known = [epsilon for epsilon in epsilons if epsilon is not None]
    end = known[-1] * max(2.0, (known[-1] / known[0]) ** 0.25) if known else 1.0
    return [end if epsilon is None else epsilon for epsilon in epsilons]


def _draw(sweep: Sweep, measure: _Measure) -> Plot:
    drawing, axes = canvas(height=3.6)
    _levels(axes, sweep, measure)
    _curve(axes, sweep.points, measure)
    _epsilon_axis(axes, sweep.points)
    axes.set_ylim(0, min(1.02, 1.08 * axes.get_ylim()[1]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
    axes.set_ylabel(measure.axis)
    legend(axes, columns=2)
    return Plot(
        name=measure.name,
        title=measure.title,
        caption=measure.caption,
        svg=to_svg(drawing, measure.name, measure.title),
    )


def _levels(axes: Axes, sweep: Sweep, measure: _Measure) -> None:
    """Draw what no epsilon touches as lines from side to side."""
    lines = [
        (sweep.initial, "Started from", MUTED, _DOTTED),
        (sweep.central, "All in one place", CENTRAL, _DASHED),
        (sweep.local, "Each alone, mean", LOCAL, "-"),
    ]
    for level, label, colour, style in lines:
        height = None if level is None else measure.of(level)
        if height is not None:
            axes.axhline(height, color=colour, linestyle=style, linewidth=1.8, label=label)


def _curve(axes: Axes, points: Sequence[Point], measure: _Measure) -> None:
    """Draw the federation; no line of the same kind leads to where there is no privacy."""
    spots = zip(places([point.epsilon for point in points]), points, strict=True)
    drawn = [(x, point, y) for x, point in spots if (y := measure.of(point)) is not None]
    private = [(x, y) for x, point, y in drawn if point.epsilon is not None]
    everything = [(x, y) for x, _, y in drawn]
    axes.plot(*zip(*everything[-2:], strict=True), color=FEDERATED, linestyle=_SPARSE)
    axes.plot([x for x, _ in private], [y for _, y in private], color=FEDERATED, linewidth=2.4)
    axes.plot(*zip(*everything, strict=True), "o", color=FEDERATED, markersize=7, label="Together")
    for x, point, _ in drawn:
        _bar(axes, x, point.intervals.get(measure.interval))


def _bar(axes: Axes, x: float, interval: Interval | None) -> None:
    if interval is not None:
        axes.plot([x, x], interval, color=FEDERATED, linewidth=2.0, alpha=0.6)


def _epsilon_axis(axes: Axes, points: Sequence[Point]) -> None:
    ticks = places([point.epsilon for point in points])
    margin = max(1.25, (ticks[-1] / ticks[0]) ** 0.07)
    axes.set_xscale("log")
    axes.set_xlim(ticks[0] / margin, ticks[-1] * margin)
    axes.set_xticks(ticks, [point.name for point in points])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("Epsilon: further left hides more; inf: no privacy")
