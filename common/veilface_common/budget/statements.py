"""What a report on a budget says in plain words: its warnings, assumptions and gaps.

The fields are those of NIST SP 800-226 (2025) and of public registries of deployments: unit,
neighbours, trust, release, mechanism, accounting, implementation, and all that is not protected.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from veilface_common.budget.events import Unit
from veilface_common.budget.history import History
from veilface_common.budget.meaning import Bounds

SEEDED, SECURE = "seeded", "operating-system"
UNITS: Mapping[Unit, str] = {
    "identity": "One person, with all photographs that this organisation holds of them",
    "image": "One photograph; not a person, who may have many",
}
_WORDS: Mapping[Unit, tuple[str, str]] = {
    "identity": ("a certain person, with all of that person's photographs,", "people"),
    "image": ("a certain photograph", "photographs"),
}
NEIGHBOURS: Mapping[Unit, str] = {
    "identity": "Two data sets are neighbours if one of them has one person more, with all "
    "photographs of that person (add or remove one person).",
    "image": "Two data sets are neighbours if one of them has one photograph more "
    "(add or remove one photograph).",
}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """Something that holds, or does not, or is simply so."""

    title: str
    text: str


def in_plain_words(history: History, spent: float, limits: Bounds) -> str:
    """Return a paragraph on what this epsilon bounds, for readers who never heard of it."""
    policy = history.policies[-1].policy
    one, several = _WORDS[policy.unit]
    text = (
        f"Somebody who knows all other photographs, and sees everything that this organisation "
        f"ever sent under this ledger, wants to know whether {one} is in its data. Epsilon limits "
        "how well anybody can tell, by whatever method, now or later: at epsilon 0 no better than "
        "by tossing a coin, and better the larger it is. At epsilon "
        f"{spent:.4g}, what was as likely as not before becomes at most {at_most(limits.belief)} "
        f"likely, but for a chance of {one_in(policy.delta)} (delta). Of all guesses, where half "
        f"of the {several} asked about are in the data, at most {at_most(limits.right)} are right. "
        f"Whoever wrongly names 1 in 100 {several} outside the data finds at most "
        f"{at_most(limits.found_at_1_in_100)} of those in it. These are limits for the best "
        "possible attacker, not forecasts."
    )
    if _random_warnings(history):
        text += " They suppose noise that nobody can predict, which is not so here: see below."
    return text


def at_most(share: float) -> str:
    """Return a share in percent, rounded up: an upper bound stays one."""
    digits = 1 if share < 0.995 else 3
    percent = math.ceil(round(100 * share * 10**digits, 6)) / 10**digits
    return f"{percent:.{digits}f}%" if percent < 100 else "100%"


def one_in(share: float) -> str:
    """Return a small share as a chance that can be pictured."""
    return f"1 in {1 / share:,.0f}"


def all_statements(history: History) -> dict[str, Sequence[Statement]]:
    """Return all statements by the section that they belong to."""
    unit = history.policies[-1].policy.unit
    return {
        "record": record(history, unit),
        "assumptions": assumptions(history, unit),
        "not_covered": (*NOT_COVERED, _figures(history)),
        "who_sees_what": (*WHO_SEES_WHAT, *([_WHO_SEES_FIGURES] if history.released else [])),
    }


def warnings(history: History, spent: float) -> tuple[str, ...]:
    """Return what a reader must not miss, the worst first."""
    policy = history.policies[-1].policy
    loosened = sum(change.loosened for change in history.policies)
    open_charges = sum(not charge.settled for charge in history.reserved)
    declared = history.people_declared if policy.unit == "identity" else history.images_declared
    found = [
        *_random_warnings(history),
        spent > policy.epsilon
        and f"More was spent (epsilon {spent:.4g}) than the policy in force allows "
        f"({policy.epsilon:g}): the policy was made stricter since. Nothing more can be released.",
        policy.unit == "image"
        and "Epsilon speaks of one photograph here, not of a person. For a person with several "
        "photographs it is far larger: see 'For a person, and for a photograph'.",
        loosened
        and f"The policy was loosened {_times(loosened)}: more was allowed than was promised "
        "before. When, and what, is shown below.",
        declared is not None
        and policy.delta * declared >= 1
        and f"Delta ({policy.delta:g}) is not smaller than 1 in {declared:,}, which is how many "
        f"{_WORDS[policy.unit][1]} were declared: it would allow one to be exposed entirely.",
        open_charges
        and f"{_times(open_charges, 'reservation')} never settled: a crash, or a lost message. "
        "They count in full.",
    ]
    return tuple(text for text in found if isinstance(text, str))


def _random_warnings(history: History) -> list[str]:
    origins = Counter(charge.random for charge in history.charges)
    found = []
    if origins[SEEDED]:
        found.append(
            f"THE NOISE CAN BE REMOVED. That of {_of(origins[SEEDED], history)} "
            "came from a seed: whoever knows the seed can subtract it, and epsilon then bounds "
            "nothing. Fit for simulations alone, never for photographs of real people."
        )
    others = origins.total() - origins[SEEDED] - origins[SECURE]
    if others:
        found.append(
            f"Where the noise of {_of(others, history)} came from is not recorded. "
            "Take it for noise that can be predicted, and so for no protection."
        )
    return found


def _of(count: int, history: History) -> str:
    what = "reservations and releases" if history.released else "reservations"
    return f"{count:,} of {len(history.charges):,} {what}"


def _times(count: int, noun: str = "") -> str:
    if noun:
        return f"{count:,} {noun} was" if count == 1 else f"{count:,} {noun}s were"
    return "once" if count == 1 else f"{count:,} times"


def record(history: History, unit: Unit) -> tuple[Statement, ...]:
    """Return the deployment in the fields that registries ask for."""
    commitment = history.commitment
    people, images = _declared(history.people_declared), _declared(history.images_declared)
    return (
        Statement(
            title="Data",
            text=f"Photographs of faces. Declared by the organisation, not counted: {people} "
            f"people, {images} photographs.",
        ),
        Statement(
            title="Commitment",
            text=f"{commitment or 'not recorded'} (a keyed digest: with the organisation's secret "
            "it shows which data set this is, without it nothing)",
        ),
        Statement(title="Privacy unit", text=f"{UNITS[unit]}."),
        Statement(title="Neighbouring relation", text=NEIGHBOURS[unit]),
        Statement(
            title="Who is trusted",
            text="Nobody outside the organisation. It adds the noise itself, before anything "
            "leaves, so that the bound holds against the coordinator, who sees each update by "
            "itself, against all other organisations together, and against everybody who gets "
            "the model.",
        ),
        Statement(
            title="What is released",
            text="Updates of a face recognition network, one for each reservation"
            + (_AND_HISTOGRAMS if history.released else "")
            + ". Whatever is computed from them later costs nothing more.",
        ),
        Statement(
            title="Mechanism",
            text="Sampled Gaussian (DP-SGD). In each step every unit is taken with probability q "
            "by a coin of its own (Poisson sampling); what each gives (a gradient, or the scatter "
            "of its photographs' embeddings) is clipped to length C; "
            "Gaussian noise of standard deviation sigma times C is added to every coordinate of "
            "the sum. A step that happens to take nobody is a step too."
            + (_HISTOGRAM_MECHANISM if history.released else ""),
        ),
        Statement(
            title="Accounting",
            text="All charges of this ledger together, reservations, settled or not, and releases "
            "of figures, over all runs, models and federations, whatever each was chosen to "
            "follow. Two accountants, each an upper "
            "bound: Rényi differential privacy (Opacus) and privacy loss distributions "
            "(dp-accounting). The larger epsilon counts.",
        ),
    )


def _declared(count: int | None) -> str:
    return "an unknown number of" if count is None else f"{count:,}"


def assumptions(history: History, unit: Unit) -> tuple[Statement, ...]:
    """Return what the bound stands on, and where it is known to be weak."""
    return (
        Statement(
            title="Sampling",
            text="Nobody else knows which units a step took. Each is taken by its own coin, as "
            "the accounting supposes; not by shuffling and cutting into batches.",
        ),
        Statement(title="Random numbers", text=_random(history)),
        Statement(
            title="Floating point",
            text="The bound is that of noise in exact numbers. A computer rounds; the noise is "
            "made so that the known way of reading a value through its roundings fails (each "
            "number is a sum of four), which is a defence and not a proof.",
        ),
        Statement(
            title="Gradients",
            text="What a unit contributes depends on that unit, on public faces and on what was "
            "released before, not on other units. Tests of the program hold it to that.",
        ),
        Statement(title="One name for each person", text=_one_name(unit)),
        Statement(
            title="The same person at two organisations",
            text="Each organisation's report speaks of its own data. For somebody whose "
            "photographs are at two of them, the epsilons add up, and so do the deltas; neither "
            "organisation can see that from its ledger.",
        ),
        Statement(
            title="The organisation's own program",
            text="A ledger shows what was charged. That nothing left without being charged rests "
            "on the program that the organisation runs. Settings that were tried on these "
            "photographs outside this ledger are not in it.",
        ),
    )


def _random(history: History) -> str:
    origins = {charge.random for charge in history.charges}
    if origins <= {SECURE}:
        return (
            "The noise is a ChaCha20 keystream whose key is drawn from the operating system, anew "
            "in each process; who is taken in a step follows from a secret by a keyed hash. "
            "Whoever can read the memory of that process can remove the noise."
        )
    return (
        "Some or all of the noise came from a seed, or its origin is not recorded: for those "
        "charges the bound does not hold against anybody who knows or guesses the seed."
    )


def _one_name(unit: Unit) -> str:
    if unit == "image":
        return (
            "Each photograph counts by itself, whoever is in it; one that is there twice counts "
            "as two, and the epsilons add up."
        )
    return (
        "All photographs of a person are filed under one name. A person filed under two counts "
        "as two, and the epsilons add up; so it is for somebody in the background of another "
        "person's photographs."
    )


NOT_COVERED: Sequence[Statement] = (
    Statement(
        title="The gallery",
        text="People who are enrolled for recognition are stored in order to be recognised. "
        "Templates are personal data; encryption and deletion protect them, not epsilon.",
    ),
    Statement(
        title="Finding and aligning faces",
        text="Detectors and other models that prepare photographs come from elsewhere, and were "
        "trained on other people.",
    ),
    Statement(
        title="Timing and failures",
        text="How long a round takes, and that one fails, can tell how much data there is.",
    ),
    Statement(
        title="That the organisation takes part",
        text="Its name, and how many people and photographs it declares, are public.",
    ),
    Statement(
        title="What is true of people in general",
        text="The model learns what faces are like. That it then recognises somebody who was "
        "never in the data is its purpose, and no loss of privacy in this sense.",
    ),
    Statement(
        title="Deletion",
        text="Deleting a person's photographs gives no budget back: what was released stays.",
    ),
)

_AND_HISTOGRAMS = (
    ", and noised histograms of scores, one pair for each release of figures: how alike two "
    "photographs of one person, and of two people, are to a model"
)
_HISTOGRAM_MECHANISM = (
    " A release of figures is one step that takes everybody who is held out: each person gives one "
    "score of two photographs at most, and is compared with one other at most in each of several "
    "matchings; C is how far one unit can move the counts."
)
_WHO_SEES_FIGURES = Statement(
    title="Figures",
    text="The coordinator sees this organisation's histograms of scores, with their noise; whoever "
    "gets its record of them sees their sum over all organisations. Epsilon bounds that too.",
)


def _figures(history: History) -> Statement:
    """Return what is said of figures that were measured on the organisation's people."""
    charged = "But for the releases that are listed they " if history.released else "They "
    return Statement(
        title="Counts, losses and accuracies",
        text=charged + "are not charged because they do not leave. Whoever publishes figures "
        "measured on these people releases something that is not in this ledger.",
    )


WHO_SEES_WHAT: Sequence[Statement] = (
    Statement(
        title="The organisation",
        text="Everything: photographs, gradients, losses, and the update before its noise.",
    ),
    Statement(
        title="The coordinator",
        text="Each update with its noise, the head of this ledger, and whether a round failed. "
        "Epsilon bounds what it can learn from all of them together.",
    ),
    Statement(
        title="Other organisations",
        text="The model after each round, into which this organisation's updates went.",
    ),
    Statement(title="Whoever gets the model", text="The model."),
    Statement(
        title="Whoever gets this report",
        text="What is on it: settings, times, what was declared. No face, no name of "
        "a person, and nothing that was counted in the data.",
    ),
)
