"""The part of a run's report that speaks of privacy: what was spent, and what it bought."""

from __future__ import annotations

from html import escape

from veilface_simulations.findings import percent
from veilface_simulations.results import ArmPrivacy, Result

WHOM = {
    "identity": "a person, with all photographs at one organisation",
    "image": "a single photograph",
}


def privacy_section(result: Result) -> str:
    """Return the section as HTML; empty where no arm trained privately."""
    arm = result.federated
    if arm is None or arm.privacy is None:
        return ""
    spent = arm.privacy
    rows = [
        ("Protected", WHOM[spent.unit]),
        ("Epsilon", f"{spent.epsilon:.3f} at delta {spent.delta:g}"),
        ("Noise multiplier", f"{spent.noise_multiplier:g}"),
        ("Sampling rate", f"{spent.sample_rate:g} of the units in each step"),
        ("Steps", f"{spent.steps:,}"),
    ]
    table = "".join(
        f'<tr><th scope="row">{name}</th><td>{escape(text)}</td></tr>' for name, text in rows
    )
    return (
        f"<section><h2>Privacy</h2><p>{escape(_price(result, spent))}</p>"
        f'<table class="settings"><tbody>{table}</tbody></table>'
        "<p>The figures are those of the organisation that spent most. Each keeps a ledger in "
        "<code>organisations/NAME/ledger.db</code>: <code>veilface report</code> says what it "
        "means, <code>veilface-audit</code> checks it without this program.</p></section>"
    )


def _price(result: Result, spent: ArmPrivacy) -> str:
    """Return what privacy cost, as far as the run has figures to compare."""
    private = result.federated
    assert private is not None
    text = (
        f"The federation trained with differential privacy (epsilon {spent.epsilon:.2f}) "
        f"and reaches an equal error rate of {percent(private.eer)}."
    )
    if result.initial is not None:
        text += f" The model it started from has {percent(result.initial.eer)}."
    if result.plain is not None:
        text += f" The same federation without privacy reaches {percent(result.plain.eer)}."
    return text
