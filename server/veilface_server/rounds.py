"""The round loop: sample, send, check, aggregate, write down. It resumes at any round."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from veilface_common import models, tensors
from veilface_common.config import FederationConfig, RunConfig, to_flat
from veilface_common.errors import (
    BudgetExceeded,
    ConfigError,
    FederationError,
    RequestRefused,
    VeilfaceError,
)
from veilface_common.models.weights import read_weights
from veilface_common.protocol import TrainReply, TrainRequest
from veilface_common.updates import decode_update
from veilface_server import checkpoint
from veilface_server.aggregation import (
    ServerState,
    Strategy,
    strategy,
    verify_update,
    weighted_mean,
)
from veilface_server.evaluation import Evaluators, ask_for_figures
from veilface_server.ledgers import Shown, newest_shown, verify_grown

Answers = Mapping[str, TrainReply | VeilfaceError]


class Members(Evaluators, Protocol):
    """The organisations of a federation, as the round loop sees them."""

    def names(self) -> Sequence[str]:
        """Return the names of the organisations that answer, sorted; asked before each round."""
        ...

    def absent(self) -> Mapping[str, str]:
        """Return the nodes that could not say who they are, and why; known after `names`."""
        ...

    def train(self, names: Sequence[str], request: TrainRequest) -> Answers:
        """Send the request to the named organisations; every one gets a reply or a reason."""
        ...


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A round's replies after the checks: what may be summed, and who was left out and why."""

    updates: Mapping[str, tensors.Tensors]
    ledger_heads: Mapping[str, Mapping[str, int | str]]  # of those in `updates`
    left_out: Mapping[str, str]
    refused: int  # of those left out, how many refused since their budget does not allow it


def run_rounds(
    members: Members,
    config: RunConfig,
    folder: Path,
    clock: Callable[[], float] = time.monotonic,
) -> ServerState:
    """Train until the last round; every finished round is on disk in `folder` before the next.

    Then ask for figures of the model, where the settings say so (`evaluation`).

    Raises:
        FederationError: too few organisations answered; the last good model is kept.
        ConfigError, ArtifactError: `folder` holds another run, or a damaged one.
    """
    algorithm = strategy(config.federation)
    state = checkpoint.load_state(folder, config) or algorithm.init(_initial_model(config, folder))
    names = _verify_names(members, config.federation)
    while state.round < config.federation.rounds:
        state = _run_round(members, names, state, algorithm, config, folder, clock)
        names = _verify_names(members, config.federation)
    ask_for_figures(members, names, state, config, folder)
    return state


def sample_organisations(
    names: Sequence[str], config: FederationConfig, seed: int, round_number: int
) -> list[str]:
    """Return who is asked in a round: a share of all, derived from (seed, round) alone."""
    count = max(config.min_replies, round(config.fraction * len(names)))
    if count >= len(names):
        return sorted(names)
    generator = np.random.default_rng((seed, round_number))
    return sorted(generator.choice(sorted(names), size=count, replace=False).tolist())


def check_answers(
    answers: Answers,
    model: tensors.Tensors,
    round_number: int,
    config: RunConfig,
    shown: Mapping[str, Shown],
) -> Checked:
    """Return the updates that may be summed; an organisation at fault is named and left out."""
    updates: dict[str, tensors.Tensors] = {}
    ledger_heads: dict[str, Mapping[str, int | str]] = {}
    left_out: dict[str, str] = {}
    refused = 0
    for name, answer in answers.items():
        try:
            if isinstance(answer, VeilfaceError):
                raise answer
            update = _checked_update(name, answer, model, round_number, config)
            if answer.ledger_head is not None:
                verify_grown(shown.get(name), answer.ledger_head, update_of=round_number)
                ledger_heads[name] = asdict(answer.ledger_head)
            updates[name] = update
        except VeilfaceError as error:
            left_out[name] = str(error)
            refused += isinstance(error, BudgetExceeded)
    return Checked(updates=updates, ledger_heads=ledger_heads, left_out=left_out, refused=refused)


