"""Plots as inline SVG that takes its colours and its font from the page around it.

Matplotlib draws with sentinel colours, which are then replaced by CSS variables; so one drawing
serves light and dark. The same result gives the same bytes.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from veilface_common.metrics import HISTOGRAM_BINS, Figures
from veilface_simulations.results import Arm, Result

# No other element is drawn in these, so that each stands for one CSS variable of the page.
INK, MUTED, GRID = "#010102", "#010203", "#010204"
FEDERATED, LOCAL, CENTRAL = "#010205", "#010206", "#010207"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    FEDERATED: "var(--federated)",
    LOCAL: "var(--local)",
    CENTRAL: "var(--central)",
}
_COLOURS = {"federated": FEDERATED, "plain": FEDERATED, "local": LOCAL, "central": CENTRAL}
_STYLES: dict[str, Any] = {
    "federated": "-",
    "plain": (0, (1, 1)),
    "local": "-",
    "central": (0, (5, 2)),
}
_LABELS = {
    "federated": "Together",
    "plain": "Together, no privacy",
    "local": "Each alone",
    "central": "All in one place",
}
_NAMED_BARS = 30  # beyond so many, bars would be thinner than their names
_SHOWN_OF_MANY = 13


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure of the report: a name unique in its page, what it shows, and the drawing."""

    name: str
    title: str
    caption: str
    svg: str


def all_plots(result: Result) -> tuple[Plot, ...]:
    """Return the plots that `result` has the figures for, in the order of reading."""
    makers = (error_rates, roc, learning_curves, score_histogram, organisation_sizes)
    return tuple(plot for plot in (maker(result) for maker in makers) if plot is not None)


def error_rates(result: Result) -> Plot | None:
    """EER of each arm with its interval: together and pooled first, then the others by EER."""
    together = (result.federated, result.plain, result.central)
    arms = [arm for arm in together if arm is not None]
    alone = _evenly(sorted(result.local, key=lambda arm: arm.eer))
    arms += alone
    if not arms:
        return None
    drawing, axes = canvas(height=1.0 + 0.3 * len(arms))
    ends = [_dot_and_interval(axes, arm, row) for row, arm in enumerate(arms)]
    _name_rows(axes, [arm_label(arm) for arm in arms])
    axes.set_xlim(0, 1.18 * max(0.01, *ends))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
    axes.set_xlabel("Equal error rate (lower is better)")
    return Plot(
        name="eer",
        title="Equal error rate",
        caption="Dots are the figures, lines their 95% intervals over people."
        + (
            f" {len(alone)} of {len(result.local)} alone." if len(alone) < len(result.local) else ""
        ),
        svg=to_svg(drawing, "eer", "Equal error rate of each arm with its interval"),
    )


def _evenly(arms: Sequence[Arm]) -> list[Arm]:
    """Return all arms, or where they are too many a few of them, from the best to the worst."""
    if len(arms) <= _NAMED_BARS:
        return list(arms)
    return [arms[index] for index in np.linspace(0, len(arms) - 1, _SHOWN_OF_MANY).astype(int)]


