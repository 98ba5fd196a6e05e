"""A report on a privacy budget as a page, for readers who need not know what epsilon is.

Everything here that came out of a ledger passes `html.escape`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from veilface_client import budget_tables as tables
from veilface_client.budget_plot import curve_svg
from veilface_client.budget_tables import event, figure, table, time
from veilface_common.budget.events import Unit
from veilface_common.budget.meaning import Translation
from veilface_common.budget.report import BudgetReport
from veilface_common.budget.statements import Statement, at_most, one_in
from veilface_common.page import package_text, page

_FOR_EACH: dict[Unit, str] = {"identity": "for each person", "image": "for each photograph"}


def render(report: BudgetReport) -> str:
    """Return the report as HTML."""
    origins = {plan.random for run in report.runs for plan in run.plans}
    simulated = "seeded" in origins | {item.released.random for item in report.releases}
    sections = [
        _warnings(report.warnings, alarm=simulated),
        _tiles(report),
        _curve(report),
        _meaning(report),
        tables.runs(report.runs),
        tables.settings(report.runs),
        tables.releases(report.releases),
        tables.refused(report.refused),
        tables.unsettled(report.unsettled),
        tables.policies(report.policies),
        tables.notes(report.notes),
        _statements("The deployment", report.statements["record"]),
        _statements("What this stands on, and known gaps", report.statements["assumptions"]),
        _statements("What epsilon does not cover", report.statements["not_covered"]),
        _statements("Who can see what", report.statements["who_sees_what"]),
        _verification(report),
    ]
    return page(
        title=f"Privacy budget of {report.organisation}",
        kicker=f"Privacy budget \N{MIDDLE DOT} {report.organisation} "
        f"\N{MIDDLE DOT} {time(report.written)} UTC",
        headline=("For simulations alone: " if simulated else "")
        + f"{'e' if simulated else 'E'}psilon {figure(report.spent.charged)} of "
        f"{report.policy.epsilon:g} is spent {_FOR_EACH[report.unit]}",
        lead=report.plain_words,
        body="\n".join(filter(None, sections)),
        style=package_text("veilface_client", "budget_page.css"),
    )


def _warnings(warnings: Sequence[str], *, alarm: bool) -> str:
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    mark = " alarm" if alarm else ""
    return (
        f'<section class="notice{mark}"><h2>Warnings</h2><ul>{items}</ul></section>'
        if items
        else ""
    )


def _tiles(report: BudgetReport) -> str:
    spent, policy, remaining = report.spent, report.policy, report.remaining
    width = 100 * min(1.0, spent.charged / policy.epsilon)
    tone = "federated" if spent.charged <= policy.epsilon else "local"
    bar = f'<div class="bar"><span style="width:{width:.1f}%"></span></div>'
    rounds = "none yet" if remaining.rounds is None else f"{remaining.rounds:,}"
    return (
        '<div class="tiles">'
        f'<div class="tile {tone}"><b>{figure(spent.charged)}</b>'
        f"<span>epsilon spent, of {policy.epsilon:g}</span>{bar}"
        f"<i>Rényi {figure(spent.rdp)}, loss distributions {figure(spent.pld)}</i></div>"
        f'<div class="tile"><b>{figure(remaining.epsilon)}</b><span>epsilon remains</span></div>'
        f'<div class="tile"><b>{rounds}</b><span>more rounds fit</span>'
        f"<i>{_plan_that_fits(report)}</i></div>"
        f'<div class="tile"><b>{policy.delta:g}</b><span>delta</span>'
        f"<i>The chance that is left out: {one_in(policy.delta)}</i></div></div>"
    )


def _plan_that_fits(report: BudgetReport) -> str:
    remaining = report.remaining
    if remaining.plan is None:
        return "Nothing was reserved so far: no round to go by."
    if remaining.reason is not None:
        return escape(f"Like the newest: {remaining.reason}.")
    fits = "1 step fits" if remaining.steps == 1 else f"{remaining.steps:,} steps fit"
    return f"Like the newest: {event(remaining.plan)}. In all {fits}."


def _curve(report: BudgetReport) -> str:
    if not report.curve:
        return ""
    return (
        '<figure class="curve"><h3>The budget over time</h3>'
        f"{curve_svg(report.curve, report.started)}"
        "<figcaption>Epsilon of everything charged until then, at today's delta of "
        f"{report.policy.delta:g}, and the limit of the policy then in force. What was spent does "
        "not come back.</figcaption></figure>"
    )


def _meaning(report: BudgetReport) -> str:
    limits = report.bounds
    rows = [
        ("A suspicion of 50% that it is in the data becomes at most", at_most(limits.belief)),
        ("Guesses that are right, where tossing a coin gets 50%", at_most(limits.right)),
        ("Found, by whoever wrongly names 1 in 100 others", at_most(limits.found_at_1_in_100)),
        ("Found, by whoever wrongly names 1 in 1,000 others", at_most(limits.found_at_1_in_1000)),
    ]
    delta = report.policy.delta
    others = [(_whose(item, report.unit), _epsilon_at(item, delta)) for item in report.translations]
    subject = "a person" if report.unit == "identity" else "a photograph"
    return (
        '<section class="long"><h2>What nobody can do better</h2>'
        f"{table((f'About {subject}', 'At most'), rows, kind='words')}"
        "<h2>For a person, and for a photograph</h2>"
        f"{table(('Whose privacy', 'Epsilon'), others, kind='words')}"
        "<p>An epsilon says nothing until it is said of whom. With many photographs of one person, "
        "an epsilon for each photograph is hardly any protection for that person.</p></section>"
    )


def _whose(item: Translation, unit: Unit) -> str:
    match item.whose:
        case "person" if item.images is None:
            return "A person, however many photographs there are of them"
        case "person":
            return f"A person with {item.images} photographs"
        case "image" if unit == "image":
            return "A photograph"
        case "image":
            return "A photograph, if its person has no other one here"
        case "image of several":
            return "A photograph of a person whose other photographs stay"
    return "The unit, if it is at a second organisation that has spent as much: epsilons add"


def _epsilon_at(item: Translation, delta: float) -> str:
    twice = item.whose == "the same at two organisations"
    return f"{figure(item.epsilon)} at delta {2 * delta if twice else delta:g}"


def _statements(title: str, statements: Iterable[Statement]) -> str:
    items = "".join(
        f"<dt>{escape(item.title)}</dt><dd>{escape(item.text)}</dd>" for item in statements
    )
    return f'<section class="long"><h2>{escape(title)}</h2><dl>{items}</dl></section>'


def _verification(report: BudgetReport) -> str:
    head, versions = report.head, report.accountants
    used = ", ".join(f"{name} {number}" for name, number in versions.items())
    rotated = "" if report.key == report.first_key else f"; key in force {report.key}"
    return (
        '<section class="long"><h2>How to verify this</h2>'
        "<pre>veilface-audit ledger.db --key ledger.pub --heads rounds.jsonl</pre>"
        "<p>It reads the ledger without any of the program that wrote it: every signature, the "
        "order of the entries, every charge, and epsilon anew. Take the key from the "
        "organisation, not from beside the ledger, and <code>rounds.jsonl</code> from the "
        "coordinator: a file alone cannot show that it is the newest, nor that nothing was done "
        "outside it.</p>"
        '<table class="settings"><tbody>'
        f'<tr><th scope="row">Newest entry</th><td>{head.sequence:,} of '
        f"{report.entries:,}, {escape(head.hash)}</td></tr>"
        f'<tr><th scope="row">Signed by</th><td>key {escape(report.first_key)}{escape(rotated)}'
        "</td></tr>"
        f'<tr><th scope="row">To recompute</th><td>{_all_steps(report)}; delta '
        f"{report.policy.delta:g}; add or remove one unit</td></tr>"
        f'<tr><th scope="row">Computed with</th><td>{escape(used)}</td></tr>'
        "</tbody></table></section>"
    )


def _all_steps(report: BudgetReport) -> str:
    return (
        "; ".join(
            f"{item.steps:,} steps at q {item.sample_rate:g}, sigma {item.noise_multiplier:g}"
            for item in report.steps
        )
        or "no steps"
    )
