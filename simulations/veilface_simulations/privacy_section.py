"""The part of a run's report that speaks of privacy: what it cost and bought, does it hold."""

from __future__ import annotations

from html import escape

from veilface_common.page import facts_table
from veilface_simulations.auditing.record import Record
from veilface_simulations.findings import percent
from veilface_simulations.results import ArmPrivacy, Result

WHOM = {
    "identity": "a person, with all photographs at one organisation",
    "image": "a single photograph",
}


def privacy_section(result: Result, audit: Record | None) -> str:
    """Return the section as HTML; empty where no arm trained privately.

    Args:
        result: of the run.
        audit: of the run's plan; None where there was none.
    """
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
    return (
        f"<section><h2>Privacy</h2><p>{escape(_price(result, spent))}</p>{facts_table(rows)}"
        "<p>The figures are those of the organisation that spent most. Each keeps a ledger in "
        "<code>organisations/NAME/ledger.db</code>: <code>veilface report</code> says what it "
        "means, <code>veilface-audit</code> checks it without this program.</p></section>"
        f"<section><h2>Does it hold?</h2>{_audit(audit)}</section>"
    )


def _not_audited() -> str:
    return (
        "<p>This run was not audited. <code>veilface-sim audit --run DIR</code>, with the folder "
        "of this run, tries to prove the claimed epsilon wrong and writes here what came of it.</p>"
    )


def _audit(found: Record | None) -> str:
    if found is None or found.audited.run_epsilon is None:  # of no run, so not of this one
        return _not_audited()
    return f"<p>{_verdict(found)}</p>{facts_table(_measured(found))}<p>{escape(_shows(found))}</p>"


def _verdict(found: Record) -> str:
    if not found.passed:
        return "<b>FAIL</b>: the claim does not hold, whatever the ledgers say."
    return "<b>PASS</b>: nothing that was measured contradicts the claim."


def _measured(found: Record) -> list[tuple[str, str]]:
    audited, claimed, measured = found.audited, found.claimed, found.measured
    members = found.membership
    whole = f"epsilon {audited.run_epsilon or 0:.3f} at most, for all that was released"
    power = f"{measured.resolving_power:.2f}"
    failed = [f"{check.name}: {check.detail}" for check in found.checks if not check.passed]
    right = f"{measured.correct:,} of {measured.guesses:,} guesses right"
    told = (
        f"{members.tpr_at_fpr_1e_2:.1%} found at 1% false alarms, "
        f"where the claim allows {members.allowed_at_fpr_1e_2:.1%}"
    )
    part = f"{audited.steps:,} of {audited.planned_steps:,} steps of training"
    if audited.steps == audited.planned_steps:
        part = f"all steps of training: {audited.steps:,}"
    tests = f"{len(found.checks) - len(failed)} of {len(found.checks)} passed"
    return [
        ("Claimed of the run", whole),
        ("Audited", part),
        ("Claimed of these", f"epsilon {claimed.epsilon:.3f} at most, at delta {claimed.delta:g}"),
        (
            "Measured of these",
            f"epsilon {measured.epsilon:.3f} at least, {measured.confidence:.0%} sure: {right}",
        ),
        (
            "Resolving power",
            f"{measured.canaries:,} canaries can never show more than {power}, whatever was done",
        ),
        (
            "Size of a canary",
            f"{found.contribution:.2g} of the clipping norm, median; small ones hide more easily",
        ),
        (
            "Membership inference",
            f"AUC {members.auc:.3f} (a guess: 0.5); {told}",
        ),
        ("Tests of the mechanism", "; ".join([tests, *failed])),
    ]


def _shows(found: Record) -> str:
    """Return what the figures show, and what they do not."""
    shown = (
        "The plan was repeated with people made up for it, half of them trained on, before an "
        "attacker who saw every noised sum and knew all but who was there: that can prove a claim "
        "wrong, and never right, and says nothing of what was not audited"
    )
    if found.could_refute:
        return f"{shown}."
    return (
        f"{shown}; so large a claim is beyond so few canaries, and that the noise is there at all "
        "is shown by the tests of the mechanism alone."
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
