"""`robustness.html`: what is left of a model in bad light and behind a hand."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from veilface_client.images import CANVAS, Pixels
from veilface_client.perturbations.levels import LEVELS, perturb
from veilface_common import page as pages
from veilface_common.metrics import Interval
from veilface_simulations import drawn
from veilface_simulations.findings import percent
from veilface_simulations.report import figures_section, repeat_section, warnings_section
from veilface_simulations.robustness.plots import heat_maps
from veilface_simulations.robustness.record import Cell, Measured, Robustness
from veilface_simulations.robustness.scenes import Cropped

_SITTER = (0, 3, 1)  # seed, person and photograph of a drawn person who is seen well
_STYLE = """
.looks img { display: block; width: 100%; max-width: 42rem; image-rendering: auto; }
.looks td { padding: 0.15rem 0.4rem; border-bottom: 0; }
.looks :is(th, td) { text-align: left; vertical-align: middle; }
.looks th[scope="row"] { min-width: 8rem; max-width: 9rem; }
.what :is(th, td):nth-child(2) { text-align: left; white-space: normal; min-width: 14rem; }
"""
_HEADS = (
    *("Perturbation", "Levels 1 to 5", "Mean TAR", "Lowest TAR"),
    *("Highest false match rate", "Highest EER"),
)


def render(robustness: Robustness) -> str:
    """Return the page as HTML; every text from outside passes `html.escape`."""
    sections = [
        _tiles(robustness),
        warnings_section(robustness.warnings),
        figures_section(heat_maps(robustness)),
        _table(robustness),
        _looks(robustness),
        _words(robustness),
        _settings(robustness),
    ]
    detector = robustness.detector or "faces where the set has them"
    return pages.page(
        title=f"Veilface: robustness on {robustness.data}",
        kicker=f"Veilface robustness \N{MIDDLE DOT} {robustness.data} \N{MIDDLE DOT} {detector}",
        headline=headline(robustness),
        lead=_lead(robustness),
        body="\n".join(filter(None, sections)),
        style=_STYLE,
    )


def headline(robustness: Robustness) -> str:
    """Return in one sentence what perturbations leave of the model."""
    model = robustness.model
    worst = model.worst()
    return (
        f"Of the right people {percent(model.clean.tar)} are accepted on clean faces, "
        f"{percent(model.mean_tar())} on average over all perturbations, and "
        f"{percent(worst.rates.tar)} at worst ({_where(worst)})."
    )


def _where(cell: Cell) -> str:
    return f"{cell.perturbation}, level {cell.level}"


def _lead(robustness: Robustness) -> str:
    most = robustness.model.most_open()
    meant = f"{100 * robustness.rate:g}%"
    text = (
        f"{robustness.probes:,} perturbed photographs of {robustness.people:,} people, each "
        f"compared with a clean one of everybody. The threshold accepts {meant} of strangers on "
        "clean faces and is not moved."
    )
    if most.rates.false_match_rate > 2 * robustness.rate:
        times = most.rates.false_match_rate / robustness.rate
        text += (
            f" Under {_where(most)}, {percent(most.rates.false_match_rate)} of strangers are "
            f"accepted instead, {times:.0f} times as many: there the threshold does not hold."
        )
    return text


def _tiles(robustness: Robustness) -> str:
    model, relative = robustness.model, robustness.relative
    tiles = [
        ("federated", percent(model.clean.tar), "right people accepted, clean"),
        ("federated", percent(model.mean_tar()), "right people accepted, perturbed, mean"),
        ("local", percent(model.mean_relative_loss), "of them lost (mean relative loss)"),
        ("local", percent(model.most_open().rates.false_match_rate), "strangers accepted, most"),
    ]
    if relative is not None and relative.mean_relative_error is not None:
        tiles.append(
            ("central", f"{relative.mean_relative_error:.2f}", "mean relative error to baseline")
        )
    shown = (
        f'<div class="tile {kind}"><b>{value}</b><span>{label}</span></div>'
        for kind, value, label in tiles
    )
    return f'<div class="tiles">{"".join(shown)}</div>'


def _table(robustness: Robustness) -> str:
    heads = _HEADS if robustness.relative is None else (*_HEADS, "Error relative to baseline")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    rows = "".join(_row(robustness, number) for number in range(len(robustness.perturbations)))
    return (
        '<section class="long"><h2>Every perturbation</h2><div class="scroll">'
        f'<table class="what"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"<p>{_intervals(robustness)}</p></section>"
    )


def _row(robustness: Robustness, number: int) -> str:
    kind = robustness.perturbations[number]
    rates = robustness.model.levels_of(kind.name)
    amounts = ", ".join(f"{amount:g}" for amount in kind.amounts)
    cells = [
        f"<td>{amounts}<small>{escape(kind.meaning)}</small></td>",
        f"<td>{percent(sum(one.tar for one in rates) / len(rates))}</td>",
        f"<td>{percent(min(one.tar for one in rates))}</td>",
        f"<td>{percent(max(one.false_match_rate for one in rates))}</td>",
        f"<td>{percent(max(one.eer for one in rates))}</td>",
    ]
    if robustness.relative is not None:
        ratio = robustness.relative.relative_error.get(kind.name)
        cells.append(f"<td>{_ratio(ratio)}</td>")
    return f'<tr><th scope="row">{escape(kind.name)}</th>{"".join(cells)}</tr>'


def _ratio(ratio: float | None) -> str:
    return "\N{EN DASH}" if ratio is None else f"{ratio:.2f}"


def _intervals(robustness: Robustness) -> str:
    model, relative = robustness.model, robustness.relative
    text = (
        f"95% intervals over people, {robustness.resamples} resamples: clean TAR "
        f"{_between(model.clean.intervals.get('tar'))}, mean relative loss "
        f"{_between(model.intervals.get('mean_relative_loss'))}"
    )
    if relative is not None:
        mean = relative.intervals.get("mean_relative_error")
        text += f", mean relative error {_between(mean, percents=False)}"
    return text + ". Those of each cell are in <code>robustness.json</code>."


def _between(interval: Interval | None, *, percents: bool = True) -> str:
    if interval is None:
        return "\N{EN DASH}"
    low, high = interval
    if percents:
        return f"{100 * low:.1f} to {percent(high)}"
    return f"{low:.2f} to {high:.2f}"


def _looks(robustness: Robustness) -> str:
    """Show a drawn person, whomever the measurement was on: real faces never go into a page."""
    picture = np.ascontiguousarray(drawn.photograph(*_SITTER, 140).transpose(1, 2, 0))
    scene = Cropped(CANVAS).scene(picture)
    rows = "".join(
        f'<tr><th scope="row">{escape(kind.name)}</th><td>'
        + _strip(
            [
                perturb(scene.pixels, kind.name, level, seed=robustness.seed, face=scene.face)
                for level in range(LEVELS + 1)
            ]
        )
        + "</td></tr>"
        for kind in robustness.perturbations
    )
    return (
        '<section class="long"><h2>What the levels look like</h2><p>Clean, then levels 1 to 5. '
        "This person is drawn and does not exist.</p>"
        f'<div class="scroll"><table class="looks"><tbody>{rows}</tbody></table></div></section>'
    )


def _strip(pictures: list[Pixels]) -> str:
    file = io.BytesIO()
    Image.fromarray(np.concatenate(pictures, axis=1)).save(
        file, "JPEG", quality=88, subsampling="4:4:4"
    )
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="" src="data:image/jpeg;base64,{data}">'


def _words(robustness: Robustness) -> str:
    meant = f"{100 * robustness.rate:g}%"
    failed = ""
    if robustness.detector is not None:
        failed = (
            "<dt>No face found</dt><dd>The detector looks again in the perturbed picture. Where it "
            "finds no face, or several, the probe is refused: it counts as not accepted.</dd>"
        )
    return (
        '<section class="long"><h2>What the figures mean</h2><dl>'
        "<dt>Probe and reference</dt><dd>The photograph shown and the one enrolled. Only the probe "
        "is perturbed; the reference is clean.</dd>"
        f"<dt>TAR</dt><dd>True accept rate: how many of the right people are accepted, at the "
        f"threshold that accepts {meant} of strangers while all is clean.</dd>"
        "<dt>False match rate</dt><dd>How many strangers are accepted at that threshold. A rate "
        "that rises is worse than a TAR that falls: it lets people in.</dd>"
        "<dt>Equal error rate</dt><dd>At a threshold chosen anew for each cell: what a better "
        "threshold would not bring back.</dd>"
        "<dt>Mean relative loss</dt><dd>The share of the clean TAR that is lost, averaged over all "
        "perturbations and levels.</dd>"
        "<dt>Error relative to baseline</dt><dd>1 &minus; TAR summed over the levels, divided by "
        "the same sum of the baseline at its own threshold; below 1 is better. Averaged over the "
        "perturbations: mean relative error (mCE of Hendrycks and Dietterich 2019).</dd>"
        f"{failed}</dl></section>"
    )


def _settings(robustness: Robustness) -> str:
    settings = [
        ("Model", _named(robustness.model)),
        ("Baseline", "none" if robustness.baseline is None else _named(robustness.baseline)),
        ("Faces", robustness.data),
        ("Found by", robustness.detector or "no detector: where the makers of the set have them"),
        ("People, probes", f"{robustness.people:,}, {robustness.probes:,}"),
        ("Pairs of strangers", f"{robustness.impostor_pairs:,}"),
        ("Threshold", f"cosine {robustness.model.threshold:.4f}"),
        ("Seed", str(robustness.seed)),
        ("Started", f"{robustness.started}, took {robustness.seconds:.0f} s"),
        ("Versions", ", ".join(f"{name} {text}" for name, text in robustness.versions.items())),
    ]
    return repeat_section(robustness.command, settings)


def _named(model: Measured) -> str:
    return f"{model.name} ({model.network}, weights {model.sha256[:12]})"