def _dot_and_interval(axes: Axes, arm: Arm, row: int) -> float:
    """Draw an arm's EER and return where its interval ends."""
    colour = _COLOURS[arm.arm]
    low, high = arm.figures.intervals.get("eer", (arm.eer, arm.eer))
    axes.plot([low, high], [row, row], color=colour, linewidth=2.5, solid_capstyle="round")
    axes.plot([arm.eer], [row], "o", color=colour, markersize=7)
    _annotate(axes, f"{arm.eer:.1%}", max(high, arm.eer), row)
    return max(high, arm.eer)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Label rows from top to bottom; a name is never read as a formula."""
    axes.set_yticks(range(len(names)), [_shortened(name) for name in names])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
        label.set_color(INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def roc(result: Result) -> Plot | None:
    """TAR against FAR of each arm; FAR is drawn as far down as ten impostor pairs reach."""
    arms = [arm for arm in _back_to_front(result) if arm.figures.roc]
    if not arms:
        return None
    drawing, axes = canvas(height=3.4)
    lowest = max(1e-5, min(0.1, 10 / arms[0].figures.impostor_pairs_scored))
    for arm in arms:
        far, tar = np.array(arm.figures.roc).T
        axes.plot(np.maximum(far, lowest / 10), tar, **_line(arm, len(result.local)))
    axes.set_xscale("log")
    axes.set_xlim(lowest, 1)
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("Strangers accepted (FAR)")
    axes.set_ylabel("Right people accepted (TAR)")
    legend(axes)
    return Plot(
        name="roc",
        title="ROC",
        caption="Each point is a threshold. Further up is better; further left is stricter.",
        svg=to_svg(drawing, "roc", "True accept rate against false accept rate"),
    )


def learning_curves(result: Result) -> Plot | None:
    """EER against the round, for every arm that recorded it."""
    arms = [arm for arm in _back_to_front(result) if len(arm.curve) > 1]
    if not arms:
        return None
    drawing, axes = canvas(height=3.0)
    for arm in arms:
        rounds, rates = [p.round for p in arm.curve], [p.eer for p in arm.curve]
        axes.plot(rounds, rates, **_line(arm, len(result.local)))
    axes.set_ylim(0, None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("Round")
    axes.set_ylabel("Equal error rate")
    legend(axes)
    return Plot(
        name="curves",
        title="Learning curves",
        caption="Measured on the people held out. The last round counts, not the best one.",
        svg=to_svg(drawing, "curves", "Equal error rate against the round"),
    )


def score_histogram(result: Result) -> Plot | None:
    """How scores of one person and of two people lie apart, for the arm that matters most."""
    arm = result.federated or result.central or next(iter(result.local), None)
    if arm is None or not arm.figures.genuine_histogram:
        return None
    drawing, axes = canvas(height=2.6)
    edges = np.linspace(-1, 1, HISTOGRAM_BINS + 1)
    for shares, colour, label, style in _histogram_lines(arm.figures):
        heights = np.array(shares)
        axes.stairs(heights, edges, color=colour, fill=True, alpha=0.18)
        axes.stairs(heights, edges, color=colour, label=label, linewidth=1.8, linestyle=style)
    axes.axvline(arm.figures.eer_threshold, color=MUTED, linewidth=1, linestyle=":")
    axes.set_xlim(-0.6, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("Score (cosine)")
    axes.set_ylabel("Share of pairs")
    legend(axes)
    return Plot(
        name="scores",
        title=f"Scores: {_LABELS[arm.arm].lower()}",
        caption="The dotted line is the threshold of the equal error rate.",
        svg=to_svg(drawing, "scores", "Histogram of genuine and impostor scores"),
    )


def _histogram_lines(figures: Figures) -> list[tuple[tuple[float, ...], str, str, str]]:
    return [
        (figures.genuine_histogram, FEDERATED, "Same person", "-"),
        (figures.impostor_histogram, LOCAL, "Different people", "--"),
    ]


def organisation_sizes(result: Result) -> Plot | None:
    """How many photographs each organisation trains on, largest first."""
    if not result.organisations:
        return None
    held = sorted(result.organisations, key=lambda size: (-size.images, size.name))
    named = len(held) <= _NAMED_BARS
    drawing, axes = canvas(height=0.9 + 0.3 * len(held) if named else 4.0)
    axes.barh(range(len(held)), [size.images for size in held], color=MUTED, height=0.62)
    _name_rows(axes, [size.name if named else "" for size in held])
    if named:
        for row, size in enumerate(held):
            _annotate(axes, f"{size.images:,} of {size.people:,} people", size.images, row)
    else:
        axes.set_ylabel("Organisations")
    axes.set_xlim(0, 1.5 * max(1, *(size.images for size in held)))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("Photographs to train on")
    return Plot(
        name="sizes",
        title="Who holds how much",
        caption="These counts are known here because this is a simulation; they do not travel.",
        svg=to_svg(drawing, "sizes", "Photographs of each organisation"),
    )


def arm_label(arm: Arm) -> str:
    """Return what an arm is called in plots and tables."""
    return arm.organisation or "Alone" if arm.arm == "local" else _LABELS[arm.arm]


def _shortened(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _back_to_front(result: Result) -> list[Arm]:
    arms = [*result.local, result.central, result.plain, result.federated]
    return [arm for arm in arms if arm is not None]


def _line(arm: Arm, organisations: int) -> dict[str, Any]:
    thin = arm.arm == "local"
    return {
        "color": _COLOURS[arm.arm],
        "linestyle": _STYLES[arm.arm],
        "linewidth": 1.2 if thin else 2.4,
        "alpha": max(0.25, min(0.8, 4 / organisations)) if thin else 1.0,
        "label": _LABELS[arm.arm],
    }


def canvas(*, height: float) -> tuple[Drawing, Axes]:
    """Return a drawing of 5.4 x `height` inches, of a size that reads well on a phone too."""
    with mpl.rc_context({"font.size": 10.5}):
        drawing = Drawing(figsize=(5.4, height), layout="constrained")
        axes = drawing.add_subplot()
    drawing.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(colors=MUTED, length=0, which="both")
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return drawing, axes


def _annotate(axes: Axes, text: str, x: float, y: float) -> None:
    """Write `text` a little to the right of a point."""
    axes.annotate(
        text, (x, y), xytext=(7, 0), textcoords="offset points", va="center", color=INK, fontsize=9
    )


def legend(axes: Axes, *, columns: int | None = None) -> None:
    """Name each label once, above the axes, by importance; more than three in two columns."""
    handles, labels = axes.get_legend_handles_labels()
    shown = dict(zip(reversed(labels), reversed(handles), strict=True))
    axes.legend(
        shown.values(),
        shown.keys(),
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns or (len(shown) if len(shown) <= 3 else 2),
        frameon=False,
        labelcolor=INK,
        borderaxespad=0.2,
        handlelength=2.4,
    )


def to_svg(drawing: Drawing, name: str, label: str) -> str:
    """Return inline SVG: no prologue, ids that start with `name`, the page's colours and font."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "veilface"}):
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\1{name}-", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    text = _recoloured(text)
    return _opened(text, label)


def _recoloured(text: str) -> str:
    for sentinel, variable in _VARIABLES.items():
        text = text.replace(sentinel, variable)
    return text


def _opened(text: str, label: str) -> str:
    """Replace the fixed size of the outermost element by a label that can be read aloud."""
    head, rest = text.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{view.group()} role="img" aria-label="{html.escape(label)}">{rest}'
    )
