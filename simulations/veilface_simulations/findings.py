"""What a result says in plain words: one headline, what qualifies it, and data to be wary of."""

from __future__ import annotations

from veilface_simulations.results import Arm, Result, local_mean

CLEAR_GAP = 0.005  # of EER: below it, a share of the gap is a share of next to nothing
_DOMINANT = 0.2  # share of the genuine pairs of one person


def percent(rate: float | None, *, digits: int = 1) -> str:
    """Return a rate in [0, 1] as people read it; a dash for `None`."""
    return "\N{EN DASH}" if rate is None else f"{100 * rate:.{digits}f}%"


def is_drawn(result: Result) -> bool:
    """Whether the people on whom the run was measured were invented, so that they may be shown."""
    return (result.evaluate_on or result.data).startswith("drawn:")


def headline(result: Result) -> str:
    """Return in one sentence what was found."""
    together, pooled = result.federated, result.central
    alone = local_mean([arm.eer for arm in result.local])
    if together is None:
        return _without_federation(pooled, alone)
    if alone is None and pooled is None:
        return (
            f"{_subject(together)} reaches an equal error rate of {percent(together.eer)} "
            "on people nobody trained on."
        )
    if alone is None or pooled is None:
        other = f"{percent(alone)} alone" if pooled is None else f"{percent(pooled.eer)} pooled"
        return (
            f"{_subject(together)} reaches an equal error rate of {percent(together.eer)}, "
            f"against {other}."
        )
    return _of_the_gap(_subject(together), together.eer, alone, pooled.eer)


def _without_federation(pooled: Arm | None, alone: float | None) -> str:
    parts = [] if alone is None else [f"{percent(alone)} for organisations alone"]
    parts += [] if pooled is None else [f"{percent(pooled.eer)} with all photographs in one place"]
    return f"Equal error rate on people nobody trained on: {', '.join(parts) or 'not measured'}."


def _subject(together: Arm) -> str:
    spent = together.privacy
    with_privacy = f" with privacy (epsilon {spent.epsilon:.1f})" if spent else ""
    return f"Training together{with_privacy}"


def _of_the_gap(subject: str, together: float, alone: float, pooled: float) -> str:
    rates = (
        f"equal error rate {percent(together)}, against {percent(alone)} alone "
        f"and {percent(pooled)} with all photographs in one place"
    )
    if alone - pooled < CLEAR_GAP:
        return f"There is hardly a gap to close between training alone and pooling: {rates}."
    closed = (alone - together) / (alone - pooled)
    if closed <= 0:
        return f"{subject} did not help: {rates}."
    if closed >= 1:
        return f"{subject} did as well as putting all photographs in one place: {rates}."
    return (
        f"{subject} closed {percent(closed, digits=0)} of the gap between training alone "
        f"and pooling: {rates}."
    )


def qualification(result: Result) -> str:
    """Return on whom this was measured, and whether chance could explain the difference."""
    held = result.held_out
    text = (
        f"Measured on {held.images:,} photographs of {held.people:,} people whom nobody trained on."
    )
    interval = result.federated and result.federated.figures.intervals.get("eer")
    alone = local_mean([arm.eer for arm in result.local])
    if interval and alone is not None and interval[0] <= alone <= interval[1]:
        text += (
            " The interval of the federated figure includes that of training alone: "
            "with so few people, chance could explain the difference."
        )
    return text


def all_warnings(result: Result) -> tuple[str, ...]:
    """Return the run's warnings, and those that follow from the figures."""
    found = list(result.warnings)
    arm = next(iter(result.arms), None)
    if arm is None:
        return tuple(found)
    share = arm.figures.largest_person_share
    if share > _DOMINANT and arm.figures.people > 2:
        found.append(
            f"One person makes up {percent(share, digits=0)} of the genuine pairs: "
            "the error rates are largely hers or his."
        )
    if any(value is None for value in arm.figures.tar_at_far.values()):
        found.append(
            f"{arm.figures.impostor_pairs:,} impostor pairs are too few for the lowest "
            "false accept rates; these figures are left out."
        )
    if any(arm.pairs and arm.pairs.missing_pairs for arm in result.arms):
        missing = max(arm.pairs.missing_pairs for arm in result.arms if arm.pairs)
        found.append(f"{missing:,} pairs of the LFW protocol lack a photograph and were left out.")
    return tuple(found)
