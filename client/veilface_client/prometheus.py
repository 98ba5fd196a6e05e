"""An organisation's figures for Prometheus: of its budget, its keeper, its recognition.

Nobody's name, and no number from which it could be told how many people or photographs there are:
what an organisation declares stands in its ledger and nowhere here, and the size of the vault is
told as a power of two. docs/watching.md has the list, and who may read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from veilface_client.overview import AccountOverview, account_overview

ASKED = ("verified", "identified")  # kinds of the access log: how often, not of whom
_LEAST_BYTES = 1 << 20  # of a vault's size that is told


class KeeperFigures:
    """What a keeper has done since it was started, and its budget."""

    def __init__(self, folder: Path) -> None:
        """Count from 0; `folder` is that of the account."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "veilface_requests",
            "Requests of a coordinator since the keeper was started",
            ["kind", "outcome"],
            registry=self._registry,
        )
        self._seconds = Counter(
            "veilface_request_seconds",
            "Seconds that they took",
            ["kind"],
            registry=self._registry,
        )
        self._newest = Gauge(
            "veilface_last_request_timestamp_seconds",
            "Time of the newest request",
            registry=self._registry,
        )
        self._registry.register(_Account(folder))

    def count(self, kind: str, outcome: str, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(kind=kind, outcome=outcome).inc()
        self._seconds.labels(kind=kind).inc(seconds)
        self._newest.set_to_current_time()

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format.

        Raises:
            LedgerError, KeyFileError: the ledger cannot be read.
        """
        return generate_latest(self._registry)


def service_text(folder: Path, counts: Mapping[str, Mapping[str, int]], vault_bytes: int) -> bytes:
    """Return what the service tells in Prometheus' text format.

    Args:
        folder: of the account.
        counts: {kind of entry of the access log: {outcome: how many}}.
        vault_bytes: size of the vault's file.

    Raises:
        LedgerError, KeyFileError: the ledger cannot be read.
    """
    registry = CollectorRegistry()
    registry.register(_Account(folder))
    registry.register(_Service(counts, vault_bytes))
    return generate_latest(registry)


def size_told(size: int) -> int:
    """Return the size of a file as it is told: the next power of two, 1 MiB at least.

    A person takes a few thousand bytes of a vault: the exact size would count them.
    """
    return 1 << (max(size, _LEAST_BYTES) - 1).bit_length()


class _Account(Collector):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Yield what the ledger says, where there is one."""
        account = account_overview(self._folder)
        if account is not None:
            yield from _account(account)


class _Service(Collector):
    def __init__(self, counts: Mapping[str, Mapping[str, int]], vault_bytes: int) -> None:
        self._counts = counts
        self._vault_bytes = vault_bytes

    def collect(self) -> Iterator[Metric]:
        """Yield how often what was asked."""
        asked = CounterMetricFamily(
            "veilface_recognitions",
            "Photographs that were compared, by what was asked and answered",
            labels=["asked", "outcome"],
        )
        for kind in ASKED:
            for outcome, count in sorted(self._counts.get(kind, {}).items()):
                asked.add_metric([kind, outcome], count)
        yield asked
        refused = sum(self._counts.get("refused", {}).values())
        yield CounterMetricFamily(
            "veilface_denials", "Acts that a role, token or limit did not allow", value=refused
        )
        size = size_told(self._vault_bytes)
        yield _gauge("vault_bytes_at_most", "Size of the vault, the next power of two", size)


def _account(account: AccountOverview) -> Iterator[Metric]:
    spent = float("inf") if account.epsilon_spent is None else account.epsilon_spent
    yield _gauge("epsilon_spent", "Epsilon of all charges of the ledger", spent)
    yield _gauge("epsilon_allowed", "Epsilon of the policy", account.epsilon_allowed)
    yield _gauge("open_reservations", "Charges of which nobody said what came of them",
                 account.open_reservations)  # fmt: skip
    yield CounterMetricFamily(
        "veilface_rounds_sent", "Rounds whose update was sent", value=account.rounds
    )
    yield CounterMetricFamily(
        "veilface_ledger_refusals", "Refusals in the ledger", value=account.refusals
    )


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"veilface_{name}", words, value=value)
