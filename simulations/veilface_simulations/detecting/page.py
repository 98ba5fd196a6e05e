"""`evaluate.html`: which detector finds faces, in single pictures and where frames are spoilt."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from veilface_common import page as pages
from veilface_simulations.detecting.plots import all_plots, best, label_of
from veilface_simulations.detecting.record import Evaluation, Measured, OfSize, OnClips
from veilface_simulations.findings import percent
from veilface_simulations.report import figures_section, rate_cell, repeat_section

_STYLE = """
.sheet img { display: block; width: 100%; margin-bottom: 1rem; }
"""


def render(evaluation: Evaluation, sheets: Sequence[bytes], *, beside: str = "") -> str:
    """Return the page as HTML; every text from outside passes `html.escape`.

    Args:
        evaluation: what was found.
        sheets: contact sheets as JPEG that may be passed on with the page: of drawn people.
        beside: where the others are, which show real people and are no part of the page.
    """
    sections = [
        _tiles(evaluation),
        figures_section(all_plots(evaluation)),
        _clips(evaluation),
        _stills(evaluation),
        _sheets(sheets, beside),
        _words(evaluation),
        _settings(evaluation),
    ]
    return pages.page(
        title=f"Veilface: detectors on {evaluation.data}",
        kicker=f"Veilface detectors \N{MIDDLE DOT} {evaluation.data}",
        headline=_headline(evaluation),
        lead=_lead(evaluation),
        body="\n".join(filter(None, sections)),
        style=_STYLE,
    )


def _headline(evaluation: Evaluation) -> str:
    found = best(evaluation.detectors)
    precision = found.stills.sizes[0].average_precision
    text = f"On single pictures {label_of(found)} is best: average precision {precision:.3f}."
    worst = max(one.corrupted for one in found.clips)
    if worst:
        first = max(evaluation.detectors, key=lambda one: one.clips[-1].recall)
        text += (
            f" With {worst} of {evaluation.frames} frames corrupted {label_of(first)} finds most: "
            f"{percent(first.clips[-1].recall)} of the faces."
        )
    return text


def _lead(evaluation: Evaluation) -> str:
    stills = evaluation.detectors[0].stills
    return (
        f"{stills.sizes[0].faces:,} faces from {evaluation.smallest:g} px in {stills.pictures:,} "
        f"single pictures; {evaluation.clips:,} clips of {evaluation.frames} frames. All detectors "
        f"at thresholds of their own, at which they give {evaluation.allowed:g} false alarms a "
        "picture at most while nothing is corrupted."
    )


def _tiles(evaluation: Evaluation) -> str:
    shown = []
    for detector in evaluation.detectors[:4]:
        last = detector.clips[-1]
        what = f"{last.corrupted} of {evaluation.frames} frames corrupted"
        shown.append(
            f'<div class="tile"><b>{percent(last.recall)}</b>'
            f"<span>{escape(label_of(detector))}: faces found, {what}</span></div>"
        )
    return f'<div class="tiles">{"".join(shown)}</div>'


def _clips(evaluation: Evaluation) -> str:
    heads = (
        *("Detector", "Corrupted", "Recall", "in corrupted frames", "in the others"),
        *("False alarms a frame", "Average precision", "ms a frame"),
    )
    rows = "".join(
        _clip_row(detector, one) for detector in evaluation.detectors for one in detector.clips
    )
    note = f"{evaluation.detectors[0].clips[0].faces:,} faces in all frames."
    return _table("On clips", heads, rows, note)


def _clip_row(detector: Measured, one: OnClips) -> str:
    cells = [
        f"<td>{one.corrupted}</td>",
        rate_cell(one.recall, one.recall_interval),
        f"<td>{percent(one.recall_corrupted)}</td>",
        f"<td>{percent(one.recall_clean)}</td>",
        f"<td>{one.false_per_picture:.3f}</td>",
        f"<td>{one.average_precision:.3f}</td>",
        f"<td>{detector.milliseconds:.1f}</td>",
    ]
    return f'<tr><th scope="row">{escape(label_of(detector))}</th>{"".join(cells)}</tr>'


def _stills(evaluation: Evaluation) -> str:
    heads = (
        *("Detector", "Faces", "How many", "Average precision", "Recall", "Precision"),
        "ms a picture",
    )
    rows = "".join(
        _still_row(detector, one)
        for detector in evaluation.detectors
        for one in detector.stills.sizes
    )
    return _table("On single pictures, by size", heads, rows, "Size: the longer side of the box.")


def _still_row(detector: Measured, one: OfSize) -> str:
    sizes = f"from {one.low:g} px" if one.high is None else f"{one.low:g} to {one.high:g} px"
    cells = [
        f"<td>{sizes}</td><td>{one.faces:,}</td>",
        f"<td>{one.average_precision:.3f}</td>",
        f"<td>{percent(one.recall)}</td>",
        f"<td>{percent(one.precision)}</td>",
        f"<td>{detector.stills.milliseconds:.0f}</td>",
    ]
    return f'<tr><th scope="row">{escape(label_of(detector))}</th>{"".join(cells)}</tr>'


def _table(title: str, heads: Sequence[str], rows: str, note: str) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        f'<section class="long"><h2>{title}</h2><div class="scroll"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div><p>{note}</p></section>"
    )


def _sheets(sheets: Sequence[bytes], beside: str) -> str:
    if not sheets and not beside:
        return ""
    key = (
        "White: a face; green: found; orange: found where none is. Frames with a dark edge are "
        "corrupted."
    )
    shown = "".join(
        f'<img alt="Frames of a clip, a row for each detector" '
        f'src="data:image/jpeg;base64,{base64.b64encode(sheet).decode()}">'
        for sheet in sheets
    )
    if beside:
        shown += f"<p>They show real people, so they are not in this page: {escape(beside)}</p>"
    return f'<section class="long sheet"><h2>Contact sheets</h2><p>{key}</p>{shown}</section>'


def _words(evaluation: Evaluation) -> str:
    return (
        '<section class="long"><h2>What the figures mean</h2><dl>'
        "<dt>Found</dt><dd>The intersection of two boxes is half their union or more. Each face is "
        f"found once. Faces under {evaluation.smallest:g} px, and those of which less than half is "
        "seen, count neither for nor against.</dd>"
        "<dt>Recall</dt><dd>How many of the faces are found, at the threshold.</dd>"
        "<dt>Threshold</dt><dd>The lowest at which a detector gives "
        f"{evaluation.allowed:g} false alarms a picture at most: on the single pictures for those, "
        "on clean clips for all clips. It is not moved where frames are corrupted.</dd>"
        "<dt>Average precision</dt><dd>The area under precision against recall, over all "
        "thresholds.</dd>"
        "<dt>Corrupted</dt><dd>Blurred, darkened, salted or dropped, each as likely. The people "
        "are still there, and count.</dd></dl></section>"
    )


def _settings(evaluation: Evaluation) -> str:
    settings = [
        (label_of(one), f"{one.name}" + (f", sha256 {one.sha256[:12]}" if one.sha256 else ""))
        for one in evaluation.detectors
    ]
    settings += [
        ("Data", evaluation.data),
        ("Clips", f"{evaluation.clips} of {evaluation.frames} frames"),
        ("Frames", f"{evaluation.width} x {evaluation.height} px"),
        ("Seed", str(evaluation.seed)),
        ("Started", f"{evaluation.started}, took {evaluation.seconds:.0f} s"),
        ("Versions", ", ".join(f"{name} {text}" for name, text in evaluation.versions.items())),
    ]
    return repeat_section(evaluation.command, settings)
