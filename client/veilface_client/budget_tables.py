"""The tables of a report on a privacy budget: what a ledger holds, run by run and entry by entry.

Every cell passes `html.escape`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from veilface_common.budget.accountant import Epsilon
from veilface_common.budget.events import Event
from veilface_common.budget.history import Note, PolicyChange, Refused, Reserved
from veilface_common.budget.report import Plan, Release, Run

_NEWEST = 50  # rows of a table; all of them are in the JSON report
_UNKNOWN = "not recorded"


def runs(found: Sequence[Run]) -> str:
    """Return what each run cost, and what had been spent by its end."""
    if not found:
        return ""
    heads = ("Run", "From and to", "Rounds", "Steps", "Sent", "Failed", "Unsettled")
    rows = [_run(run) for run in found]
    return (
        '<section class="long"><h2>Every run</h2>'
        f"{table((*heads, 'Epsilon alone', 'Epsilon so far'), rows, text_columns=2)}"
        "<p>Alone: what the run's own steps, and its releases of figures, cost, had there been no "
        "others. So far: everything charged up to the run's end. Epsilons of runs neither average "
        "nor simply add up. A reservation counts whether its update was sent or not. Small: Rényi, "
        "and loss distributions; the larger counts. Times are UTC.</p></section>"
    )


def _run(run: Run) -> tuple[str, ...]:
    rounds = f"{run.reservations:,}" + ("" if run.rounds is None else f" of {run.rounds:,}")
    counts = (f"{count:,}" for count in (run.steps, run.sent, run.failed, run.unsettled))
    return (
        _short(run.name),
        f"{time(run.first)}\n{time(run.last)}",
        rounds,
        *counts,
        _both(run.epsilon),
        _both(run.cumulative),
    )


def releases(found: Sequence[Release]) -> str:
    """Return which figures left, and what of epsilon is theirs."""
    if not found:
        return (
            "<section><h2>Figures that left</h2><p>None: no figure measured on this "
            "organisation's people was released.</p></section>"
        )
    heads = ("Entry", "Time", "Run", "What", "sigma", "People held out", "Noise from")
    rows = [_release(item) for item in found[-_NEWEST:]]
    return (
        f'<section class="long"><h2>Figures that left: {len(found):,}</h2>'
        f"{table((*heads, 'Epsilon alone', 'Of all that is spent'), rows, text_columns=4)}"
        f"{_earlier(len(found))}<p>Noised, and charged before they left; small: Rényi, and loss "
        "distributions. Of all that is spent: by so much less epsilon would be spent without that "
        "release. sigma: deviation of the noise, in multiples of what one unit can move.</p>"
        "</section>"
    )


def _release(item: Release) -> tuple[str, ...]:
    released = item.released
    share = released.held_out_share
    return (
        str(released.sequence),
        time(released.time),
        _short(released.run),
        _known(released.what),
        f"{released.event.mechanism.noise_multiplier:g}",
        _UNKNOWN if share is None else f"{share:.0%}",
        "A SEED" if released.random == "seeded" else _known(released.random),
        _both(item.alone),
        figure(item.more),
    )


def settings(found: Sequence[Run]) -> str:
    """Return how each run sampled, clipped and noised."""
    if not any(run.plans for run in found):
        return ""
    heads = (
        *("Run", "Rounds", "Steps", "q", "sigma", "C", "Units declared"),
        *("Photographs of a unit", "Trained, head", "Noise from"),
    )
    rows = [_plan(run, plan) for run in found for plan in run.plans]
    return (
        '<section class="long"><h2>How each run was trained</h2>'
        f"{table(heads, rows, text_columns=1)}"
        "<p>q: probability with which a step takes a unit. C: length to which what a "
        "unit gives is clipped. sigma: standard deviation of the noise, in multiples of C. "
        "Photographs of a unit: at most so many in a step.</p></section>"
    )


def _plan(run: Run, plan: Plan) -> tuple[str, ...]:
    return (
        _short(run.name),
        f"{plan.reservations:,}",
        f"{plan.steps:,}",
        f"{plan.mechanism.sample_rate:g}",
        f"{plan.mechanism.noise_multiplier:g}",
        _known(plan.max_gradient_norm),
        _known(plan.units_declared),
        _known(plan.images_per_unit),
        f"{_known(plan.trained)}\n{_known(plan.head)}",
        "A SEED" if plan.random == "seeded" else _known(plan.random),
    )


def refused(requests: Sequence[Refused]) -> str:
    """Return what was asked for in vain."""
    if not requests:
        return (
            "<section><h2>Refused requests</h2><p>None: nothing was asked for that the policy did "
            "not allow.</p></section>"
        )
    rows = [
        (
            str(item.sequence),
            time(item.time),
            _short(item.run),
            _UNKNOWN if item.asked is None else event(item.asked),
            _known(item.reason),
        )
        for item in requests[-_NEWEST:]
    ]
    heads = ("Entry", "Time", "Run", "Asked for", "Refused because")
    return (
        f'<section class="long"><h2>Refused requests: {len(requests):,}</h2>'
        f"{table(heads, rows, text_columns=5)}{_earlier(len(requests))}"
        "<p>Nothing was released or charged for them.</p></section>"
    )


def unsettled(charges: Sequence[Reserved]) -> str:
    """Return the reservations of which nobody said what came of them."""
    if not charges:
        return (
            "<section><h2>Unsettled reservations</h2><p>None: of every reservation the ledger says "
            "what came of it.</p></section>"
        )
    rows = [
        (
            str(item.sequence),
            time(item.time),
            _short(item.run),
            _known(item.round),
            event(item.event),
        )
        for item in charges[-_NEWEST:]
    ]
    heads = ("Entry", "Time", "Run", "Round", "Reserved")
    return (
        f'<section class="long"><h2>Unsettled reservations: {len(charges):,}</h2>'
        f"{table(heads, rows, text_columns=5)}{_earlier(len(charges))}"
        "<p>A crash, a lost message, or a round that is under way. They are counted in full.</p>"
        "</section>"
    )


def policies(changes: Sequence[PolicyChange]) -> str:
    """Return every policy that the ledger was under."""
    heads = ("Entry", "Time", "", "Epsilon", "Delta", "Least sigma", "Largest q", "Steps a round")
    rows = [
        (
            str(change.sequence),
            time(change.time),
            "LOOSENED" if change.loosened else "first" if index == 0 else "not loosened",
            f"{change.policy.epsilon:g}",
            f"{change.policy.delta:g}",
            f"{change.policy.min_noise_multiplier:g}",
            f"{change.policy.max_sample_rate:g}",
            f"{change.policy.max_steps_per_round:,}",
        )
        for index, change in enumerate(changes)
    ]
    return (
        '<section class="long"><h2>The policy, and how it changed</h2>'
        f"{table(heads, rows, text_columns=3)}<p>The newest is in force. No entry of a ledger "
        "can be removed, so a policy that was loosened stays here.</p></section>"
    )


def notes(written: Sequence[Note]) -> str:
    """Return what was written down for a reader."""
    if not written:
        return ""
    rows = [(str(note.sequence), time(note.time), note.text) for note in written[-_NEWEST:]]
    return (
        '<section class="long"><h2>Notes in the ledger</h2>'
        f"{table(('Entry', 'Time', 'Note'), rows, text_columns=3)}{_earlier(len(written))}"
        "</section>"
    )


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "", text_columns: int = 0
) -> str:
    """Return a table; a line break in a cell sets what follows it small."""
    marks = [' class="text"' if index < text_columns else "" for index in range(len(heads))]
    head = "".join(
        f'<th scope="col"{mark}>{escape(text)}</th>'
        for mark, text in zip(marks, heads, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(_cell(text, mark) for text, mark in zip(row[1:], marks[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(text: str, mark: str) -> str:
    large, _, small = text.partition("\n")
    tail = f"<small>{escape(small)}</small>" if small else ""
    return f"<td{mark}>{escape(large)}{tail}</td>"


def _earlier(count: int) -> str:
    if count <= _NEWEST:
        return ""
    return f"<p>{count - _NEWEST:,} earlier ones are in the JSON report.</p>"


def event(asked: Event) -> str:
    """Return an event in few words."""
    mechanism = asked.mechanism
    return (
        f"{asked.steps:,} steps, q {mechanism.sample_rate:g}, sigma {mechanism.noise_multiplier:g}"
    )


def _both(epsilon: Epsilon) -> str:
    return f"{figure(epsilon.charged)}\n{figure(epsilon.rdp)}, {figure(epsilon.pld)}"


def figure(epsilon: float) -> str:
    """Return an epsilon to four digits."""
    if not math.isfinite(epsilon):
        return "without bound"
    return f"{epsilon:,.0f}" if epsilon >= 1000 else f"{epsilon:.4g}"


def _known(value: float | str | None) -> str:
    if value is None:
        return _UNKNOWN
    return value if isinstance(value, str) else f"{value:,g}"


def _short(name: str | None) -> str:
    if name is None:
        return _UNKNOWN
    return name if len(name) <= 9 else name[:8] + "…"


def time(text: str) -> str:
    """Return an entry's time to the minute."""
    return text[:16].replace("T", " ")
