"""Runs side by side: their figures, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from veilface_common.errors import ConfigError
from veilface_simulations.findings import percent
from veilface_simulations.report import page
from veilface_simulations.results import Arm, Result, load_result, local_mean

_HEADS = ("Run", "Trained", "EER", "95% interval", "TAR at 1%", "TAR at 0.1%", "Rank-1")
_FIRST_FIGURE = 2  # columns from here on are set right


@dataclass(frozen=True, kw_only=True)
class Run:
    """A result and what to call it: its folder."""

    name: str
    result: Result


def load_runs(folders: Iterable[Path]) -> tuple[Run, ...]:
    """Return the runs in `folders`, in this order.

    Raises:
        ArtifactError: a folder holds no result.
    """
    return tuple(Run(name=str(folder), result=load_result(folder)) for folder in folders)


def compare(runs: Sequence[Run]) -> str:
    """Return runs side by side as text for a terminal.

    Raises:
        ConfigError: there is no run.
    """
    _verify(runs)
    parts = [_text(_HEADS, [row for run in runs for row in _rows(run)])]
    differences = differing_settings(runs)
    if differences:
        heads = ("Differs in", *(run.name for run in runs))
        parts.append(_text(heads, differences, figures_from=len(heads)))
    return "\n\n".join([*parts, *_cautions(runs)]) + "\n"


def compare_html(runs: Sequence[Run]) -> str:
    """Return runs side by side as a page that needs nothing else.

    Raises:
        ConfigError: there is no run.
    """
    _verify(runs)
    figures = _table(_HEADS, [row for run in runs for row in _rows(run)], kind="arms compared")
    heads = ("Differs in", *(run.name for run in runs))
    settings = _table(heads, differing_settings(runs), kind="settings")
    return page(
        title="Veilface: runs compared",
        kicker="Veilface",
        headline=f"{len(runs)} runs side by side",
        lead=" ".join(_cautions(runs)),
        body=f"<section><h2>Figures</h2>{figures}</section>"
        f"<section><h2>Settings that differ</h2>{settings}</section>",
        settings="",
    )


def differing_settings(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Return `(setting, value in each run, ...)` for all settings that are not everywhere equal."""
    columns = [_settings(run.result) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [(name, *(column.get(name, "") for column in columns)) for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _verify(runs: Sequence[Run]) -> None:
    if not runs:
        raise ConfigError("expected a run to compare, got none", hint="veilface-sim compare DIR...")


def _settings(result: Result) -> dict[str, str]:
    private = any(arm.privacy is not None for arm in result.arms)
    return {
        "data": result.data,
        "evaluated on": result.evaluate_on or "held out",
        "people held out": str(result.held_out.people),
        "organisations": str(len(result.organisations)),
        "preset": result.preset,
        "model": result.model,
        "rounds": str(result.rounds),
        "seed": str(result.seed),
        "engine": result.engine,
        "privacy": "yes" if private else "no",
        **dict(result.versions),
    }


def _rows(run: Run) -> list[tuple[str, ...]]:
    """Return the lines of a run: together, each alone on average, and all in one place."""
    result = run.result
    rows = [_arm_row(arm, "together") for arm in (result.federated,) if arm is not None]
    if result.local:
        rows.append(_mean_row(result.local))
    if result.central is not None:
        rows.append(_arm_row(result.central, "all in one place"))
    if result.gap_closed is not None:
        rows.append(("gap closed", percent(result.gap_closed, digits=0), "", "", "", ""))
    return [(run.name if index == 0 else "", *row) for index, row in enumerate(rows)]


def _arm_row(arm: Arm, label: str) -> tuple[str, ...]:
    figures = arm.figures
    interval = figures.intervals.get("eer")
    return (
        label,
        percent(figures.eer),
        "" if interval is None else f"{100 * interval[0]:.1f} to {percent(interval[1])}",
        percent(figures.tar_at_far.get("1e-2")),
        percent(figures.tar_at_far.get("1e-3")),
        percent(figures.rank1),
    )


def _mean_row(arms: Sequence[Arm]) -> tuple[str, ...]:
    figures = [arm.figures for arm in arms]
    return (
        "each alone, mean",
        percent(local_mean([figure.eer for figure in figures])),
        "",
        percent(local_mean([figure.tar_at_far.get("1e-2") for figure in figures])),
        percent(local_mean([figure.tar_at_far.get("1e-3") for figure in figures])),
        percent(local_mean([figure.rank1 for figure in figures])),
    )


def _cautions(runs: Sequence[Run]) -> list[str]:
    """Return why the figures of the runs cannot simply be set against each other."""
    measured = {
        (run.result.data, run.result.evaluate_on, run.result.held_out, run.result.seed)
        for run in runs
    }
    if len(measured) == 1:
        return []
    caution = "These runs are not measured on the same people: small differences mean nothing."
    return [caution]


def _text(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, figures_from: int = _FIRST_FIGURE
) -> str:
    """Return a table in columns; those from `figures_from` on are set right."""
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column >= figures_from else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
