"""Figures of the final model, asked for once: noised histograms of all organisations, summed.

DIR/evaluation.jsonl    one signed record; the figures themselves are computed from it by whoever
                        wants them (`veilface_common.score_histograms.estimate`)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from veilface_common import tensors, typed_json
from veilface_common.budget.entries import canonical
from veilface_common.config import RunConfig
from veilface_common.crypto.signing import SigningKey, VerifyKey
from veilface_common.errors import (
    ArtifactError,
    BudgetExceeded,
    FederationError,
    RequestRefused,
    SignatureError,
    VeilfaceError,
)
from veilface_common.files import write_atomically
from veilface_common.protocol import EvaluateReply, EvaluateRequest, LedgerHead
from veilface_common.score_histograms import ScoreHistograms, deviation_of, summed
from veilface_server.aggregation import ServerState
from veilface_server.checkpoint import load_all_records, server_key
from veilface_server.ledgers import newest_shown, verify_grown

EVALUATION = "evaluation.jsonl"
Answers = Mapping[str, EvaluateReply | VeilfaceError]


class Evaluators(Protocol):
    """The organisations of a federation, as whoever asks for figures sees them."""

    def evaluate(self, names: Sequence[str], request: EvaluateRequest) -> Answers:
        """Send the request to the named organisations; every one gets a reply or a reason."""
        ...


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """What came of it, for the coordinator, auditors and reports."""

    round: int  # the last one
    accepted: tuple[str, ...]  # whose histograms are in the sum
    left_out: Mapping[str, str]  # organisation -> reason
    scores: ScoreHistograms | None  # None: nobody's
    deviation: float  # of the noise in each bin of the sum
    ledger_heads: Mapping[str, LedgerHead]  # of those accepted
    settings: str  # digest of the run's
    model_sha256: str
    signature: str = ""  # Ed25519, hex, over all of the above

    def signed(self, key: SigningKey) -> EvaluationRecord:
        """Return the record with its signature."""
        return replace(self, signature=key.sign("evaluation-record", self._message()).hex())

    def verify(self, key: VerifyKey) -> None:
        """Do nothing if this key signed the record.

        Raises:
            SignatureError: another did, or it was altered since.
        """
        try:
            key.verify("evaluation-record", self._message(), bytes.fromhex(self.signature))
        except (SignatureError, ValueError):
            raise SignatureError(
                f"expected figures that key {key.fingerprint} signed, got others"
            ) from None

    def _message(self) -> bytes:
        body = typed_json.to_json(replace(self, signature=""))
        del body["signature"]
        return canonical(body).encode()


def ask_for_figures(
    members: Evaluators, names: Sequence[str], state: ServerState, config: RunConfig, folder: Path
) -> None:
    """Ask everybody once and write down the sum; nobody is asked where that was done before.

    Raises:
        FederationError: too few answered, and not because their policies refuse.
        ArtifactError: what was written down is damaged.
        ConfigError, KeyFileError: the record cannot be signed.
    """
    private = config.privacy
    if private.unit == "none" or not private.releases_figures:
        return
    if load_evaluation(folder) is not None:
        return
    model = tensors.to_bytes(state.model)
    answers = members.evaluate(
        names,
        EvaluateRequest(
            round=state.round, config=config, model=model, participants=tuple(sorted(names))
        ),
    )
    shown = newest_shown(load_all_records(folder))
    scores: dict[str, ScoreHistograms] = {}
    ledger_heads: dict[str, LedgerHead] = {}
    left_out: dict[str, str] = {}
    refused = 0
    for name, answer in sorted(answers.items()):
        try:
            histograms, entry = _checked(name, answer, state.round)
            verify_grown(shown.get(name), entry, update_of=None)
            scores[name], ledger_heads[name] = histograms, entry
        except VeilfaceError as error:
            left_out[name] = str(error)
            refused += isinstance(error, BudgetExceeded)
    if refused < len(answers):
        _verify_enough(len(scores), left_out, config)
    record = EvaluationRecord(
        round=state.round,
        accepted=tuple(sorted(scores)),
        left_out=left_out,
        scores=summed(scores) if scores else None,
        deviation=deviation_of(private.unit, private.evaluation_noise, len(scores)),
        ledger_heads=ledger_heads,
        settings=config.digest,
        model_sha256=hashlib.sha256(model).hexdigest(),
    ).signed(server_key(folder))
    line = json.dumps(typed_json.to_json(record)) + "\n"
    write_atomically(folder / EVALUATION, line.encode())


def load_evaluation(folder: Path) -> EvaluationRecord | None:
    """Return what was written down; None where nobody was asked.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = folder / EVALUATION
    if not path.exists():
        return None
    try:
        return typed_json.from_json(EvaluationRecord, json.loads(path.read_bytes()), str(path))
    except ValueError as error:
        raise ArtifactError(f"expected an evaluation in {path}, got a damaged file") from error


def _checked(
    name: str, answer: EvaluateReply | VeilfaceError, round_number: int
) -> tuple[ScoreHistograms, LedgerHead]:
    if isinstance(answer, VeilfaceError):
        raise answer
    if (answer.organisation, answer.round) != (name, round_number):
        raise FederationError(
            f"expected figures of {name!r} after round {round_number}, "
            f"got some of {answer.organisation!r} after round {answer.round}"
        )
    if answer.refusal:
        raise (RequestRefused if answer.by_rules else BudgetExceeded)(answer.refusal)
    if answer.ledger_head is None:
        raise FederationError("expected figures that were charged to a ledger, got some without")
    if answer.scores is None:
        raise FederationError("expected histograms of scores, got none")
    return answer.scores, answer.ledger_head


def _verify_enough(count: int, left_out: Mapping[str, str], config: RunConfig) -> None:
    least = config.federation.min_replies
    if count >= least:
        return
    reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
    raise FederationError(
        f"evaluation: expected figures of at least {least} organisations, got {count} ({reasons})",
        hint="the final model is kept; mend the cause and resume",
    )
