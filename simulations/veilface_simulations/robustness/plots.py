"""Heat maps: a row for each perturbation, a column for each level."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.patches import Rectangle

from veilface_client.perturbations.levels import LEVELS
from veilface_simulations.plots import CENTRAL, FEDERATED, INK, LOCAL, Plot, canvas, to_svg
from veilface_simulations.robustness.figures import Rates
from veilface_simulations.robustness.record import Measured, Robustness

_STRONGEST = 0.5  # opacity: beyond it, ink on top is hard to read
_ROW = 0.27  # inches

Of = Callable[[Rates], float]


def heat_maps(robustness: Robustness) -> tuple[Plot, ...]:
    """Return the figures of the model as heat maps: TAR, FMR, EER, and what was not found."""
    model, rate = robustness.model, f"{100 * robustness.rate:g}%"
    plots = [
        _heat_map(
            model,
            name="robustness-tar",
            title="Right people accepted (TAR)",
            caption=f"Percent, at the threshold that accepts {rate} of strangers on clean faces. "
            "More colour is better.",
            colour=FEDERATED,
            of=lambda rates: rates.tar,
        ),
        _heat_map(
            model,
            name="robustness-fmr",
            title="Strangers accepted (false match rate)",
            caption=f"Percent, at the same threshold: {rate} was meant. More colour is worse.",
            colour=LOCAL,
            of=lambda rates: rates.false_match_rate,
            full=4 * robustness.rate,
        ),
        _heat_map(
            model,
            name="robustness-eer",
            title="Equal error rate",
            caption="Percent, at a threshold chosen anew in each cell: what no threshold brings "
            "back. More colour is worse.",
            colour=CENTRAL,
            of=lambda rates: rates.eer,
            full=0.5,
        ),
    ]
    if robustness.detector is not None:
        plots.append(
            _heat_map(
                model,
                name="robustness-failures",
                title="No face found",
                caption="Percent of the probes; they count as refused. More colour is worse.",
                colour=LOCAL,
                of=lambda rates: rates.failures,
            )
        )
    return tuple(plots)


def _heat_map(
    model: Measured,
    *,
    name: str,
    title: str,
    caption: str,
    colour: str,
    of: Of,
    full: float = 0.0,
) -> Plot:
    """Draw a figure; `full` colour stands for so much of it, or for the most that there is."""
    names = model.perturbations()
    rows = [[of(model.clean), *map(of, model.levels_of(row))] for row in names]
    full = max(full, *(max(row) for row in rows)) or 1.0
    drawing, axes = canvas(height=0.6 + _ROW * len(rows))
    for down, values in enumerate(rows):
        for across, value in enumerate(values):
            strength = _STRONGEST * value / full
            place = (across - 0.48, down - 0.46)
            axes.add_patch(
                Rectangle(place, 0.96, 0.92, facecolor=colour, alpha=strength, linewidth=0)
            )
            axes.text(
                across, down, percent_cell(value), ha="center", va="center", color=INK, size=9
            )
    axes.set_xlim(-0.52, LEVELS + 0.52)
    axes.set_ylim(len(rows) - 0.48, -0.52)
    axes.set_xticks(range(LEVELS + 1), ["clean", *map(str, range(1, LEVELS + 1))])
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.tick_top()
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)
    for label in axes.get_yticklabels():
        label.set_color(INK)
    return Plot(
        name=name,
        title=title,
        caption=caption,
        svg=to_svg(drawing, name, f"{title} by perturbation and level"),
    )


def percent_cell(rate: float) -> str:
    """Return a rate in percent, as short as a cell is: one decimal below ten."""
    percent = 100 * rate
    return f"{percent:.0f}" if percent >= 9.95 else f"{percent:.1f}"
