"""What organisations reported of their model, beside what the simulation measured of it."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import PercentFormatter

from veilface_common.score_histograms import BINS, Reported, unimodal
from veilface_simulations.findings import percent
from veilface_simulations.plots import FEDERATED, LOCAL, MUTED, Plot, canvas, legend, to_svg
from veilface_simulations.results import Arm, Result


def reported_scores(result: Result) -> Plot | None:
    """Return the noised histograms, what is read out of them, and the figures, true and reported.

    None where no figures were released, or noise hides what they say.
    """
    arm = result.federated
    if arm is None or arm.reported is None:
        return None
    said = arm.reported
    drawing, axes = canvas(height=2.8)
    degrees = np.linspace(0, 180, BINS + 1)
    for weights, colour, label, style in (
        (said.genuine_histogram, FEDERATED, "Same person", "-"),
        (said.impostor_histogram, LOCAL, "Different people", "--"),
    ):
        released, fitted = np.array(weights), unimodal(np.array(weights))
        total = fitted.sum()
        axes.stairs(released[::-1] / total, degrees, color=colour, fill=True, alpha=0.18)
        axes.stairs(fitted[::-1] / total, degrees, color=colour, label=label, linestyle=style)
    axes.axhline(0, color=MUTED, linewidth=1)
    axes.set_xlim(180, 0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("Angle between two photographs, in degrees")
    axes.set_ylabel("Share of pairs")
    legend(axes)
    return Plot(
        name="reported",
        title="Scores: as the organisations report them",
        caption=_caption(arm, said),
        svg=to_svg(drawing, "reported", "Noised histograms of genuine and impostor scores"),
    )


def _caption(arm: Arm, said: Reported) -> str:
    tar = ""
    if said.tar_at_far_1e_2 is not None:
        true = percent(arm.figures.tar_at_far.get("1e-2"))
        tar = (
            f" TAR at FAR 1%: {percent(said.tar_at_far_1e_2)} ({percent(said.tar_low)} to "
            f"{percent(said.tar_high)}), true {true}."
        )
    return (
        f"Noise and all, summed over {said.organisations} organisations; lines are what is read "
        f"out of them. Further right is more alike. Equal error rate: {percent(said.eer)} "
        f"({percent(said.low)} to {percent(said.high)}), true {percent(arm.eer)}.{tar} True "
        "figures are known here because this is a simulation; they are those of other people."
    )
