"""From a run that has ended to a release: the model, and a manifest that the coordinator signs.

HOME/releases/0001/model.safetensors, manifest.json (`veilface_common.release`)

All that the manifest says of organisations is computed from the signed round records: whose updates
were accepted, at which plan, and paid for by which entry of whose ledger. A round that a crash
repeated and that was answered twice, from two entries, is counted twice: both updates were seen.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

from veilface_common import release, tensors
from veilface_common.artifact import MANIFEST, WEIGHTS, save_model
from veilface_common.budget.accountant import epsilon
from veilface_common.budget.events import Mechanism
from veilface_common.config import PrivacyConfig, PrivacyUnit, RunConfig, Scalar, from_flat
from veilface_common.crypto.signing import SigningKey, VerifyKey
from veilface_common.errors import ArtifactError, ConfigError, FederationError
from veilface_common.files import PUBLIC, sync_folder, write_atomically
from veilface_common.preprocessing import preprocessing_of
from veilface_common.protocol import LedgerHead
from veilface_common.release import Contribution, Evaluation, Release, Steps
from veilface_common.robustness_table import RobustnessTable
from veilface_common.score_histograms import estimate
from veilface_server.checkpoint import (
    RoundRecord,
    load_all_records,
    load_records,
    load_state,
    server_key,
)
from veilface_server.evaluation import EvaluationRecord, load_evaluation

RELEASES = "releases"
MAX_LICENCE = 200
_SOFTWARE = ("veilface", "flwr", "torch", "numpy", "safetensors", "opacus", "dp-accounting")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run whose last round is over: its settings, and what is told of it."""

    folder: Path
    config: RunConfig
    federation: str
    delta: float  # at which epsilon is told
    licence: str
    robustness: RobustnessTable | None = None  # of its model, where it was measured

    def __post_init__(self) -> None:
        if not (0 < len(self.licence) <= MAX_LICENCE and self.licence.isprintable()):
            raise ConfigError(f"expected a licence in one line of at most {MAX_LICENCE} characters")


@dataclass(kw_only=True)
class _Paid:
    """What an organisation's accepted updates and figures came to, so far."""

    rounds: set[int] = field(default_factory=set)
    entries: set[tuple[int, str]] = field(default_factory=set)
    newest: LedgerHead | None = None
    steps: dict[Mechanism, int] = field(default_factory=dict)
    figures: bool = False

    def charge(self, entry: LedgerHead | None, plan: Steps | None) -> None:
        """Count a plan, once for each entry of the ledger."""
        if entry is None or plan is None or (entry.sequence, entry.hash) in self.entries:
            return
        self.entries.add((entry.sequence, entry.hash))
        if self.newest is None or entry.sequence > self.newest.sequence:
            self.newest = entry
        mechanism = Mechanism(sample_rate=plan.sample_rate, noise_multiplier=plan.noise_multiplier)
        self.steps[mechanism] = self.steps.get(mechanism, 0) + plan.steps


def release_run(home: Path, run: Ended, made: str) -> Path:
    """Write the next release and return its folder; a crash leaves a whole one or none.

    Args:
        home: the coordinator's.
        run: whose last model it is.
        made: the time, ISO 8601 in UTC.

    Raises:
        FederationError: the run has not reached its last round.
        ArtifactError: its records or its model are not what was signed, or the robustness is that
            of another model.
        ConfigError: the run has other settings.
    """
    folder = home / RELEASES
    folder.mkdir(parents=True, exist_ok=True)
    sequence = newest_sequence(home) + 1
    found, weights = release_of(run, server_key(run.folder), sequence, made)
    target = folder / name_of(sequence)
    draft = folder / f".{target.name}.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    write_atomically(draft / WEIGHTS, weights, mode=PUBLIC)
    write_atomically(draft / MANIFEST, release.to_bytes(found), mode=PUBLIC)
    try:
        draft.rename(target)
    except OSError:
        raise ArtifactError(
            f"expected no release {target.name} yet, got one", hint="another was made meanwhile"
        ) from None
    sync_folder(folder)
    return target


def newest_sequence(home: Path) -> int:
    """Return the number of the newest release; 0 before the first."""
    folders = (home / RELEASES).glob("[0-9]*")
    return max((int(path.name) for path in folders if path.name.isdecimal()), default=0)


def name_of(sequence: int) -> str:
    """Return the name of a release's folder."""
    return f"{sequence:04d}"


def release_of(run: Ended, key: SigningKey, sequence: int, made: str) -> tuple[Release, bytes]:
    """Return the signed manifest of a run's last model, and its weights.

    Raises:
        FederationError, ArtifactError, ConfigError: as `release_run` does.
    """
    config = run.config
    weights = tensors.to_bytes(_last_model(run))
    digest = hashlib.sha256(weights).hexdigest()
    records = _verified_records(run, key.public, digest)
    figures = _verified_figures(run, key.public, digest)
    found = Release(
        federation=run.federation,
        sequence=sequence,
        made=made,
        network=config.model,
        preprocessing=preprocessing_of(config.model),
        sha256=digest,
        size=len(weights),
        rounds=config.federation.rounds,
        settings=config.digest,
        parent=config.initial or None,
        unit=config.privacy.unit,
        delta=run.delta,
        organisations=contributions(records, figures, config.privacy, run.delta),
        evaluation=_evaluation(figures),
        licence=run.licence,
        software=_software(),
        coordinator=key.public.fingerprint,
        robustness=run.robustness,
    )
    return found.signed(key), weights


