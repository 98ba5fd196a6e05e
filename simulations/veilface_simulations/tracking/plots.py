"""Equal error rates of every way, a group for each condition."""

from __future__ import annotations

from matplotlib.ticker import FuncFormatter

from veilface_simulations.plots import CENTRAL, FEDERATED, INK, LOCAL, MUTED, Plot, canvas, to_svg
from veilface_simulations.tracking.record import Measurement

NAMES = {
    "clean": "All frames good",
    "known": "2 of 5 bad, kinds trained on",
    "new": "2 of 5 bad, kinds never trained on",
}
_COLOURS = (MUTED, LOCAL, FEDERATED, CENTRAL, INK)


def error_rates(measured: Measurement) -> Plot:
    """Return the EER of each way with its interval, below each other, for each condition."""
    ways, conditions = measured.ways(), measured.conditions()
    drawing, axes = canvas(height=0.8 + 0.27 * len(conditions) * (len(ways) + 1))
    names, places, down = [], [], 0
    for condition in conditions:
        axes.text(0, down, NAMES[condition], color=INK, size=9, va="center", weight="bold")
        down += 1
        for way, colour in zip(ways, _COLOURS, strict=False):
            found = measured.row(condition, way).rates["eer"]
            axes.plot(found.interval, (down, down), color=colour, linewidth=2.5)
            axes.plot([found.value], [down], "o", color=colour, markersize=6)
            told = f"{100 * found.value:.1f}%"
            axes.text(found.interval[1] + 0.004, down, told, color=INK, size=9, va="center")
            names.append(way)
            places.append(down)
            down += 1
    axes.set_yticks(places, names)
    for label in axes.get_yticklabels():
        label.set_color(INK)
    axes.set_ylim(down - 0.4, -0.6)
    axes.set_xlim(0, None)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
    axes.set_xlabel("Equal error rate (lower is better)")
    return Plot(
        name="tracks-eer",
        title="Equal error rate of tracks",
        caption="Dots are the figures, lines their 95% intervals over people. All ways see the "
        "same people, so that their differences are known better than each: see the table.",
        svg=to_svg(drawing, "tracks-eer", "Equal error rate of each way by condition"),
    )
