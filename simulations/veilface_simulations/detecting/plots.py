"""Precision against recall, and recall against how much of a clip is spoilt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import PercentFormatter

from veilface_simulations.detecting.evaluating import CURVE_RECALLS
from veilface_simulations.detecting.record import Evaluation, Measured, OnClips
from veilface_simulations.plots import (
    CENTRAL,
    FEDERATED,
    INK,
    LOCAL,
    MUTED,
    Plot,
    canvas,
    legend,
    to_svg,
)

_COLOURS = (FEDERATED, LOCAL, CENTRAL, INK, MUTED)
_STYLES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1)))


def all_plots(evaluation: Evaluation) -> tuple[Plot, ...]:
    """Return the plots in the order of reading."""
    plots = [_precision_recall(evaluation)]
    if len(evaluation.detectors[0].clips) > 1:
        plots += [
            _by_corrupted(
                evaluation,
                "every",
                "Recall in all frames",
                "Lines are 95% intervals over clips.",
            ),
            _by_corrupted(
                evaluation,
                "spoilt",
                "Recall in the corrupted frames alone",
                "What only memory finds: in a dropped frame there is nothing to see.",
            ),
        ]
    return tuple(plots)


def label_of(detector: Measured) -> str:
    """Return a short name: that of the file, where the detector is one."""
    kind, _, file = detector.name.partition(":")
    return Path(file).stem if file else kind


def _last_to_first(evaluation: Evaluation) -> list[tuple[int, Measured]]:
    """Return the detectors with their numbers as `legend` takes them, the first one on top."""
    return list(enumerate(evaluation.detectors))[::-1]


def _line(number: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "linestyle": _STYLES[number // len(_COLOURS) % len(_STYLES)],
        "linewidth": 2.0,
    }


def _precision_recall(evaluation: Evaluation) -> Plot:
    drawing, axes = canvas(height=3.8)
    for number, detector in _last_to_first(evaluation):
        precision = detector.stills.precision_at_recall
        reached = [place for place, value in enumerate(precision) if value > 0]
        axes.plot(
            CURVE_RECALLS[reached],
            [precision[place] for place in reached],
            label=label_of(detector),
            **_line(number),
        )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.05)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("Recall: faces found")
    axes.set_ylabel("Precision: findings that are faces")
    legend(axes)
    return Plot(
        name="precision-recall",
        title="Precision against recall, single pictures",
        caption=f"Faces from {evaluation.smallest:g} px. Further up and right is better.",
        svg=to_svg(drawing, "precision-recall", "Precision against recall of each detector"),
    )


def _by_corrupted(evaluation: Evaluation, what: str, title: str, caption: str) -> Plot:
    drawing, axes = canvas(height=3.4)
    for number, detector in _last_to_first(evaluation):
        points = [one for one in detector.clips if what == "every" or one.faces_corrupted]
        style = _line(number)
        x = [one.corrupted for one in points]
        axes.plot(x, [_recall(one, what) for one in points], label=label_of(detector), **style)
        axes.plot(x, [_recall(one, what) for one in points], "o", color=style["color"])
        if what == "every":
            for one in points:
                beside = one.corrupted + 0.05 * number  # or one interval would hide another
                axes.plot([beside] * 2, one.recall_interval, color=style["color"], alpha=0.5)
    ticks = sorted({one.corrupted for one in evaluation.detectors[0].clips})
    axes.set_xticks(ticks)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(f"Corrupted frames of {evaluation.frames}")
    axes.set_ylabel("Recall")
    legend(axes)
    name = f"recall-{what}"
    return Plot(name=name, title=title, caption=caption, svg=to_svg(drawing, name, title))


def _recall(one: OnClips, what: str) -> float:
    recall = one.recall if what == "every" else one.recall_corrupted
    return float("nan") if recall is None else recall


def best(detectors: Sequence[Measured]) -> Measured:
    """Return the detector with the highest average precision on single pictures."""
    return max(detectors, key=lambda one: one.stills.sizes[0].average_precision)
