"""`audit.html`: what was claimed, what was measured, and a face that was attacked."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from veilface_common import page as pages
from veilface_simulations.auditing.audit import Audit
from veilface_simulations.auditing.canaries import Run
from veilface_simulations.auditing.faults import FAULTS
from veilface_simulations.auditing.inversion import Pictures, likeness
from veilface_simulations.auditing.record import Record

_BINS = 41
_WIDTH, _HEIGHT, _FLOOR = 540, 200, 170
_STYLE = """
.checks :is(th, td) { text-align: left; white-space: normal; }
.faces { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem; }
.faces img { display: block; width: 100%; border-radius: 6px; image-rendering: pixelated; }
.faces figure { margin: 0; padding: 0; border: 0; }
.bars { fill: var(--tone); fill-opacity: 0.25; stroke: var(--tone); stroke-width: 1.5; }
.axis { stroke: var(--muted); }
svg text { fill: var(--muted); font-size: 12px; }
"""


def render(audit: Audit, pictures: Pictures, command: str) -> str:
    """Return the page; `pictures` are of a drawn face, so nobody's."""
    record = audit.record
    unit = "person" if record.claimed.unit == "identity" else "photograph"
    kicker = f"Veilface audit \N{MIDDLE DOT} per {unit} \N{MIDDLE DOT} seed {record.audited.seed}"
    sections = [
        _planted(record),
        _tiles(record),
        _checks(record),
        _canaries(audit.run),
        _membership(record),
        _faces(pictures),
        f'<section class="long"><h2>To repeat this</h2><pre>{escape(command)}</pre></section>',
    ]
    return pages.page(
        title="Veilface: audit",
        kicker=kicker,
        headline=_headline(record),
        lead=_lead(record),
        body="\n".join(filter(None, sections)),
        style=_STYLE,
    )


def _headline(record: Record) -> str:
    claim = f"epsilon {record.claimed.epsilon:.2f} at delta {record.claimed.delta:g}"
    if record.passed:
        return f"Nothing that was measured contradicts {claim}"
    return f"The claim of {claim} does not hold"


def _lead(record: Record) -> str:
    measured = record.measured
    return (
        f"An attacker who sees every update guesses {measured.correct:,} of {measured.guesses:,} "
        f"coins right. That proves an epsilon of {measured.epsilon:.2f} at least, with "
        f"{measured.confidence:.0%} confidence. An audit proves a guarantee wrong, never right: "
        f"{measured.canaries:,} canaries can show {measured.resolving_power:.2f} at most, whatever "
        "was done."
    )


def _planted(record: Record) -> str:
    if record.broken is None:
        return ""
    return (
        '<section class="notice"><h2>A fault was planted on purpose</h2>'
        f"<p>{escape(record.broken)}: {escape(FAULTS[record.broken].says)}. An audit that "
        "could not fail would say nothing.</p></section>"
    )


def _tiles(record: Record) -> str:
    failed = sum(not check.passed for check in record.checks)
    tiles = [
        ("federated", f"{record.claimed.epsilon:.2f}", "epsilon claimed: at most"),
        ("local", f"{record.measured.epsilon:.2f}", "epsilon measured: at least"),
        ("", f"{record.measured.resolving_power:.2f}", "the most that could be measured"),
        ("central", f"{len(record.checks) - failed} of {len(record.checks)}", "exact tests passed"),
    ]
    shown = "".join(
        f'<div class="tile {kind}"><b>{figure}</b><span>{label}</span></div>'
        for kind, figure, label in tiles
    )
    return f'<div class="tiles">{shown}</div>'


def _checks(record: Record) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(check.name)}</th>'
        f"<td>{'passed' if check.passed else '<b>failed</b>'}</td>"
        f"<td>{escape(check.detail)}</td></tr>"
        for check in record.checks
    )
    return (
        '<section class="long"><h2>Tests of the mechanism</h2>'
        f'<div class="scroll"><table class="checks"><tbody>{rows}</tbody></table></div></section>'
    )


def _canaries(run: Run) -> str:
    return (
        '<section><h2>Canaries</h2><figure style="margin:0;padding:0;border:0">'
        f"{_histogram(run.scores[run.included], run.scores[~run.included])}"
        "<figcaption>How sure the attacker is that each canary was trained on. Right of the line "
        "the guess is yes. The further the two heaps lie apart, the less is hidden.</figcaption>"
        "</figure></section>"
    )


def _histogram(members: NDArray[np.float64], others: NDArray[np.float64]) -> str:
    """Return two heaps over one axis, 0 in the middle."""
    both = np.concatenate([members, others])
    far = max(float(np.quantile(np.abs(both), 0.995)), 1e-9)
    edges = np.linspace(-far, far, _BINS + 1)
    heaps = [np.histogram(scores.clip(-far, far), edges)[0] for scores in (others, members)]
    highest = max(1, *(int(heap.max()) for heap in heaps))
    middle = _WIDTH / 2
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Scores of canaries">'
        f"{_heap(heaps[0], highest, 'local')}{_heap(heaps[1], highest, 'federated')}"
        f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_FLOOR}" y2="{_FLOOR}"/>'
        f'<line class="axis" x1="{middle}" x2="{middle}" y1="0" y2="{_FLOOR}"/>'
        f'<text x="0" y="{_HEIGHT - 8}">orange: left out</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 8}" text-anchor="end">blue: trained on</text></svg>'
    )


def _heap(counts: NDArray[np.int64], highest: int, kind: str) -> str:
    wide = _WIDTH / len(counts)
    steps = "".join(
        f"V{_FLOOR - (_FLOOR - 10) * count / highest:.1f}H{(place + 1) * wide:.1f}"
        for place, count in enumerate(counts)
    )
    return f'<path class="bars {kind}" d="M0 {_FLOOR}{steps}V{_FLOOR}"/>'


def _membership(record: Record) -> str:
    found = record.membership
    return (
        "<section><h2>Membership, from the models alone</h2><p>Told by how far the loss of a "
        f"canary fell: area under the curve {found.auc:.3f}, where 0.5 is a guess. Of those that "
        f"were trained on, {found.tpr_at_fpr_1e_2:.1%} are found when 1% of the others are taken "
        f"for one (the claim allows {found.allowed_at_fpr_1e_2:.1%}), and "
        f"{found.tpr_at_fpr_1e_1:.1%} when 10% are (allowed: {found.allowed_at_fpr_1e_1:.1%})."
        "</p></section>"
    )


def _faces(pictures: Pictures) -> str:
    shown = [
        (pictures.face, "the photograph: a drawn face"),
        (pictures.bare, f"read out of its gradient: {_alike(pictures.bare, pictures.face)}"),
        (pictures.private, f"read out of the update: {_alike(pictures.private, pictures.face)}"),
    ]
    figures = "".join(
        f"<figure>{_image(picture, caption)}<figcaption>{escape(caption)}</figcaption></figure>"
        for picture, caption in shown
    )
    return (
        "<section><h2>A face read back out of an update</h2><p>One photograph, one step, and an "
        "attacker who knows weights and head: the hardest case to hide.</p>"
        f'<div class="faces">{figures}</div></section>'
    )


def _alike(image: Tensor, face: Tensor) -> str:
    return f"correlation {likeness(image, face):.2f}"


def _image(picture: Tensor, words: str) -> str:
    """[3, S, S] in [0, 1] -> an element that holds it."""
    pixels = (picture.permute(1, 2, 0) * 255).round().byte().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{data}">'