def draft_of(run: Ended, folder: Path) -> str:
    """Write a run's last model unsigned, to be measured before it is released; return its digest.

    Raises:
        FederationError: the run has not reached its last round.
        ArtifactError: its model is not what was signed.
        ConfigError: the run has other settings, or there is something in the folder.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"expected no folder {folder} yet, or an empty one")
    model = _last_model(run)
    digest = hashlib.sha256(tensors.to_bytes(model)).hexdigest()
    _verified_records(run, server_key(run.folder).public, digest)
    save_model(folder, run.config.model, model, {"draft": f"a run of {run.federation}"})
    return digest


def _last_model(run: Ended) -> tensors.Tensors:
    state, rounds = load_state(run.folder, run.config), run.config.federation.rounds
    if state is None or state.round < rounds:
        done = 0 if state is None else state.round
        raise FederationError(
            f"expected a run that has ended, got one after round {done} of {rounds}",
            hint="veilface-server status; train --resume RUN goes on with one that was stopped",
        )
    return state.model


def contributions(
    records: Sequence[RoundRecord],
    figures: EvaluationRecord | None,
    private: PrivacyConfig,
    delta: float,
) -> tuple[Contribution, ...]:
    """Return what each organisation gave, by name, and the epsilon of it at `delta`.

    Args:
        records: all that were written, those of repeated rounds too.
        figures: of the final model, if anybody was asked.
        private: the run's own settings.
        delta: at which epsilon is told.
    """
    paid: dict[str, _Paid] = {}
    for record in records:
        plan = _plan_of(record.plan)
        for name in record.accepted:
            one = paid.setdefault(name, _Paid())
            one.rounds.add(record.round)
            one.charge(_entry(record.ledger_heads.get(name)), plan)
    for name in figures.accepted if figures else ():
        one = paid.setdefault(name, _Paid())
        one.figures = True
        step = Steps(sample_rate=1.0, noise_multiplier=private.evaluation_noise, steps=1)
        one.charge(figures.ledger_heads[name] if figures else None, step)
    return tuple(_contribution(name, paid[name], private.unit, delta) for name in sorted(paid))


def _contribution(name: str, paid: _Paid, unit: PrivacyUnit, delta: float) -> Contribution:
    charged = epsilon(paid.steps, delta).charged if unit != "none" else math.inf
    return Contribution(
        name=name,
        rounds=len(paid.rounds),
        figures=paid.figures,
        ledger=paid.newest,
        charges=tuple(
            Steps(
                sample_rate=mechanism.sample_rate,
                noise_multiplier=mechanism.noise_multiplier,
                steps=count,
            )
            for mechanism, count in sorted(paid.steps.items())
        ),
        epsilon=charged if math.isfinite(charged) else None,
    )


def _plan_of(plan: Mapping[str, Scalar]) -> Steps | None:
    """Return what a round's plan costs; None where it asked for no privacy."""
    private = from_flat(PrivacyConfig, plan)
    if private.unit == "none":
        return None
    return Steps(
        sample_rate=private.sample_rate,
        noise_multiplier=private.noise_multiplier,
        steps=private.steps,
    )


def _entry(told: Mapping[str, int | str] | None) -> LedgerHead | None:
    if told is None:
        return None
    return LedgerHead(sequence=int(told["sequence"]), hash=str(told["hash"]))


def _verified_records(run: Ended, key: VerifyKey, digest: str) -> tuple[RoundRecord, ...]:
    """Return all records, each signed by this coordinator, the last one of this very model."""
    records = load_all_records(run.folder)
    for record in records:
        record.verify(key)
    rounds = load_records(run.folder)
    numbers = [record.round for record in rounds]
    if numbers != list(range(1, run.config.federation.rounds + 1)):
        raise ArtifactError(
            f"expected a signed record of each of {run.config.federation.rounds} rounds, "
            f"got {len(numbers)}"
        )
    if any(record.settings != run.config.digest for record in rounds):
        raise ArtifactError("expected records of this run, got some of another")
    if rounds[-1].model_sha256 != digest:
        raise ArtifactError("expected the model of the last round's record, got another")
    return records


def _verified_figures(run: Ended, key: VerifyKey, digest: str) -> EvaluationRecord | None:
    figures = load_evaluation(run.folder)
    if figures is None:
        return None
    figures.verify(key)
    if (figures.settings, figures.model_sha256) != (run.config.digest, digest):
        raise ArtifactError("expected figures of this run's model, got some of another")
    return figures


def _evaluation(figures: EvaluationRecord | None) -> Evaluation | None:
    if figures is None or figures.scores is None:
        return None
    told = estimate(figures.scores, figures.deviation, len(figures.accepted))
    if told is None:
        return None
    return Evaluation(
        eer=told.eer,
        low=told.low,
        high=told.high,
        tar_at_far_1e_2=told.tar_at_far_1e_2,
        tar_low=told.tar_low,
        tar_high=told.tar_high,
        organisations=told.organisations,
    )


def _software() -> dict[str, str]:
    found = {"python": python_version()}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
