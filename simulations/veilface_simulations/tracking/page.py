"""`tracks.html`: which way of putting a track together tells people apart best."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape

from PIL import Image

from veilface_client.images import Pixels
from veilface_common import page as pages
from veilface_simulations.findings import percent
from veilface_simulations.report import figures_section, repeat_section, warnings_section
from veilface_simulations.tracking.figures import Figure
from veilface_simulations.tracking.plots import NAMES, error_rates
from veilface_simulations.tracking.record import Measurement, Model

_STYLE = """
.sheet img { display: block; width: 100%; max-width: 38rem; }
"""
_HEADS = (
    *("Way", "EER", "TAR at FAR 1e-2", "EER less that of the mean", "TAR less that of the mean"),
    "Weight of bad frames",
)


def render(measured: Measurement, looks: Pixels | None) -> str:
    """Return the page as HTML; every text from outside passes `html.escape`.

    `looks`: a contact sheet of people who do not exist; real faces never go into a page.
    """
    sections = [
        warnings_section(measured.warnings),
        figures_section([error_rates(measured)]),
        *(_table(measured, condition) for condition in measured.conditions()),
        _learnt(measured),
        _looks(looks),
        _words(),
        _settings(measured),
    ]
    return pages.page(
        title=f"Veilface: tracks on {measured.data}",
        kicker=f"Veilface tracks \N{MIDDLE DOT} {measured.data}",
        headline=headline(measured),
        lead=(
            f"{measured.videos:,} videos of {measured.people:,} people, {measured.frames:,} "
            "frames; all pairs of videos are compared."
        ),
        body="\n".join(filter(None, sections)),
        style=_STYLE,
    )


def headline(measured: Measurement) -> str:
    """Return in one sentence which way errs least, over all conditions."""
    conditions = measured.conditions()

    def mean(way: str) -> float:
        rates = [measured.row(condition, way).rates["eer"].value for condition in conditions]
        return sum(rates) / len(rates)

    best = min(measured.ways(), key=mean)
    return (
        f"Over all conditions, {best!r} errs least: {percent(mean(best))}, where the plain mean of "
        f"the frames has {percent(mean('mean'))}."
    )


def _table(measured: Measurement, condition: str) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in _HEADS)
    rows = []
    for way in measured.ways():
        row = measured.row(condition, way)
        cells = [
            *(_percent(row.rates, name) for name in ("eer", "tar@1e-2")),
            *(_points(row.less_mean, name) for name in ("eer", "tar@1e-2")),
            "\N{EN DASH}" if row.spoilt_weight is None else percent(row.spoilt_weight),
        ]
        inner = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{escape(way)}</th>{inner}</tr>')
    return (
        f'<section class="long"><h2>{NAMES[condition]}</h2><div class="scroll"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _percent(rates: Mapping[str, Figure], name: str) -> str:
    low, high = rates[name].interval
    return f"{percent(rates[name].value)}<small>{100 * low:.1f} to {100 * high:.1f}</small>"


def _points(rates: Mapping[str, Figure], name: str) -> str:
    low, high = rates[name].interval
    return f"{100 * rates[name].value:+.1f}<small>{100 * low:+.1f} to {100 * high:+.1f}</small>"


def _learnt(measured: Measurement) -> str:
    if not measured.learnt:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(one.way)}</th><td>{percent(one.eer)}</td></tr>'
        for one in measured.learnt
    )
    return (
        '<section class="long"><h2>Learnt by heart</h2><p>The free network was trained on '
        f"{measured.free_people:,} people. On pseudo-tracks of these very people the equal error "
        "rates are below; what is low here and high above was learnt by heart.</p>"
        '<table><thead><tr><th scope="col">Way</th><th scope="col">EER</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></section>"
    )


def _looks(sheet: Pixels | None) -> str:
    if sheet is None:
        return ""
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "JPEG", quality=88, subsampling="4:4:4")
    data = base64.b64encode(file.getvalue()).decode()
    return (
        '<section class="long sheet"><h2>What frames weigh</h2><p>A track in each row. The bar is '
        "the weight by the recurrent network, red where the frame was spoilt; the line is where it "
        "would end if all frames counted alike. These people are drawn and do not exist.</p>"
        f'<img alt="" src="data:image/jpeg;base64,{data}"></section>'
    )


def _words() -> str:
    return (
        '<section class="long"><h2>What the figures mean</h2><dl>'
        "<dt>Mean</dt><dd>The direction of the sum of the frames' embeddings.</dd>"
        "<dt>Best</dt><dd>The embedding of the frame that looks best: sharp, lit, not covered.</dd>"
        "<dt>Recurrent</dt><dd>A weighted sum, the weights by a recurrent network that sees the "
        "frames' qualities and how far they agree.</dd>"
        "<dt>Free</dt><dd>An LSTM that puts out a template of its own; for comparison.</dd>"
        "<dt>Less that of the mean</dt><dd>In points, with the 95% interval of the difference over "
        "people: an interval without 0 is a difference that chance does not make.</dd>"
        "</dl></section>"
    )


def _settings(measured: Measurement) -> str:
    kinds = [f"{name}: {', '.join(own)}" for name, own in measured.kinds.items() if own]
    settings = [
        ("Model", _named(measured.model)),
        ("Private", "none" if measured.private is None else _named(measured.private)),
        ("Free network trained on", measured.free_data or "not trained"),
        ("Half of the people", measured.half),
        ("Bad frames", f"{measured.spoilt_share:.0%}, levels {min(measured.levels)} and more"),
        ("What goes wrong", "; ".join(kinds)),
        ("Resamples", str(measured.resamples)),
        ("Seed", str(measured.seed)),
        ("Started", f"{measured.started}, took {measured.seconds:.0f} s"),
        ("Versions", ", ".join(f"{name} {text}" for name, text in measured.versions.items())),
    ]
    return repeat_section(measured.command, settings)


def _named(model: Model) -> str:
    return f"{model.name} ({model.network}, tracks: {model.track}, weights {model.sha256[:12]})"