def _checked_update(
    name: str, reply: TrainReply, model: tensors.Tensors, round_number: int, config: RunConfig
) -> tensors.Tensors:
    if (reply.organisation, reply.round) != (name, round_number):
        raise FederationError(
            f"expected a reply of {name!r} for round {round_number}, "
            f"got one of {reply.organisation!r} for round {reply.round}"
        )
    if reply.refusal:
        raise (RequestRefused if reply.by_rules else BudgetExceeded)(reply.refusal)
    if config.privacy.unit != "none" and reply.ledger_head is None:
        raise FederationError("expected an update that was charged to a ledger, got one without")
    update = decode_update(reply.update, model, config.federation.update_precision)
    verify_update(update, model, config.federation.max_update_norm)
    return update


def _run_round(
    members: Members,
    names: Sequence[str],
    state: ServerState,
    algorithm: Strategy,
    config: RunConfig,
    folder: Path,
    clock: Callable[[], float],
) -> ServerState:
    started = clock()
    number = state.round + 1
    chosen = _participants(folder, names, config, number)
    gone = sorted(set(chosen) - set(names))
    request = TrainRequest(
        round=number,
        config=config,
        model=tensors.to_bytes(state.model),
        participants=tuple(chosen),
    )
    answers = members.train([name for name in chosen if name in names], request)
    if answers and all(_is_by_rules(answer) for answer in answers.values()):
        checkpoint.forget_asked(folder)
    shown = newest_shown(checkpoint.load_all_records(folder))
    checked = check_answers(answers, state.model, number, config, shown)
    if checked.left_out and checked.refused == len(answers):
        state = replace(state, round=number)  # all budgets are spent: the model stays as it is
    else:
        _verify_enough(checked, config.federation, number)
        mean = weighted_mean(checked.updates, config.federation.declared_weights())
        state = algorithm.apply(state, mean)
    record = checkpoint.RoundRecord(
        round=number,
        accepted=tuple(sorted(checked.updates)),
        left_out={**dict.fromkeys(gone, "is away"), **members.absent(), **checked.left_out},
        update_norms={name: tensors.norm(update) for name, update in checked.updates.items()},
        ledger_heads=checked.ledger_heads,
        plan=to_flat(config.privacy),
        settings=config.digest,
        model_sha256=hashlib.sha256(tensors.to_bytes(state.model)).hexdigest(),
        seconds=round(clock() - started, 3),
    ).signed(checkpoint.server_key(folder))
    checkpoint.save_round(folder, state, record, config, keep=_is_kept(number, config.federation))
    return state


def _participants(folder: Path, names: Sequence[str], config: RunConfig, number: int) -> list[str]:
    """Return whom the round's request names: of a round that a crash cut off, the same again."""
    before = checkpoint.load_asked(folder, number)
    if before is not None:
        return before
    chosen = sample_organisations(names, config.federation, config.seed, number)
    checkpoint.save_asked(folder, number, chosen)
    return chosen


def _is_by_rules(answer: TrainReply | VeilfaceError) -> bool:
    return isinstance(answer, TrainReply) and answer.by_rules


def _initial_model(config: RunConfig, folder: Path) -> tensors.Tensors:
    """Return what the first round starts from; arrays that a given model lacks are drawn."""
    drawn = read_weights(models.build(config.model, config.seed))
    return drawn | checkpoint.load_initial(folder, config.initial) if config.initial else drawn


def _is_kept(number: int, config: FederationConfig) -> bool:
    return config.keep_every > 0 and (number % config.keep_every == 0 or number == config.rounds)


def _verify_names(members: Members, config: FederationConfig) -> list[str]:
    names, away = members.names(), members.absent()
    if len(names) < config.min_replies:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in away.items())
        raise FederationError(
            f"expected at least {config.min_replies} organisations, got {len(names)} ({reasons})"
        )
    unknown = sorted(set(config.declared_weights()) - set(names) - set(away))
    if unknown:
        raise ConfigError(
            f"a weight is declared for {unknown[0]!r}, which is no member",
            hint="members: " + ", ".join(names),
        )
    return sorted(names)


def _verify_enough(checked: Checked, config: FederationConfig, number: int) -> None:
    if len(checked.updates) >= config.min_replies:
        return
    reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(checked.left_out.items()))
    raise FederationError(
        f"round {number}: expected at least {config.min_replies} usable replies, "
        f"got {len(checked.updates)} ({reasons})",
        hint="the model of the round before is kept; mend the cause and resume",
    )
