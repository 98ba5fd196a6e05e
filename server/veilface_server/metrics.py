"""The coordinator's figures for Prometheus, made anew from its folder each time they are asked for.

Of the newest run: what its signed records say, those that are not believed counted and left out.
Organisations stand by name: they are no secret to their coordinator. docs/watching.md has the list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import chain

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from veilface_common.crypto.signing import load_verify_key
from veilface_common.events_log import newest_errors
from veilface_server.costs import epsilon_by_round
from veilface_server.home import Home
from veilface_server.journal import LOG
from veilface_server.proven import Proven, read_proven
from veilface_server.register import load_members
from veilface_server.runs import Run, folder_of, load_outcome, load_runs

_DELTA = 1e-5  # of a run that named none


def metrics_text(home: Home) -> bytes:
    """Return all figures in Prometheus' text format.

    Raises:
        ArtifactError, ConfigError, KeyFileError: the folder is damaged.
    """
    registry = CollectorRegistry()
    registry.register(_Figures(home))
    return generate_latest(registry)


def planned_delta(run: Run) -> float:
    """Return the delta at which epsilon is told of a run."""
    return run.delta or _DELTA


class _Figures(Collector):
    def __init__(self, home: Home) -> None:
        self._home = home

    def collect(self) -> Iterator[Metric]:
        """Yield every figure."""
        yield from _federation(self._home)
        known = load_runs(self._home)
        if known:
            run = known[-1]
            key = load_verify_key(self._home.server_key.with_suffix(".pub"))
            proven = read_proven(folder_of(self._home, run.id), key, run.config.digest)
            yield from _run(self._home, run, proven)
            yield from _rounds(proven)
            yield from _organisations(proven)
            yield from _costs(run, proven)


def _federation(home: Home) -> Iterator[Metric]:
    counts = Counter(member.status for member in load_members(home.folder).values())
    members = _gauge("members", "Organisations by how they stand", ["status"])
    for status in ("invited", "waiting", "member", "removed"):
        members.add_metric([status], counts[status])
    yield members
    numbers = [int(path.name) for path in home.releases.glob("[0-9]*") if path.name.isdecimal()]
    yield _single("release_sequence", "Number of the newest release; 0: none", max([0, *numbers]))
    errors = newest_errors(home.folder / LOG, most=1)
    at = datetime.fromisoformat(str(errors[0]["time"])).timestamp() if errors else 0.0
    yield _single("last_error_timestamp_seconds", "Time of the newest error in the log", at)


def _run(home: Home, run: Run, proven: Proven) -> Iterator[Metric]:
    info = InfoMetricFamily("veilface_run", "The newest run")
    info.add_metric([], {"run": run.id, "state": run.state})
    yield info
    yield _single("run_rounds_planned", "Rounds of the run", run.config.federation.rounds)
    outcome = load_outcome(folder_of(home, run.id))
    waiting = _gauge("organisation_waited_for", "1: the run waits for it", ["organisation"])
    if run.state == "running" and outcome is not None and outcome.state == "waiting":
        for name in outcome.waiting_for:
            waiting.add_metric([name], 1)
    yield waiting
    rejected = len(proven.rejected)
    yield _single("records_not_believed", "Records whose signature or run is wrong", rejected)


def _rounds(proven: Proven) -> Iterator[Metric]:
    seconds = SummaryMetricFamily(
        "veilface_round_seconds",
        "Seconds per finished round",
        count_value=len(proven.finished),
        sum_value=sum(record.seconds for record in proven.finished),
    )
    yield seconds
    if proven.finished:
        newest = proven.finished[-1]
        yield _single("rounds_finished", "The newest finished round", newest.round)
        yield _single("last_round_seconds", "Seconds of the newest round", newest.seconds)


def _organisations(proven: Proven) -> Iterator[Metric]:
    if not proven.finished:
        return
    newest = proven.finished[-1]
    took = Counter(chain.from_iterable(record.accepted for record in proven.finished))
    out = Counter(chain.from_iterable(record.left_out for record in proven.finished))
    present = _gauge("organisation_in_last_round", "1: took part in it", ["organisation"])
    rounds = _gauge(
        "organisation_rounds", "Rounds by what came of them", ["organisation", "outcome"]
    )
    norms = _gauge("organisation_update_norm", "L2 norm of its newest update", ["organisation"])
    for name in proven.organisations:
        present.add_metric([name], name in newest.accepted)
        rounds.add_metric([name, "accepted"], took[name])
        rounds.add_metric([name, "left_out"], out[name])
        found = [r.update_norms[name] for r in proven.finished if name in r.update_norms]
        if found:
            norms.add_metric([name], found[-1])
    yield from (present, rounds, norms)


def _costs(run: Run, proven: Proven) -> Iterator[Metric]:
    spent = _gauge(
        "organisation_epsilon", "Epsilon of the plans it took part in, this run", ["organisation"]
    )
    for name, by_round in epsilon_by_round(proven, planned_delta(run), points=1).items():
        spent.add_metric([name], by_round[max(by_round)])
    yield spent
    if run.epsilon:
        yield _single("run_epsilon_planned", "Epsilon of the whole run's plan", run.epsilon)


def _gauge(name: str, words: str, by: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"veilface_{name}", words, None, by)


def _single(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"veilface_{name}", words, value=value)
